"""Claims of speed and quality: one script and one page of numbers each. Nothing imports this package."""
