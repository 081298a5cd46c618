"""Simulated cells: label images and the pictures that a microscope would take of them. Arrays in, arrays out."""
