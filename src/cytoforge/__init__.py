"""From a few annotated microscopy images to a cell segmenter, by learning to synthesise annotated images."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytoforge.inference.generate import generate as generate
    from cytoforge.inference.load import load_network as load_network
    from cytoforge.inference.segment import segment as segment

_PUBLIC = {  # name: module, imported on first use, so that `import cytoforge` does not wait for torch
    "generate": "cytoforge.inference.generate",
    "load_network": "cytoforge.inference.load",
    "segment": "cytoforge.inference.segment",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
