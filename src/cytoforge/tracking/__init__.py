"""Cells linked from frame to frame: overlap, laptrack, btrack, DeepSea; pairs chosen one to one."""
