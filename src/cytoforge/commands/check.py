"""Find what would spoil training in a dataset or movie, and say how to correct it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cytoforge.commands.check_fix import mended
from cytoforge.commands.narrowed import view_of
from cytoforge.data import movie
from cytoforge.data.dataset import INFO, Dataset, Item, parts
from cytoforge.data.images import is_blank, read_header, read_labels
from cytoforge.data.interchange import other_format
from cytoforge.data.tracks import calibration_of
from cytoforge.errors import UserError
from cytoforge.metrics.label_images import Regions, Traits, judge, traits
from cytoforge.metrics.morphology import FITTING_DIAMETER, fitting_scale, median_diameter
from cytoforge.progress import Progress, counted
from cytoforge.settings import Check

AS_IT_IS = (
    " (by connected components; cytoforge check DATA --fix COPY does it), or learn from the masks as they are with "
    "train segmentation --target semantic, for which cells that touch are one"
)
IN_PIECES = (
    "remove stray pixels, or give each piece that is a cell an id of its own: cytoforge check DATA --fix COPY does that"
)
PRINTED = 3  # findings of one kind that are printed in full


@dataclass(frozen=True)
class Finding:
    """A problem to correct (error) or to look at (warning), its file, and the remedy."""

    severity: Literal["error", "warning"]
    file: str
    what: str
    remedy: str


@dataclass
class Facts:
    """What a dataset holds: how often each image size, pixel type and number of channels occurs."""

    path: str
    notes: tuple[str, ...] = ()
    images: int = 0
    masks: int = 0
    pairs: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    image_types: Counter[str] = field(default_factory=Counter)
    mask_types: Counter[str] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    cells: list[int] = field(default_factory=list)
    """number of cells in each mask"""
    tracks: list[str] = field(default_factory=list)
    """one text per sequence of a movie: its numbers of tracks and divisions, or that it has none"""
    diameter: float | None = None
    """median diameter in pixels of the circle of a cell's area"""
    calibration: str = ""
    """size of a pixel and time between frames in words, as far as they are known"""


@dataclass
class Survey:
    """All findings and facts of the data under one path."""

    findings: list[Finding] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    seen: dict[bytes, str] = field(default_factory=dict)
    """hash of the pixels -> file"""
    scale: float | None = None
    """proposed --scale, where the cells of all parts are far from FITTING_DIAMETER"""

    def error(self, file: Path, what: str, remedy: str) -> None:
        """Add an error: a problem to correct."""
        self.findings.append(Finding("error", str(file), what, remedy))

    def warn(self, file: Path, what: str, remedy: str) -> None:
        """Add a warning: something to look at."""
        self.findings.append(Finding("warning", str(file), what, remedy))

    def unreadable(self, file: Path, error: UserError) -> None:
        """Add an error for a file that cannot be used, with the message of the exception."""
        what, _, remedy = str(error).removeprefix(f"{file}").lstrip(":, ").rpartition("; ")
        self.error(file, what or remedy, remedy)


def check(config: Check) -> list[Finding]:
    """Return what is wrong with a dataset, a movie, or a folder of these; raises UserError when there is none."""
    return survey(config).findings


def check_command(config: Check) -> int:
    """Print facts and findings, as text or JSON, and mend what is to be mended in a copy.

    Return 1 if there are errors, in the copy if one was made, else 0.
    """
    found = survey(config)
    told = mended(config.data, config.fix, overwrite=config.overwrite) if config.fix else []
    if config.json:
        facts, findings = [vars(part) for part in found.facts], [asdict(finding) for finding in found.findings]
        fixed = {"fixed": told} if config.fix else {}
        print(json.dumps({"datasets": facts, "scale": found.scale, "findings": findings, **fixed}, indent=2))
    else:
        for line in (*report(found), *told):
            print(line)
    left = survey(Check(config.fix)).findings if config.fix else found.findings
    return int(any(finding.severity == "error" for finding in left))


