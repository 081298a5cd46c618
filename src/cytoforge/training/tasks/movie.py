"""A movie generator from annotated movies: tGAN's low-resolution stage (tGAN, Figure 1B), or vid2vid."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from scipy import ndimage

from cytoforge.cells.backgrounds import fitted
from cytoforge.cells.instances import CONDITIONS
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import resize_labels
from cytoforge.data.movie import no_movie, read_sequences, read_tracks
from cytoforge.data.run import BACKGROUNDS, TEXTURES
from cytoforge.inference.frames import FramePainter, SequencePainter, Vid2VidPainter
from cytoforge.inference.painting import from_grey
from cytoforge.metrics.sampling import evenly
from cytoforge.metrics.texture import texture_distance
from cytoforge.networks.movie import MovieGenerator
from cytoforge.networks.vid2vid import Vid2Vid
from cytoforge.report import colour_labels, mosaic, to_rgb
from cytoforge.simulation.camera import measure_noise
from cytoforge.simulation.contrast import contrasts, quantiles
from cytoforge.simulation.texture import Stretch, Textures
from cytoforge.tracking.lineage import mothers
from cytoforge.training import hyperparameters
from cytoforge.training.course import State, course
from cytoforge.training.data import Masks, TrainingData, open_data
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes import vid2vid
from cytoforge.training.recipes.networks import Described, describe_discriminator
from cytoforge.training.recipes.recipe import Recipe
from cytoforge.training.recipes.tgan import MovieGAN, describe_flow, judged_channels
from cytoforge.training.samplers.clips import Clips, DoublingClips, sequence_backgrounds, stretches
from cytoforge.training.samplers.items import item_generator
from cytoforge.training.specification import Training
from cytoforge.training.tasks.painted import judge_paintings
from cytoforge.training.tasks.start import Wanted, load_start, rescaled
from cytoforge.training.tasks.task import (
    Outcome,
    Plan,
    Task,
    drawing_of,
    feature_network,
    perceptual_notes,
    stored_tile,
)

PICTURED = 4  # frames of a picture
VALIDATED = 8  # frames painted in a row for the validation score
TEXTURE = 4_000_000  # pixels of the textures of cells that a run keeps, at most
EXPOSED = 40  # frames in which the noise of the camera and the contrast of cells are measured, at most
VALIDATION_WINDOW = 256  # px of their sides at most: whole frames take a laptop too long


@dataclass(frozen=True)
class MovieTask(Task):
    """Train a movie generator, by tGAN or by vid2vid."""

    name: ClassVar[str] = "train movie"
    parameters: hyperparameters.Movie | hyperparameters.Vid2Vid
    enlarged: int = 1
    """factor by which a second stage will enlarge its frames"""
    start: tuple[Path, ...] = ()
    """runs whose movie generator, flow network and discriminator tGAN starts from"""

    def open(self, training: Training) -> TrainingData:
        """Open annotated movies."""
        return open_movie(training, self.parameters.condition, self.enlarged)

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Build the networks and say how clips are drawn and painted movies are validated."""
        parameters = self.parameters
        vgg = feature_network(parameters, training.compute.weights_dir)
        recipe: Recipe
        if isinstance(parameters, hyperparameters.Vid2Vid):
            described, method, lag, mask_value = vid2vid.describe(parameters, data.channels), "vid2vid", 1, 1.0
            recipe = vid2vid.Vid2VidGAN.build(parameters, described, training.seed, vgg)
        else:
            described, method = describe(parameters, data.channels), "tgan"
            lag, mask_value = parameters.lag, parameters.mask_value
            recipe = MovieGAN.build(parameters, described, training.seed, vgg)
        started, changes = (
            load_start(self.start, self._wanted(recipe, described, data)),
            rescaled(self.start, training.data),
        )
        sampler = self._sampler(training, data, fabric)
        bank = sequence_backgrounds(data.items, data.read)
        held = held_out(data, bank)

        def score(averages: Networks) -> float:
            """Return 1 less the distance between the textures of validation frames and of paintings on their masks."""
            painted = [frame for stretch in held for frame in self._painted(averages, stretch)]
            real = [image for stretch in held for image in stretch.images]
            return max(1 - texture_distance(real, painted, np.random.default_rng(training.seed)), 0.0)

        def panels(networks: Networks) -> list[list[np.ndarray]]:
            """Return rows of pictures: masks, real frames and painted ones."""
            first = held[0]
            few = first._replace(images=first.images[:PICTURED], labels=first.labels[:PICTURED])
            return [
                [colour_labels(mask) for mask in few.labels],
                [to_rgb(image) for image in few.images],
                [to_rgb(image) for image in self._painted(networks, few)],
            ]

        def outcome(networks: Networks, state: State) -> Outcome:
            masks, real, painted = panels(networks)
            names = [name for name, _, _ in data.validation]
            rows = zip(names, real, masks, painted, strict=False)
            shown = {"paintings": [(name, row) for name, *row in rows]}
            frames = [frame for stretch in held for frame in self._painted(networks, stretch)]
            images = [image for stretch in held for image in stretch.images]
            labels = [mask for stretch in held for mask in stretch.labels]
            return Outcome(shown=shown, judgement=judge_paintings(images, frames, labels, course(state)))

        kept: dict[str, Mapping[str, np.ndarray]] = {}
        if method == "tgan":
            kept[BACKGROUNDS] = bank
            if self.enlarged == 1:
                kept[TEXTURES] = textures(training.data.path, data, bank).stored()
        weights = {file: {name: torch.from_numpy(array) for name, array in one.items()} for file, one in kept.items()}
        return Plan(
            networks={"low-resolution": described},
            recipe=recipe,
            sampler=sampler,
            validation=Validation(
                score, lambda averages: mosaic(panels(averages)), at_start="low-resolution" in (started or {})
            ),
            outcome=outcome,
            stored={
                "method": method,
                "condition": parameters.condition,
                "lag": lag,
                "mask_value": mask_value,
                **recorded(data, bank),
                "tile": stored_tile(parameters.crop),
                "start": list(map(str, self.start)) or None,
            },
            provenance={"started_from": started},
            weights=weights,
            notes=[*perceptual_notes(parameters, recipe, training.compute.weights_dir), *changes],
            remarks=changes,
        )

    def _wanted(self, recipe: Recipe, described: Described, data: TrainingData) -> list[Wanted]:
        parameters = self.parameters
        if isinstance(parameters, hyperparameters.Vid2Vid):
            return []
        settings = {name: getattr(parameters, name) for name in ("condition", "lag", "mask_value")}
        judging = describe_discriminator(parameters, judged_channels(parameters, data.channels))
        return [
            Wanted("low-resolution", described, recipe.networks["low-resolution"], settings),
            Wanted("flow", describe_flow(parameters, data.channels), recipe.networks["flow"]),
            Wanted("discriminator", judging, recipe.networks["discriminator"]),
        ]

    def _sampler(self, training: Training, data: TrainingData, fabric: Fabric) -> Clips:
        parameters = self.parameters
        drawing = drawing_of(parameters, parameters.crop, training, fabric)
        if isinstance(parameters, hyperparameters.Vid2Vid):
            return DoublingClips(data.items, data.read, drawing, lead=vid2vid.LEAD, first=parameters.clip)
        return Clips(
            data.items,
            data.read,
            drawing,
            lead=max(parameters.window - 1, parameters.lag),
            longest=parameters.clip,
            grown=parameters.grown,
            draw_length=parameters.draw_length,
        )

    def _painted(self, networks: Networks, held: "HeldOut") -> list[np.ndarray]:
        """Paint frames (C, H, W) in [-1, 1] on the masks of validation frames, as `generate movie` does."""
        generator, parameters = networks["low-resolution"], self.parameters
        painter: SequencePainter
        if isinstance(parameters, hyperparameters.Vid2Vid):
            assert isinstance(generator, Vid2Vid)
            size, condition = held.labels[0].shape, parameters.condition
            painter = Vid2VidPainter(generator, size, condition=condition, window=vid2vid.WINDOW)
        else:
            assert isinstance(generator, MovieGenerator)
            painter = FramePainter(
                generator,
                held.background,
                item_generator(0, 0, 0, "picture"),
                condition=parameters.condition,
                window=parameters.window,
                lag=parameters.lag,
                mask_value=parameters.mask_value,
                mixing=parameters.style_mixing,
            )
        return [from_grey(painter.paint(mask)) for mask in held.labels]


