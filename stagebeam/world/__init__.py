"""The embedded world: small drawn scenes, questions about them, and the truth.

It stands in for real data sets so that the whole system runs without a download. The truth
travels in the PNG's metadata, which only the stand-in teacher reads (``world.teacher``).
"""
