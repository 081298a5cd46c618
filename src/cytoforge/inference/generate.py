"""`cytoforge generate images`: masks of any size to painted images, an annotated dataset that says it is synthetic."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.backgrounds import fitted
from cytoforge.config import GenerateImages, Segment
from cytoforge.data.dataset import PARTS, Dataset, Item
from cytoforge.data.files import digest, is_too_long, utf8
from cytoforge.data.run import BACKGROUNDS, Run
from cytoforge.data.run_config import TILE
from cytoforge.data.writer import DatasetWriter, check_target
from cytoforge.errors import UserError
from cytoforge.inference.curation import curate
from cytoforge.inference.load import load_backgrounds, open_network
from cytoforge.inference.segment import Model
from cytoforge.inference.tiling import Floats, default_tile, tiled_rows
from cytoforge.instances import CONDITIONS, DEEPEST, condition, relabel
from cytoforge.networks.style_unet import ImageGenerator, draw_styles
from cytoforge.progress import Progress, counted

BY = "cytoforge generate images"
WHITE = int(np.iinfo(np.uint16).max)  # what 1 is written as; -1 is 0


def paint(
    network: nn.Module,
    labels: NDArray[np.integer[Any]],
    kind: str,
    draw: torch.Generator,
    *,
    bank: Sequence[Floats] = (),
    mixing: float = 0.9,
    tile: int = TILE,
) -> Floats:
    """Paint an image float32 (C, H, W) in [-1, 1] on labels (H, W), in a style and with noise from `draw` (CPU).

    It is the network's `condition` (of that kind) of all labels, `draw_styles` and noise U[0, 1) of the size of the
    labels, in one pass (cGAN-Seg, Figure 1A). A generator that adds cells to a background gets a window of one of the
    `bank`, each (C, h, w) in [-1, 1] of any size. Large images are painted in tiles that share the style and are cut
    from the same noise; a larger tile than `tile` is used where that changes nothing. With group norm, tiles fade into
    each other. Raises ValueError for another network, for one that is not in eval mode, and without the bank that
    it needs.
    """
    if not isinstance(network, ImageGenerator):
        raise ValueError(f"an image generator paints, not a {type(network).__name__}")
    device = next(network.parameters()).device
    height, width = labels.shape
    styles = draw_styles(1, network.depth, draw, network.latent, mixing).to(device)
    noise = torch.rand((1, 1, height, width), generator=draw).to(device)
    if network.residual and not bank:
        raise ValueError("this generator adds cells to a background, and there is none")
    background = background_of(bank, (height, width), draw) if network.residual else np.empty((0, height, width))

    def rows(top: int, bottom: int) -> Floats:
        above, below = max(top - DEEPEST, 0), min(bottom + DEEPEST, height)  # farther cells change nothing
        around = condition(torch.from_numpy(labels[above:below])[None], kind)[0]
        told = around[:, top - above : bottom - above].numpy()
        return np.concatenate([told, background[:, top:bottom]], dtype=np.float32)

    def evaluate(tiles: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
        maps = noise_maps(network.depth, network.stride, noise, tiles.shape[2:], corners)
        return network(tiles, styles.expand(len(tiles), -1, -1), maps).clamp(-1, 1)  # type: ignore[no-any-return]

    blocks = tiled_rows(network, evaluate, rows, (height, width), default_tile(network, tile))
    return np.concatenate(list(blocks), axis=1)


def background_of(bank: Sequence[Floats], size: tuple[int, int], draw: torch.Generator) -> Floats:
    """Draw a window of `size` (h, w) of one of some backgrounds, flipped at random: (C, h, w)."""
    generator = np.random.default_rng(int(torch.randint(2**62, (), generator=draw)))
    window = fitted(bank[int(generator.integers(len(bank)))], size, generator)
    return window[:, :: generator.choice([1, -1]), :: generator.choice([1, -1])]


def noise_maps(
    blocks: int, stride: int, noise: Tensor, shape: Sequence[int], corners: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Cut the noise of tiles (h, w) at their corners, one map for each of the decoder's blocks, coarsest first.

    The coarser blocks use the noise itself, from its top left corner on, not a smaller picture of it: a tile at
    (y, x) takes it there from (y, x) / 2**level on.
    """
    height, width = (-(-side // stride) * stride for side in shape)
    return [
        torch.cat([noise[..., y // f : (y + height) // f, x // f : (x + width) // f] for y, x in corners])
        for f in (2**level for level in reversed(range(blocks)))
    ]


def item_draw(seed: int, name: str, variant: int) -> torch.Generator:
    """Return the generator of an image's draws: it knows nothing of the other masks and variants."""
    return torch.Generator().manual_seed(int.from_bytes(sha256(utf8(f"{seed} {variant} {name}")).digest()[:7]))


@dataclass(frozen=True)
class Painter:
    """A run's generator, what it is told of the cells, and the scale at which it paints."""

    network: ImageGenerator
    kind: str
    scale: float
    tile: int
    bank: tuple[Floats, ...]
    """backgrounds of a generator that adds cells to these, each (C, h, w) in [-1, 1]"""
    fingerprint: str
    """SHA-256 over weights and settings: the same images come from the same fingerprint, masks and seed"""

    @classmethod
    def open(cls, config: GenerateImages) -> Self:
        """Load what the configuration names; raises UserError when run or device do not serve."""
        run, network = open_network(config, "generator")
        stored = run.settings
        kind, told = stored.condition, stored.networks["generator"].in_channels or 1
        if isinstance(network, ImageGenerator) and network.residual:
            told -= network.outputs.out_channels
        if not isinstance(network, ImageGenerator) or told != CONDITIONS[kind]:
            raise UserError(
                f"{run.path / 'config.json'}: its generator takes {counted(told, 'channel')}, which is no condition "
                f"{kind!r}; give a run that was trained to paint single images"
            )
        fingerprint = run.fingerprint("generator", ("condition", "scale"))
        bank: tuple[Floats, ...] = ()
        if network.residual:
            bank = tuple(load_backgrounds(run, network.outputs.out_channels).values())
            fingerprint += f"-{digest(run.path / 'weights' / f'{BACKGROUNDS}.safetensors')}"
        return cls(network, kind, stored.scale, stored.tile, bank, fingerprint)

    def paint(self, labels: NDArray[np.integer[Any]], draw: torch.Generator, mixing: float = 0.9) -> Floats:
        """Paint labels (H, W) as the function `paint` does, with what the run holds."""
        return paint(self.network, labels, self.kind, draw, bank=self.bank, mixing=mixing, tile=self.tile)


@dataclass(frozen=True)
class Painting:
    """An image to be made: what it is called, the mask it is painted on, and what its files say of its origin."""

    name: str
    item: Item
    variant: int
    mark: dict[str, Any]


def generate(config: GenerateImages) -> Path:
    """Write OUT/images/NAME.png and OUT/masks/NAME.png for every mask and variant, and OUT/dataset.json. Returns OUT.

    An interrupted command goes on. Raises UserError when the run has no generator, there are no masks, OUT holds
    anything but an unfinished result of the same command, or curation is asked for and there is no segmenter.
    """
    masks = Dataset.open(config.masks, holds="masks").masks()
    for item in masks.items:
        if item.mask and item.mask.parent.resolve() in {(config.out / part).resolve() for part in PARTS}:
            raise UserError(f"{config.out}: holds the masks to paint on; give another --out")
    check_target(config.out, BY, overwrite=config.overwrite)  # before networks are loaded
    painter = Painter.open(config)
    masks.check_labels(binary=painter.kind == "mask")
    segmenter = None if config.keep is None else _open_segmenter(config)
    paintings, info = _plan(config, painter, segmenter, masks)
    # what PNG cannot hold goes into TIFF
    suffix = ".png" if painter.network.outputs.out_channels in (1, 3) else ".tif"
    names = [painting.name for painting in paintings]
    writer = DatasetWriter(config.out, info, overwrite=config.overwrite, suffix=suffix, names=names)
    waiting = [painting for painting in paintings if painting.name not in writer.done]
    progress = Progress("generate")
    for position, painting in enumerate(waiting, 1):
        mask = replace(painting.item, image=None)
        labels = relabel(masks.read_labels(mask, painter.scale / masks.scale))
        if labels.min() > 0:
            raise UserError(f"{mask.mask}: has no background; is it an image? give masks, 0 outside the cells")
        draw = item_draw(config.seed, painting.item.name, painting.variant)
        image = painter.paint(labels, draw, config.style_mixing)
        writer.add(painting.name, grey(image), labels, painting.mark)
        progress(position / len(waiting), painting.name)
    facts = f", {len(writer.done)} of them made before" if writer.done else ""
    if segmenter is None or config.keep is None:
        writer.finish()
    else:
        written = Dataset.open(config.out)
        own = tuple(item for item in written.items if item.name in names)  # the user may have others there
        curation = curate(replace(written, items=own), segmenter, config.keep)
        for name in curation.dropped:
            writer.remove(name)
        writer.finish({"curation": {**info["curation"], **asdict(curation)}})
        facts += f", {len(curation.dropped)} of them dropped"
    made, on = counted(len(paintings), "image"), counted(len(masks.items), "mask")
    print("\n".join([*masks.left_out, f"{config.out}: {made} painted on {on}{facts}"]))
    return config.out


def _open_segmenter(config: GenerateImages) -> Model:
    run = config.segmenter or config.run
    if "segmenter" not in Run.open(run).settings.networks:
        raise UserError(f"{run}: holds no segmenter to look at the images; give one with --segmenter, or no --keep")
    return Model.open(Segment(run, config.out, config.out, device=config.device, threads=config.threads))


def _plan(
    config: GenerateImages, painter: Painter, segmenter: Model | None, masks: Dataset
) -> tuple[list[Painting], dict[str, Any]]:
    """Return the images to be made, in order, and what dataset.json says of them; equal for equal commands."""
    origin = {
        "by": BY,
        "version": version("cytoforge"),
        "run": config.run.resolve().name,
        "fingerprint": painter.fingerprint,
        "seed": config.seed,
        "style_mixing": config.style_mixing,
    }
    paintings, files = [], {}
    for item in masks.items:
        if item.mask is None:
            raise ValueError(f"{item.name} has no mask")
        source = {"mask": item.name, "mask_sha256": digest(item.mask)}
        for variant in range(1, config.variants + 1):
            name = item.name if config.variants == 1 else f"{item.name}-v{variant}"
            if is_too_long(f"{name}.png"):
                raise UserError(f"{item.mask}: its name is too long to add -v{variant} to it; shorten it")
            files[name] = {**source, "variant": variant}
            paintings.append(Painting(name, item, variant, {"synthetic": True, **origin, **files[name]}))
    info = {"synthetic": origin, "scale": painter.scale, "limits": [0, WHITE], "files": files}
    if segmenter is not None:
        run = (config.segmenter or config.run).resolve().name
        info["curation"] = {"keep": config.keep, "segmenter": run, "fingerprint": segmenter.fingerprint}
    return paintings, info


def grey(image: Floats) -> NDArray[np.uint16]:
    """Map an image in [-1, 1] to the whole range of 16 bits."""
    return np.asarray(np.round((image + 1) * (WHITE / 2)), dtype=np.uint16)
