"""Phantom cells to try the plugin on, without any data."""

import numpy as np

from cytoforge.api import simulate_movie
from cytoforge.napari.layers import LayerData, tracks_layer
from cytoforge.simulation.phantom import Microscope, phantom, phantom_image

IMAGES, ANNOTATED, SIDE, CELLS = 8, 4, 224, 45
FRAMES, DENSITY, DIAMETER = 24, 0.18, 20.0


def dataset() -> list[LayerData]:
    """Return images (P, H, W) of phantom cells, and labels that only the first half of them has."""
    images, masks = zip(*(phantom(seed, (SIDE, SIDE), CELLS) for seed in range(IMAGES)), strict=True)
    labels = np.stack(masks)
    labels[ANNOTATED:] = 0
    return [
        (np.stack(images), {"name": "phantom cells"}, "image"),
        (labels, {"name": f"first {ANNOTATED} annotated"}, "labels"),
    ]


def movie() -> list[LayerData]:
    """Return frames (T, H, W) of phantom cells that move, grow and divide, their labels and their tracks."""
    lineage = simulate_movie(frames=FRAMES, size=(SIDE, SIDE), density=DENSITY, diameter=DIAMETER, seed=3)
    microscope = Microscope(dirt=0.3)
    frames = [phantom_image(labels, np.random.default_rng([3, 1]), microscope) for labels in lineage.labels]
    data, graph = tracks_layer(enumerate(lineage.labels), lineage.tracks)
    return [
        (np.stack(frames), {"name": "phantom movie"}, "image"),
        (lineage.labels, {"name": "phantom movie cells"}, "labels"),
        (data, {"name": "phantom movie tracks", "graph": graph}, "tracks"),
    ]
