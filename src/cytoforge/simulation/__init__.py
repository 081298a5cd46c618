"""Simulate label images of cells and the microscope images of them. All functions take and return arrays."""