def survey(config: Check) -> Survey:
    """Read every file under config.data once; in a folder of datasets (train, val, test), check each dataset.

    Raises UserError when nothing is there to check.
    """
    found = Survey()
    if movie.movie_of(config.data):
        raise movie.no_movie(config.data)
    inside = parts(config.data) if config.data.is_dir() and not movie.is_movie(config.data) else []
    datasets = [Dataset.open(path, config.sequence, view=view_of(config)) for path in inside or [config.data]]
    paired = any(item.image and item.mask for dataset in datasets for item in dataset.items)
    if not paired and (told := other_format(config.data)):
        what, _, remedy = told.partition("; ")
        found.error(config.data, what, remedy)
        return found
    total, done, progress = sum(len(dataset.items) for dataset in datasets), 0, Progress("check")
    everything: list[np.ndarray] = []
    for dataset in map(_alike, datasets):
        facts = Facts(str(dataset.path), dataset.notes)
        found.facts.append(facts)
        masks: dict[Path, Traits] = {}
        sizes: dict[Path, tuple[int, ...]] = {}
        for item in dataset.items:
            size = _look_at_image(found, facts, dataset, item) if item.image else None
            if item.image and size:
                sizes[item.image] = size
            mask = _look_at_mask(found, facts, item.mask, size) if item.mask else None
            if item.mask and mask:
                masks[item.mask] = mask
            _look_for_partner(found, facts, dataset, item)
            done += 1
            progress(done / total)
        cells = _look_at_cells(found, facts, masks)
        areas = np.concatenate([*(regions.areas for regions in cells.values()), np.empty(0)])
        everything.append(areas)
        _look_at_whole(found, facts, dataset, areas)
        if movie.is_movie(dataset.path):
            for sequence in movie.read_sequences(dataset.path, config.sequence):
                _look_at_sequence(found, dataset.path, sequence, cells, sizes)
                facts.tracks.append(_tracks_said(sequence))
    areas = np.concatenate(everything)
    if areas.size:
        found.scale = fitting_scale(median_diameter(areas))
    return found


def _alike(dataset: Dataset) -> Dataset:
    """Return a dataset whose grey and RGB images are read alike; as it is where an image cannot be read."""
    try:
        return dataset.alike()
    except UserError:
        return dataset


def _look_at_image(found: Survey, facts: Facts, dataset: Dataset, item: Item) -> tuple[int, ...] | None:
    """Examine an image; return its (height, width), or None when it cannot be read."""
    facts.images += 1
    file = item.image or dataset.path
    try:
        image = dataset.pixels(item)
    except UserError as error:
        found.unreadable(file, error)
        return None
    facts.sizes[f"{image.shape[1]} x {image.shape[2]}"] += 1
    facts.image_types[str(image.dtype)] += 1
    facts.channels[image.shape[0]] += 1
    if image.dtype.kind == "f" and (bad := int((~np.isfinite(image)).sum())):
        found.warn(file, f"{bad} pixels are NaN or infinite", "they are read as black; fill them if they matter")
    if is_blank(image):
        found.warn(file, "one grey value all over", "training leaves it out; remove it")
        return image.shape[1:]
    key = hashlib.blake2b(image.tobytes() + str((image.shape, image.dtype)).encode(), digest_size=16).digest()
    if key in found.seen:
        found.warn(
            file, f"the same picture as {found.seen[key]}", "keep one: on both sides of a split it spoils scores"
        )
    found.seen.setdefault(key, str(file))
    return image.shape[1:]


def _look_for_partner(found: Survey, facts: Facts, dataset: Dataset, item: Item) -> None:
    if item.image and item.mask:
        facts.pairs += 1
    elif item.frame is None and any(o.image for o in dataset.items) and any(o.mask for o in dataset.items):
        lone, lacking = (item.image, "mask") if item.image else (item.mask, "image")
        found.warn(lone or dataset.path, f"has no {lacking}", "it is left out of training; give both the same name")


