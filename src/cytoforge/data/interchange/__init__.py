"""Formats of other programs, one module for each."""
