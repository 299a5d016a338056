"""The method itself: four stages, search, selectors, traces and compute, in pure Python.

Standard library only; no input or output, no clock, no Ray, no model. Everything else in the
project imports from here and nothing here imports from the rest.
"""
