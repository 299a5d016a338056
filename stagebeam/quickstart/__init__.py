"""The quickstart: the whole loop on the embedded default, step by step, resumable."""
