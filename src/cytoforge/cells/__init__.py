"""Cells in arrays: labels to network targets and back, windows, backgrounds, augmentation."""
