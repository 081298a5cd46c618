"""The table of networks: what it names exists, is offered by the commands, and is read off published checkpoints."""

from typing import get_args

import pytest
import torch

from cytoforge.networks.registry import IMPORTED, NETWORKS, PUBLISHED, ROLES, SEGMENTERS
from cytoforge.settings import ImportCheckpoint, TrainGenerator, TrainSegmentation


def offered(config: type, field: str) -> set[str]:
    return set(get_args(config.__annotations__[field]))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_can_be_built_and_serves_a_known_role(name: str) -> None:
    kind = NETWORKS[name]
    with torch.device("meta"):
        assert sum(1 for _ in kind.load()().parameters()) > 0
    assert kind.role in {*ROLES, "discriminator", "flow"}


def test_no_two_kinds_are_one_class() -> None:
    assert len({kind.load() for kind in NETWORKS.values()}) == len(NETWORKS)


def test_commands_offer_what_there_is() -> None:
    assert offered(TrainSegmentation, "network") == set(SEGMENTERS) == {"unet", "cellpose", "deepsea"}
    assert offered(ImportCheckpoint, "network") == set(IMPORTED)
    generators = {name for name, kind in NETWORKS.items() if kind.role == "generator"}
    assert {name if name in generators else f"{name}-generator" for name in offered(TrainGenerator, "network")} == (
        generators
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_network_that_a_checkpoint_is_of(name: str) -> None:
    """Published defaults but for a width and depth of their own; `tests/test_import.py` looks at the other options."""
    options = {"width": 8} if name in ("patchgan", "flow", "tracker") else {"width": 8, "depth": 2}
    with torch.device("meta"):
        network = NETWORKS[name].load()(**options)
        again = NETWORKS[name].load()(**PUBLISHED[name](network.state_dict()))
    shapes, found = ({key: t.shape for key, t in one.state_dict().items()} for one in (network, again))
    assert found == shapes
    assert PUBLISHED[name](network.state_dict()).items() >= options.items()


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_of_something_else_name_what_is_missing_or_wrong(name: str) -> None:
    with pytest.raises(KeyError, match=r"weight|bias"):
        PUBLISHED[name]({"other": torch.zeros(1)})
    with torch.device("meta"):
        state = NETWORKS[name].load()(width=8).state_dict()
    first = next(key for key, tensor in state.items() if tensor.ndim == 4 and _is_first(name, key))
    with pytest.raises(ValueError, match=r"has shape \[3\], not that of a convolution"):
        PUBLISHED[name]({**state, first: torch.zeros(3)})


def _is_first(name: str, key: str) -> bool:
    """Whether a tensor is the first convolution, whose shape tells channels and width."""
    starts = {
        "cellpose": "downsample.down.res_down_0.conv.conv_0.2.",
        "deepsea": "res1.double_conv.0.",
        "patchgan": "model.0.",
        "flow": "conv1.",
        "tracker": "previous.double_conv.0.",
    }
    return key.startswith(starts.get(name, "e1.conv.conv1."))
