"""Trainings that go on from networks of other runs, trained or imported, instead of random weights."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from cytoforge.cells.instances import CONDITIONS
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.load import load_network, over_channels
from cytoforge.networks.registry import NETWORKS, ROLES
from cytoforge.places import BASE, run_folder
from cytoforge.training.hyperparameters import SEGMENTATION, written
from cytoforge.training.recipes.networks import Described
from cytoforge.training.specification import Data, resizing

METHODS = {"movie": "--method tgan", "vid2vid": "--method vid2vid", "unet-generator": "--network unet"}
CAUSES = ("condition", "residual")  # what a network is given has other channels where one of these differs


@dataclass(frozen=True)
class Wanted:
    """A network of a training that may begin with the weights of another run's."""

    role: str
    """its name in that run"""
    described: Described
    network: nn.Module
    settings: Mapping[str, Any] = field(default_factory=dict)
    """what else must be as in that run, such as target or condition, as config.json names it"""

    @property
    def channels(self) -> int:
        """Channels of the images that it takes."""
        return int(self.described.get("in_channels", 1))

    @property
    def name(self) -> str:
        """Its name in messages."""
        return {"flow": "flow network"}.get(self.role, ROLES.get(self.role, self.role))


def load_start(runs: Sequence[Path], wanted: Sequence[Wanted]) -> dict[str, str] | None:
    """Give networks the weights of those of the runs to start from; return the fingerprints of these by role.

    None without any run. Raises UserError when a run holds none of the networks, one of another kind, or one that
    another of the runs holds, too.
    """
    taken: dict[str, Path] = {}
    found: dict[str, str] = {}
    for path in runs:
        run = Run.open(path)
        held = [each for each in wanted if each.role in run.settings.networks]
        if not held:
            names = " or ".join(each.name for each in wanted)
            raise UserError(f"{path}: --start needs a {names}, and this run has none; name a run that holds one")
        for each in held:
            if each.role in taken:
                raise UserError(f"{path}: holds a {each.name}, as {taken[each.role]} does; give only one of them")
            if different := unlike(run, each):
                raise UserError(f"{path}: --start needs a {each.name} of the same kind; {'; '.join(different)}")
            network = load_network(run, each.role)
            if each.channels != (run.settings.networks[each.role].in_channels or each.channels):
                network = over_channels(network, each.channels)
            each.network.load_state_dict(network.state_dict())
            taken[each.role] = path
            found[each.role] = run.fingerprint(each.role, (*each.settings, "scale", "resize", "normalisation"))
    return found or None


def called(path: Path) -> str:
    """Return what messages call a run to start from."""
    return "the base model" if run_folder(path) == BASE else f"the run in the folder {path}"


def base_if_fitting(wanted: Wanted) -> tuple[tuple[Path, ...], str]:
    """Return the base model as the run to start from if its network is of the kind wanted, and a note on that."""
    base = Path("base")
    run, whose = Run.open(base), called(base)
    if wanted.role not in run.settings.networks:
        return (), f"starts from random weights, as {whose} holds no {wanted.name}"
    if different := unlike(run, wanted):
        return (), f"starts from random weights, as {whose} is another ({'; '.join(different)})"
    return (base,), f"starts from {whose}"


def unlike(run: Run, wanted: Wanted) -> list[str]:
    """Name the settings in which a run's network differs; a segmenter of grey images suits images of any channels.

    The run holds a network of that role.
    """
    there = run.settings.networks[wanted.role].model_dump(exclude_unset=True)
    there |= {name: getattr(run.settings, name) for name in wanted.settings}
    if wanted.role == "segmenter" and there.get("in_channels") == 1:
        there["in_channels"] = wanted.channels
    return start_differences(there, wanted.described | dict(wanted.settings))


def start_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Name the settings in which two networks differ, each with the flag that makes `here` like `there`."""
    preset = next((name for name, preset in SEGMENTATION.items() if preset.width == there.get("width")), None)
    another = "no flag changes that, train another one to start from"
    there, here = _complete(there), _complete(here)
    setting = {name: f"use --set {name}={written(value)}" for name, value in there.items()}
    channels = "convert the images"
    if here["network"] == "movie":
        channels = f"use --window {there['in_channels'] // CONDITIONS[here['condition']]}"
    if here["network"] == "style-unet":
        setting["residual"] = f"use --background {'real' if there.get('residual') else 'painted'}"
    remedies = {
        "network": f"use {METHODS.get(there['network'], '--network ' + there['network'])}",
        "target": f"use --target {there.get('target')}",
        "condition": f"use --condition {there.get('condition')}",
        "lag": f"use --lag {there.get('lag')}",
        "width": f"use --preset {preset}" if preset else "no preset has that, train another one to start from",
        "norm": f"use --norm {there.get('norm')}",
        "factor": f"use --factor {there.get('factor')}",
        **{name: setting.get(name, another) for name in ("mask_value", "upsampling", "residual", "half_resolution")},
        **{name: setting.get(name, another) for name in ("heads", "head_width", "dropout")},
        "in_channels": channels,
    }
    wrong = [name for name in remedies if name in here and there.get(name) != here[name]]
    if "network" in wrong:
        wrong = ["network"]  # other networks have other options
    if any(cause in wrong for cause in CAUSES):
        wrong = [name for name in wrong if name != "in_channels"]
    if not wrong:  # number of classes and depth follow from target, network and preset
        remedies = dict.fromkeys(here, another)
        wrong = [name for name in here if there.get(name) != here[name]]
    words = {"in_channels": "channels of images" if here["network"] != "movie" else "channels of masks"}
    return [f"{words.get(name, name)} {there.get(name)} there, {here[name]} here: {remedies[name]}" for name in wrong]


def _complete(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a network with the defaults of the options that are not stored."""
    options = inspect.signature(NETWORKS[described["network"]].load()).parameters.values()
    return {option.name: option.default for option in options} | dict(described)


def rescaled(runs: Sequence[Path], data: Data) -> list[str]:
    """Return a note for each run whose networks were trained at another size in pixels than that of this training.

    There is none for the base model, to which cells of any size were brought.
    """
    notes = []
    for path in runs:
        settings = Run.open(path).settings
        former = settings.scaling
        if settings.diameter is None and former != data.scaling:
            there, here = map(resizing, (former, data.scaling))
            notes.append(
                f"{path}: was trained at {there}, and goes on at {here}: cells had another size in pixels there"
            )
    return notes
