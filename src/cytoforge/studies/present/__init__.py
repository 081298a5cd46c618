"""Presentation of measurements as rows, pages and pictures. Nothing here trains or scores."""
