"""The networks of a run folder, built from its config.json and ready to use."""

import copy
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.data.judgement import Judgement
from cytoforge.data.run import BACKGROUNDS, TEXTURES, Run
from cytoforge.engine import Seat
from cytoforge.errors import UserError, explain
from cytoforge.networks.registry import NETWORKS, ROLES
from cytoforge.processors import usable_threads
from cytoforge.progress import counted, say
from cytoforge.simulation.texture import Textures


def load_network(run: Path | str | Run, name: str | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """Load a network of a run in eval mode; without a name the first of `registry.ROLES` that the run holds.

    A segmenter takes images float32 (B, C, H, W) in [-1, 1] and returns logits (B, classes, H, W); a generator takes
    (condition (B, C, H, W) in [0, 1], styles (B, L, 128), noise (B, 1, H, W)) and returns images (B, C, H, W). In runs
    of movies `low-resolution` takes (masks, previous, background, styles, noise), see `networks.movie.MovieGenerator`,
    or of vid2vid (masks, past), see `networks.vid2vid.Vid2Vid`, and `super-resolution` (image, styles, noise); a
    `tracker` takes two crops, see `networks.tracker.Tracker`.
    Raises UserError when the run does not hold the network, or config.json and weights do not belong together.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    stored = run.settings.networks
    config_path = run.path / "config.json"
    if name is None:
        name = next((role for role in ROLES if role in stored), None)
        if name is None:
            raise UserError(
                f"{config_path}: holds neither segmenter nor generator, only {_list(stored)}; name one of them"
            )
    name = name if name in stored else name.replace("_", "-")  # as Python writes names
    described = run.network(name)
    weights = {key: t.float() if t.dtype == torch.float16 else t for key, t in run.load_weights(name).items()}
    build = NETWORKS[described.network].load()
    try:
        with torch.device("meta"):  # impossible sizes in config.json cost neither time nor memory
            network: nn.Module = build(**described.options())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{config_path}: describes no valid {name} ({error}); restore the file or train again"
        ) from error
    expected = network.state_dict()
    if problem := misfit(expected, weights) or _mistyped(expected, weights):
        raise UserError(
            f"{run.path}: the weights of the {name} do not fit config.json ({problem}); restore or train again"
        )
    # copies lie where matrix products round alike everywhere; the file's own bytes lie at any place
    network.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return network.requires_grad_(False).eval().to(device)


def over_channels(network: nn.Module, channels: int) -> nn.Module:
    """Return a copy of a network of grey images that takes images of more channels: it sees the mean of these.

    Raises ValueError for a network that takes several channels itself.
    """
    copied = copy.deepcopy(network)
    first = next(module for module in copied.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != 1:
        raise ValueError(f"the network takes {first.in_channels} channels itself")
    weight = first.weight.detach().repeat(1, channels, 1, 1) / channels
    first.weight, first.in_channels = nn.Parameter(weight, first.weight.requires_grad), channels
    return copied


class InBfloat16(nn.Module):
    """A segmentation network whose products are of bfloat16: some 2.5 times as fast, logits differ by about 0.01."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.receptive_radius: int | None = network.receptive_radius
        self.stride: int = network.stride
        self.train(network.training)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits float32 (B, classes, H, W)."""
        with torch.autocast(image.device.type, torch.bfloat16):
            logits: Tensor = self.network(image)
        return logits.float()


def choose_precision(wanted: str, device: str) -> str:
    """Return "float32" or "bfloat16" for these or `auto`: bfloat16 where the processor has instructions for it.

    It follows from what the processor can do, never from a timing. Raises UserError for other names.
    """
    if wanted not in ("auto", "float32", "bfloat16"):
        raise UserError(f"precision={wanted!r}: takes auto, float32, bfloat16")
    if wanted != "auto":
        return wanted
    if device == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        asks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        able = device == "cpu" and any(ask() for ask in asks if ask is not None)
    return "bfloat16" if able else "float32"


def misfit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """Return the first thing in which a state dict differs in names or shapes from another; None if nothing."""
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not part of it"
        if expected[name].shape != state[name].shape:
            return f"{name} has shape {list(state[name].shape)}, not {list(expected[name].shape)}"
    return None


def _mistyped(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    for name, tensor in state.items():
        if tensor.dtype != expected[name].dtype:
            kinds = [str(kind).removeprefix("torch.") for kind in (tensor.dtype, expected[name].dtype)]
            return f"{name} holds {kinds[0]}, not {kinds[1]}"
    return None


def load_backgrounds(run: Run, channels: int) -> dict[str, NDArray[np.float32]]:
    """Load the backgrounds (C, h, w) in [-1, 1] that a generator of so many channels adds cells to, by name.

    Raises UserError when there are none, or they are no such images.
    """
    bank = run.load_weights(BACKGROUNDS)
    for name, image in bank.items():
        shape = tuple(image.shape)
        if image.dtype != torch.float32 or image.ndim != 3 or shape[0] != channels or not image.numel():
            wrong = f"{name} has shape {list(shape)} of {str(image.dtype).removeprefix('torch.')}"
            raise UserError(
                f"{run.path}: its backgrounds are no images of {counted(channels, 'channel')} ({wrong}); restore "
                f"weights/{BACKGROUNDS}.safetensors, or train again"
            )
    if not bank:
        raise UserError(f"{run.path}: its backgrounds are empty; restore weights/{BACKGROUNDS}.safetensors")
    return {name: image.numpy() for name, image in bank.items()}


def load_textures(run: Run, channels: int) -> Textures:
    """Load the textures of real cells that a movie generator of so many channels keeps; UserError if they are none."""
    stored = {name: tensor.numpy() for name, tensor in run.load_weights(TEXTURES).items()}
    try:
        return Textures.of(stored, channels)
    except ValueError as error:
        raise UserError(
            f"{run.path}: its textures do not serve ({error}); restore weights/{TEXTURES}.safetensors, or train again"
        ) from error


def open_network(path: Path, name: str, device: str = "auto", threads: int | None = None) -> tuple[Run, nn.Module]:
    """Return a run and one of its networks on a device, and set the number of threads.

    Prints a note if the training is not finished. Raises UserError as load_network, choose_device and use_threads do.
    """
    chosen = choose_device(device)
    use_threads(threads)
    run = Run.open(path)
    network = load_network(run, name, chosen)
    note = None
    if not (run.path / "provenance.json").exists():
        note = "has no provenance.json, so its weights are not compared with their checksum"
    elif not run.finished:
        note = "its training is not finished, what it has learned so far is used; the same command goes on with it"
    if note:
        say([f"{run.path}: {note}"])
    return run, network


class Loaded:
    """A model that was loaded from a run folder."""

    run: Path

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs, which may have no GPU, or another one."""
        return {name: _on_cpu(value) for name, value in vars(self).items()}

    def seated(self, seat: Seat) -> Self:
        """Return this model as it computes in a process: where it has come from another one, on a device there.

        Raises UserError as choose_device and use_threads.
        """
        if seat.away:
            use_threads(seat.threads)
            for value in vars(self).values():
                if isinstance(value, nn.Module):
                    value.to(choose_device(seat.device))
        return self

    def save(self, path: Path | str) -> Path:
        """Copy the run folder, so that it stays when this program ends.

        Raises UserError where `path` exists, lies in the run or cannot be written, and where the run is gone.
        """
        target = Path(path)
        try:
            if target.exists() or target.is_symlink():
                raise UserError(f"{target}: exists already; choose another folder")
            if self.run.resolve() in target.resolve().parents:
                raise UserError(f"{target}: lies in the run folder that is to be copied; choose another folder")
            if not self.run.is_dir():
                raise UserError(f"{self.run}: is gone, so it cannot be copied; save the model that was trained")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="cytoforge-", dir=target.parent) as name:
                partial = shutil.copytree(self.run, Path(name, "run"))  # a copy that was cut short is no run
                partial.rename(target)
        except OSError as error:
            raise UserError(explain(error)) from error
        return target

    @property
    def judgement(self) -> Judgement | None:
        """How good the training came out, with scores, reasons and remedies; None of the base model and imports.

        Raises UserError where provenance.json is damaged.
        """
        return Run(self.run).judgement

    def __repr__(self) -> str:
        judged = "" if self.judgement is None else f": {self.judgement.headline}"
        return f"<{type(self).__name__} of {self.run}{judged}>"


def choose_device(wanted: str) -> str:
    """Return "cuda", "mps" (an Apple processor's graphics unit) or "cpu" for one of these, or for `auto`.

    Raises UserError for other names, and for a device that is not there.
    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted not in ("auto", *usable):
        raise UserError(f"device={wanted!r}: takes auto, {', '.join(sorted(usable))}")
    if wanted != "auto" and not usable[wanted]:
        raise UserError(f"--device {wanted}: there is no usable GPU here; use --device cpu or leave it out")
    return wanted if wanted != "auto" else next(device for device, there in usable.items() if there)


def use_threads(threads: int | None) -> None:
    """Compute with so many threads of a CPU, by default `usable_threads()`; raises UserError for no such number."""
    if threads is not None and (not isinstance(threads, int | np.integer) or threads < 1):
        raise UserError(f"threads={threads!r}: takes a whole number of at least 1 or none")
    torch.set_num_threads(int(threads or usable_threads()))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, nn.Module) and any(tensor.device.type != "cpu" for tensor in value.state_dict().values()):
        return copy.deepcopy(value).cpu()
    return value


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
