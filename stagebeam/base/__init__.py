"""The tiny base model: a Llama-3.2-Vision architecture of a few million parameters, and its recipe.

A stand-in that lets the whole system run on two CPU cores. It knows the embedded world's skills;
it knows neither the four stages nor the judge's role, which fine-tuning teaches.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped model folder, as ``AutoModelForImageTextToText.from_pretrained`` takes it."""
