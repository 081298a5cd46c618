"""The image generator of a run: masks in, images out."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.cells.instances import CONDITIONS, relabel
from cytoforge.data.files import digest, utf8
from cytoforge.data.images import Scaling, factor_of, label_array, resize_image, resize_labels, scaled_shape
from cytoforge.data.run import BACKGROUNDS
from cytoforge.errors import UserError
from cytoforge.inference.load import Loaded, load_backgrounds, open_network
from cytoforge.inference.painting import grey, paint
from cytoforge.inference.tiling import Floats
from cytoforge.networks import style_unet
from cytoforge.progress import counted


@dataclass(frozen=True, eq=False, repr=False)
class ImageGenerator(Loaded):
    """A trained image generator, its condition, and the scale at which it paints."""

    run: Path
    network: style_unet.ImageGenerator
    condition: str
    scaling: Scaling
    """how masks and images are resized for the network"""
    tile: int
    backgrounds: tuple[Floats, ...]
    """each (C, h, w) in [-1, 1]; only of a generator that adds cells to them"""
    fingerprint: str
    """SHA-256 over weights and settings: the same images come from the same fingerprint, masks and seed"""

    @classmethod
    def load(cls, run: Path | str, *, device: str = "auto", threads: int | None = None) -> Self:
        """Load the image generator of a run folder; raises UserError when run or device do not serve."""
        opened, network = open_network(Path(run), "generator", device, threads)
        stored = opened.settings
        condition, channels = stored.condition, stored.networks["generator"].in_channels or 1
        if isinstance(network, style_unet.ImageGenerator) and network.residual:
            channels -= network.outputs.out_channels
        if not isinstance(network, style_unet.ImageGenerator) or channels != CONDITIONS[condition]:
            raise UserError(
                f"{opened.path / 'config.json'}: its generator takes {counted(channels, 'channel')}, which is no "
                f"condition {condition!r}; give a run that was trained to paint single images"
            )
        fingerprint = opened.fingerprint("generator", ("condition", "scale", "resize"))
        bank: tuple[Floats, ...] = ()
        if network.residual:
            bank = tuple(load_backgrounds(opened, network.outputs.out_channels).values())
            fingerprint += f"-{digest(opened.path / 'weights' / f'{BACKGROUNDS}.safetensors')}"
        return cls(opened.path, network, condition, stored.scaling, stored.tile, bank, fingerprint)

    @property
    def scale(self) -> float:
        """Factor by which masks are resized before they are painted on; 1 where all are resized to one size."""
        return factor_of(self.scaling)

    @property
    def channels(self) -> int:
        """Channels of the images that it paints."""
        return self.network.outputs.out_channels

    def paint(
        self, labels: NDArray[np.integer[Any]], n: int = 1, *, seed: int = 0, style_mixing: float = 0.9
    ) -> NDArray[np.uint16]:
        """Paint `n` images on labels (H, W), 0 background: grey values (n, C, H, W) over the whole range of 16 bits.

        Each label image, and each of the `n`, has a style of its own; the same labels and seed give the same images.
        Labels have the scale of the original images; they are painted at the scale of the run, and the images are
        resized to their size. Raises UserError for labels without background and for values that make no sense.
        """
        given = label_array(labels)
        if given.min() > 0:
            raise UserError("labels: have no background; give 0 to the pixels outside of the cells")
        if n < 1:
            raise UserError(f"n={n}: give 1 or more")
        check_mixing(style_mixing)
        cells = relabel(resize_labels(given, scaled_shape(given.shape, self.scaling)))
        name = sha256(given.tobytes()).hexdigest()
        draws = (item_draw(seed, name, variant) for variant in range(1, n + 1))
        paintings = (self.paint_drawn(cells, draw, style_mixing) for draw in draws)
        return np.stack([grey(resize_image(painting, given.shape)) for painting in paintings])

    def paint_drawn(self, labels: NDArray[np.integer[Any]], draw: torch.Generator, mixing: float = 0.9) -> Floats:
        """Paint on labels (H, W), cells 1..N: (C, H, W) in [-1, 1]; arguments and errors as of `painting.paint`."""
        return paint(self.network, labels, self.condition, draw, bank=self.backgrounds, mixing=mixing, tile=self.tile)


def check_mixing(style_mixing: float) -> None:
    """Raise UserError for what is no probability."""
    if not 0 <= style_mixing <= 1:
        raise UserError(f"style_mixing={style_mixing}: give a number from 0 to 1")


def item_draw(seed: int, name: str, variant: int) -> torch.Generator:
    """Return the random generator of an image, which depends on seed, name of the mask and variant only."""
    return torch.Generator().manual_seed(int.from_bytes(sha256(utf8(f"{seed} {variant} {name}")).digest()[:7]))
