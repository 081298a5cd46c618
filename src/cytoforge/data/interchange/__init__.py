"""Formats of other programs, a file each."""
