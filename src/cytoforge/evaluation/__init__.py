"""Comparison of folders: reading both sides, matching their files, and computing scores."""