def open_movie(training: Training, condition: str, enlarged: int = 1) -> TrainingData:
    """Open annotated movies for a generator with a condition; `enlarged` as of `open_data`.

    Raises UserError when the data are no movie, and as `open_data`.
    """
    data = training.data
    if any(item.frame is None for item in Dataset.open(data.path, data.sequences).items):
        raise no_movie(data.path)
    return open_data(data, training.seed, "movie", masks=Masks(binary=condition == "mask"), enlarged=enlarged)


def describe(parameters: hyperparameters.Movie, channels: int) -> Described:
    """Return kind and options of tGAN's generator of frames with so many channels."""
    return {
        "network": "movie",
        "in_channels": parameters.window * CONDITIONS[parameters.condition],
        "out_channels": channels,
        "width": parameters.width,
        "depth": parameters.depth,
        "norm": parameters.norm,
        "upsampling": parameters.upsampling,
        "residual": parameters.residual,
    }


def recorded(data: TrainingData, bank: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what config.json tells of how the frames were recorded.

    That is limits and type of their grey values, the noise of each channel, and quantiles of the contrasts of cells to
    the background (C, H, W) of their sequence in `bank`.
    """
    parts = stretches(data.items)
    most = max(EXPOSED // len(parts), 2)
    noise = measure_noise(islice(map(data.read, part), most) for part in parts)
    found = list[float]()
    for i in evenly(len(data.items), EXPOSED):
        image, labels = data.read(i)
        found += contrasts(image, bank[str(data.items[i].group)], labels).values()
    return {
        "limits": data.limits,
        "pixels": data.pixels,
        "noise": [asdict(channel) for channel in noise],
        "contrasts": quantiles(found),
    }


def textures(path: Path, data: TrainingData, bank: Mapping[str, np.ndarray]) -> Textures:
    """Cut the textures of cells from the training frames of a movie folder, on the backgrounds of their sequences.

    Where cells are tracked, each is kept through frames in a row; else each by itself in every frame.
    """
    tracked = {one.name: one for one in read_sequences(path) if one.track_source is not None}
    known = {name: set(one.tracked_frames()) for name, one in tracked.items()}

    def frames(places: range) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i in places:
            group, number = str(data.items[i].group), data.items[i].frame
            image, labels = data.read(i)
            if number is not None and number in known.get(group, ()):
                labels = resize_labels(tracked[group].read_tracked(number), labels.shape)
            yield image, labels

    def stretch(places: range) -> Stretch:
        group = str(data.items[places.start].group)
        one = tracked.get(group)
        rows = read_tracks(one.tracks[one.track_source]) if one is not None and one.track_source else ()
        return Stretch(frames(places), bank[group], mothers(rows))

    parts = stretches(data.items)
    if not all(str(data.items[part.start].group) in tracked for part in parts):
        parts = [range(i, i + 1) for i in evenly(len(data.items), EXPOSED)]
    most = max(EXPOSED // len(parts), 1)
    return Textures.cut((stretch(part[:most]) for part in parts[:EXPOSED]), TEXTURE)


class HeldOut(NamedTuple):
    """Images (C, H, W) and labels (H, W) of validation frames in a row, and a background (C, H, W)."""

    images: list[np.ndarray]
    labels: list[np.ndarray]
    background: np.ndarray


def held_out(data: TrainingData, bank: dict[str, np.ndarray]) -> list[HeldOut]:
    """Return the first VALIDATED frames of each stretch of validation frames, cut to the window with the most cells."""
    found = []
    for number, stretch in enumerate(stretches(data.held)):
        examples = [data.validation[i] for i in stretch][:VALIDATED]
        group = str(data.held[stretch.start].group)
        reference = bank[group if group in bank else sorted(bank)[0]]
        size = examples[0][2].shape
        background = fitted(reference, (size[0], size[1]), np.random.default_rng(number))
        cells = np.any([mask > 0 for _, _, mask in examples], axis=0)
        around = ndimage.uniform_filter(cells.astype(np.float32), VALIDATION_WINDOW, mode="constant")
        middle = np.unravel_index(np.argmax(around), size)
        view = (..., _window(int(middle[0]), size[0]), _window(int(middle[1]), size[1]))
        images, labels = [image[view] for _, image, _ in examples], [mask[view] for _, _, mask in examples]
        found.append(HeldOut(images, labels, background[view]))
    return found


def _window(middle: int, side: int) -> slice:
    """Return VALIDATION_WINDOW px of a side around `middle`, moved inwards where they would end outside."""
    start = max(min(middle - VALIDATION_WINDOW // 2, side - VALIDATION_WINDOW), 0)
    return slice(start, start + VALIDATION_WINDOW)
