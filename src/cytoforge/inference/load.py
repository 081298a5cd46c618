"""The networks of a run folder, built from its config.json and ready to use."""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from cytoforge.config import GenerateImages, GenerateMovie, Segment
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.networks.registry import NETWORKS, ROLES
from cytoforge.progress import say


def load_network(run: Path | str | Run, name: str | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """Load a network of a run in eval mode; without a name the segmenter, or else the generator, of movies the first.

    A segmenter takes images float32 (B, C, H, W) in [-1, 1] and returns logits (B, classes, H, W); a generator takes
    (condition (B, C, H, W) in [0, 1], styles (B, L, 128), noise (B, 1, H, W)) and returns images (B, C, H, W). In runs
    of movies `low-resolution` takes (masks, previous, background, styles, noise), see `networks.movie.MovieGenerator`,
    or of vid2vid (masks, past), see `networks.vid2vid.Vid2Vid`, and `super-resolution` (image, styles, noise); a
    `tracker` takes two crops, see `networks.tracker.Tracker`.
    Raises UserError when the run does not hold the network, or config.json and weights do not belong together.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    stored = run.config.get("networks", {})
    config_path = run.path / "config.json"
    if name is None:
        name = next((role for role in ROLES if role in stored), None)
        if name is None:
            raise UserError(
                f"{config_path}: holds neither segmenter nor generator, only {_list(stored)}; name one of them"
            )
    name = name if name in stored else name.replace("_", "-")  # as Python writes names
    options = run.network(name)
    kind = options.pop("network", None)
    if kind not in NETWORKS:
        raise UserError(f"{config_path}: {name} is of the unknown kind {kind!r}; there are {_list(NETWORKS)}")
    try:
        network = NETWORKS[kind].load()(**options)
        network.load_state_dict(run.load_weights(name))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{config_path}: describes no valid {name} ({error}); restore the file or train again"
        ) from error
    except RuntimeError as error:
        raise UserError(
            f"{run.path}: the weights of the {name} do not fit config.json; restore or train again"
        ) from error
    return network.requires_grad_(False).eval().to(device)


def open_network(config: Segment | GenerateImages | GenerateMovie, name: str) -> tuple[Run, nn.Module]:
    """Return the run that a configuration names and a network of it, on its device; sets the number of threads.

    Says so if the training is not finished. Raises UserError as load_network and choose_device do.
    """
    device = choose_device(config.device)
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    run = Run.open(config.run)
    if not run.finished:
        note = "its training is not finished, what it has learned so far is used; the same command goes on with it"
        say([f"{run.path}: {note}"])
    return run, load_network(run, name, device)


def choose_device(wanted: str) -> str:
    """Return "cuda" or "cpu" for `auto`, `cpu` or `cuda`; raises UserError when a GPU is wanted and there is none."""
    usable = torch.cuda.is_available()
    if wanted == "cuda" and not usable:
        raise UserError("--device cuda: there is no usable GPU here; use --device cpu or leave it out")
    return "cuda" if usable and wanted != "cpu" else "cpu"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
