"""Reward models: what gives a candidate a number from outside the model that wrote it."""
