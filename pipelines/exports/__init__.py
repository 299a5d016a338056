"""Accepted annotations in the forms that trainers read."""
