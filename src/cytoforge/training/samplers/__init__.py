"""Batches whose every item depends on its own seed only: windows, clips, moves, pairs."""
