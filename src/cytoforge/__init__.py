"""From a few annotated microscopy images to a cell segmenter, by learning to synthesise annotated images."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytoforge.api import Options as Options
    from cytoforge.api import score_segmentation as score_segmentation
    from cytoforge.api import simulate_masks as simulate_masks
    from cytoforge.api import simulate_movie as simulate_movie
    from cytoforge.api import train_image_generator as train_image_generator
    from cytoforge.api import train_movie_generator as train_movie_generator
    from cytoforge.api import train_segmenter as train_segmenter
    from cytoforge.api import train_tracker as train_tracker
    from cytoforge.data.images import read_image as read_image
    from cytoforge.data.images import read_labels as read_labels
    from cytoforge.errors import Interrupted as Interrupted
    from cytoforge.errors import UserError as UserError
    from cytoforge.evaluation.measurement import measure as measure
    from cytoforge.inference.image_generator import ImageGenerator as ImageGenerator
    from cytoforge.inference.load import load_network as load_network
    from cytoforge.inference.movie_generator import MovieGenerator as MovieGenerator
    from cytoforge.inference.segmenter import Segmenter as Segmenter
    from cytoforge.inference.tracker import Tracker as Tracker

if sys.platform == "darwin":  # torch reads it when it is imported: what an Apple GPU lacks, the CPU computes
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

_PUBLIC = {  # module: names, imported on first use, so that `import cytoforge` does not wait for torch
    "api": (
        "Options",
        "score_segmentation",
        "simulate_masks",
        "simulate_movie",
        "train_image_generator",
        "train_movie_generator",
        "train_segmenter",
        "train_tracker",
    ),
    "data.images": ("read_image", "read_labels"),
    "evaluation.measurement": ("measure",),
    "errors": ("Interrupted", "UserError"),
    "inference.image_generator": ("ImageGenerator",),
    "inference.load": ("load_network",),
    "inference.movie_generator": ("MovieGenerator",),
    "inference.segmenter": ("Segmenter",),
    "inference.tracker": ("Tracker",),
}
_WHERE = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cytoforge")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"cytoforge.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
