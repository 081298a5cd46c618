"""The plugin for napari: folders as layers and back, and panels that segment, train, simulate and track."""
