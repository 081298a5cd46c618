"""Linking of cells from frame to frame, by overlap, laptrack, btrack or DeepSea, and one-to-one assignment."""