def _look_at_mask(found: Survey, facts: Facts, file: Path, size: tuple[int, ...] | None) -> Traits | None:
    """Examine a mask against the size of its image; return its traits, or None when it cannot be read."""
    facts.masks += 1
    try:
        labels = read_labels(file)
        stored = read_header(file)[1]
    except UserError as error:
        found.unreadable(file, error)
        return None
    facts.mask_types[str(stored)] += 1
    if size is None:
        facts.sizes[f"{labels.shape[0]} x {labels.shape[1]}"] += 1
    elif labels.shape != size:
        what = f"is {labels.shape[0]} x {labels.shape[1]} pixels, its image {size[0]} x {size[1]}"
        found.error(file, what, "export both at the same size")
    return traits(labels, stored)


def _look_at_cells(found: Survey, facts: Facts, masks: Mapping[Path, Traits]) -> dict[Path, Regions]:
    """Check the masks of a dataset together; return the cells of the masks in which each cell has its own id."""
    cells = {}
    for (file, mask), verdict in zip(masks.items(), judge(list(masks.values())), strict=True):
        if verdict:
            found.error(file, verdict.what, verdict.remedy + (AS_IT_IS if verdict.kind == "binary" else ""))
            continue
        regions = cells[file] = mask.regions
        facts.cells.append(regions.ids.size)
        if not regions.ids.size:
            found.warn(file, "holds no cells", "right if there are none; else export the mask again")
        top = np.iinfo(mask.stored).max if mask.stored in (np.uint8, np.uint16) else None
        if top == regions.ids.size:
            found.warn(
                file, f"uses all {top} ids that {mask.stored} holds", "are cells missing? save ids with more bits"
            )
        broken = regions.ids[regions.pieces > 1]
        if broken.size:
            what = f"{movie.some('id', broken.tolist())} in several pieces, of {counted(regions.ids.size, 'cell')}"
            found.warn(file, what, IN_PIECES)
    return cells


def _look_at_whole(found: Survey, facts: Facts, dataset: Dataset, areas: np.ndarray) -> None:
    try:
        files = [item.image for item in dataset.items if item.image]
        facts.calibration = calibration_of(dataset.path, dataset.info, files).said
    except UserError as error:
        found.unreadable(dataset.path / INFO, error)
    if not dataset.info.get("complete", True):
        found.error(dataset.path, "is not finished", "repeat the command that began to write it")
    if facts.images and facts.masks and not facts.pairs:
        found.error(dataset.path, "no image and mask have the same name", "rename the masks like their images")
    if len(facts.channels) > 1:
        counts = " and ".join(f"{count} of {channels}" for channels, count in sorted(facts.channels.items()))
        found.error(dataset.path, f"images have different numbers of channels ({counts})", "convert them to one kind")
    if facts.cells and not areas.size:
        found.error(dataset.path, "no mask holds a cell", "export the masks again")
    if areas.size:
        facts.diameter = round(median_diameter(areas), 1)


def _tracks_said(sequence: movie.Sequence) -> str:
    if sequence.track_source is None:
        return f"sequence {sequence.name}: no tracks (cytoforge track makes them)"
    try:
        tracks = movie.read_tracks(sequence.tracks[sequence.track_source])
    except UserError:  # among the findings
        return f"sequence {sequence.name}: tracks that cannot be read"
    kin = Counter(track.parent for track in tracks if track.parent)
    divisions = counted(sum(count > 1 for count in kin.values()), "division")
    return f"sequence {sequence.name}: {counted(len(tracks), 'track')} with {divisions} ({sequence.track_source})"


def _look_at_sequence(
    found: Survey,
    path: Path,
    sequence: movie.Sequence,
    known: Mapping[Path, Regions],
    sizes: Mapping[Path, tuple[int, ...]],
) -> None:
    """Examine the masks and tracks of a sequence; `known` holds the masks already read, `sizes` those of its frames."""
    alike = Counter(sizes[file] for file in sequence.frames.values() if file in sizes)
    if len(alike) > 1:
        usual = alike.most_common(1)[0][0]
        others = [number for number, file in sequence.frames.items() if sizes.get(file, usual) != usual]
        what = f"{movie.some('frame', others)} of another size than the {usual[-2]} x {usual[-1]} px of the rest"
        found.error(path / sequence.name, what, "export all frames alike")
    if sequence.frames and sequence.masks and not sequence.source:
        for source, masks in sequence.masks.items():
            lacking = sorted(sequence.frames.keys() - masks.keys())
            what = f"masks of {source} are missing for {movie.some('frame', lacking)}"
            found.error(path / sequence.name, what, "add them: masks are used where one source covers every frame")
    for source, masks in sequence.masks.items():
        if source == sequence.source:
            break
        lacking = sorted(sequence.frames.keys() - masks.keys())
        if (
            0 < len(lacking) <= len(sequence.frames) / 2 and sequence.source
        ):  # GT/SEG is meant to hold a few frames only
            what = (
                f"masks of {source} are missing for {movie.some('frame', lacking)}, so that {sequence.source} is used"
            )
            found.warn(path / sequence.name, what, f"add them, if {source} holds the better outlines")
    for kind, numbers in (("frames", sequence.frames), *sequence.masks.items()):
        lacking = movie.gaps(numbers)
        if lacking and kind in ("frames", sequence.source):
            what = f"{movie.some('frame', lacking)} missing from the numbers of {kind}"
            found.error(path / sequence.name, what, "add them, or number what follows a gap as another sequence")
    for source, file in sequence.tracks.items():
        try:
            tracks = movie.read_tracks(file)
            # Tracks without masks of their own use the ids of the cells in the masks in use.
            masks = sequence.masks.get(source) or sequence.masks.get(sequence.source or "", {})
            cells = {
                frame: known[mask].ids if mask in known else np.setdiff1d(read_labels(mask), [0])
                for frame, mask in masks.items()
            }
        except UserError as error:
            found.unreadable(file, error)
            continue
        for severity, what, remedy in movie.inconsistencies(tracks, cells):
            found.findings.append(Finding(severity, str(file), what, remedy))


def report(found: Survey) -> Iterator[str]:
    """Yield facts and findings as lines of text; errors come first, and findings of one kind are grouped."""
    for facts in found.facts:
        yield from _describe(facts)
    if found.scale is not None:
        size = f"--scale {found.scale:g} would bring the cells to about {FITTING_DIAMETER:g} px"
        yield f"train generator, train movie: {size}, faster and often better; train segmentation finds its own"
    for severity in ("error", "warning"):
        kinds: dict[str, list[Finding]] = {}
        for finding in found.findings:
            if finding.severity == severity:
                kinds.setdefault(finding.remedy, []).append(finding)
        for remedy, findings in kinds.items():
            for finding in findings[:PRINTED]:
                yield f"{severity}: {finding.file}: {finding.what}"
            if len(findings) > PRINTED:
                yield f"{severity}: ... and {len(findings) - PRINTED} more like these"
            yield f"    {remedy}"
    counts = Counter(finding.severity for finding in found.findings)
    yield f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}"


def _describe(facts: Facts) -> Iterator[str]:
    parts = f"{counted(facts.images, 'image')}, {counted(facts.masks, 'mask')}"
    yield f"{facts.path}: {counted(facts.pairs, 'pair')} of image and mask ({parts})"
    yield from (f"    {note}" for note in facts.notes)
    if facts.image_types:
        channels = ", ".join(counted(count, "channel") for count in sorted(facts.channels))
        known = [facts.calibration] if facts.calibration else []
        yield "    images: " + ", ".join([f"{_list(facts.sizes)} px", _list(facts.image_types), channels, *known])
    if facts.cells:
        spread = f"{min(facts.cells)} to {max(facts.cells)} cells an image (median {np.median(facts.cells):g})"
        size = "" if facts.diameter is None else f", {facts.diameter:g} px across (median)"
        yield f"    masks: {_list(facts.mask_types)}, {spread}{size}"
    yield from (f"    {line}" for line in facts.tracks)


def _list(counts: Counter[str]) -> str:
    """Name the most frequent values, as in "256 x 256, 520 x 696 and 3 more"."""
    names = [name for name, _ in counts.most_common(3)]
    more = f" and {len(counts) - 3} more" if len(counts) > 3 else ""
    return ", ".join(names) + more
