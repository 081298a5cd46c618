"""Split of annotated images into training and test images, and copies of both."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from cytoforge.data.dataset import INFO, Dataset, Item
from cytoforge.data.images import read_image, read_labels
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.progress import counted, say
from cytoforge.studies.folder import OWNER, StudyFolder
from cytoforge.studies.specification import Study
from cytoforge.training.tasks.staged import finished

COPIED = "study-items.json"  # names the items of a copied part of a dataset; written last, so the copy is complete


def open_data(study: Study, data: Path) -> Dataset:
    """Open annotated images of a study, and check them and those of --test before any work.

    Raises UserError when there are no pairs, when some are synthetic, when a mask of --test lacks its image, when an
    image is in both, and when DATA is a movie and there is no --test, because its frames resemble each other.
    """
    dataset = _training_part(study, data)
    tests = _test_part(study, data)
    if tests is None:
        if any(item.frame is not None for item in dataset.items):
            raise UserError(
                f"{data}: is a movie, whose frames are too alike to test on some; give --test MOVIE or --test-sequence"
            )
        tests = dataset
    else:
        for item in tests.items:
            if item.image is None:
                raise UserError(f"{item.mask}: has no image to test on; add it, or take the mask away")
        if same := dataset.common_image(tests):
            raise UserError(f"{same[1]}: is in {data}, too; test on images that nothing is trained on")
    for one in (dataset,) if tests is dataset else (dataset, tests):
        one.check_labels(
            binary=study.protocols == ("paper",) and study.target == "semantic",
            otherwise="--target semantic --protocol paper, for which cells that touch are one",
        )
        say(one.left_out)
    if witness := dataset.synthetic() or tests.synthetic():
        raise UserError(f"{witness}: says that these images are synthetic; a study wants annotated real ones")
    return dataset


def _training_part(study: Study, data: Path) -> Dataset:
    """Return the pairs to train on: of a movie the sequences that are named, or else all but those tested on."""
    names = study.sequence
    if not names and study.test is None and study.test_sequence:
        found = dict.fromkeys(str(item.group) for item in Dataset.open(data).items)
        names = tuple(name for name in found if name not in study.test_sequence)
        if not names:
            raise UserError(f"{data}: --test-sequence leaves none to train on; name fewer")
    if shared := set(names) & set(study.test_sequence) if study.test is None else set():
        raise UserError(f"--sequence and --test-sequence share {', '.join(sorted(shared))}; name others")
    return Dataset.open(data, names).pairs()


def _test_part(study: Study, data: Path) -> Dataset | None:
    """Return the images to test on, or None if they are drawn from those of `data`."""
    if study.test is None and not study.test_sequence:
        return None
    return Dataset.open(study.test or data, study.test_sequence).masks()


def open_all(study: Study) -> dict[str, Dataset]:
    """Open every DATA of a study, by its name in results; raises as open_data.

    The name is that of its folder; where several are equal, the folder above is put before it, as in `cells-train`.
    """
    paths = {path: path.resolve() for path in study.data}
    alike = Counter(path.name for path in paths.values())
    return {
        full.name if alike[full.name] == 1 else f"{full.parent.name}-{full.name}": open_data(study, path)
        for path, full in paths.items()
    }


def subset(
    folder: StudyFolder, study: Study, name: str, dataset: Dataset, seed: int, least: int | None = None
) -> tuple[Path, Path]:
    """Return folders of the images to train on and to test on: DATA and --test, or what the seed draws from DATA.

    Raises UserError when fewer than `least` are left to train on.
    """
    tests = _test_part(study, dataset.path)
    pool, test = (dataset.items, tests.items) if tests else split_test(dataset, study.test_share, seed)
    if len(pool) < (least or 1):
        raise UserError(
            f"{dataset.path}: leaves {counted(len(pool), 'image')} to train on, {least} are needed; ask for fewer"
        )
    if study.test is not None and not study.sequence and not study.test_sequence:
        return dataset.path, study.test
    place = name if tests else f"{name}-{seed}"
    with folder.making_data():
        return (
            copy_items(dataset, pool, folder.place("data", place, "train")),
            copy_items(tests or dataset, test, folder.place("data", place, "test")),
        )


def split_test(dataset: Dataset, share: float, seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Draw a share of the items, at least one and never all, to test on; return the others, and those.

    Raises UserError when there is only one item.
    """
    if len(dataset.items) < 2:
        raise UserError(f"{dataset.path}: holds one image; a study needs others to test on, give --test DATA")
    order = np.random.default_rng([seed, 0x7E57]).permutation(len(dataset.items))
    held = set(order[: min(max(1, round(share * len(order))), len(order) - 1)].tolist())
    return (
        tuple(item for i, item in enumerate(dataset.items) if i not in held),
        tuple(item for i, item in enumerate(dataset.items) if i in held),
    )


def copy_items(dataset: Dataset, items: Sequence[Item], path: Path) -> Path:
    """Copy the files of some items to a dataset folder of their own, unless this was done before; return the folder."""
    if not (path / COPIED).exists():
        folder = OutputFolder(path, OWNER)
        for item in items:
            for part, file in (("images", item.image), ("masks", item.mask)):
                if file is not None:
                    _copy(file, folder, f"{part}/{item.name}{file.suffix}")
        kept = {key: dataset.info[key] for key in ("scale", "groups") if key in dataset.info}
        if kept:
            folder.write_json(INFO, kept)
        folder.write_json(COPIED, {"from": dataset.path.name, "items": [item.name for item in items]})
    return path


def _copy(file: Path, folder: OutputFolder, name: str) -> None:
    parts = [part for part in sorted(file.rglob("*")) if part.is_file()] if file.is_dir() else [file]  # zarr
    for part in parts:
        with folder.writing((Path(name) / part.relative_to(file)).as_posix()) as temporary:
            shutil.copyfile(part, temporary)


def write_crops(dataset: Dataset, folder: Path, count: int, side: int, seed: int) -> Path:
    """Cut a window of `side` pixels with cells out of each of `count` images and write them; return their folder.

    With equal seeds a smaller set is part of a larger one. Images without cells are passed over. Raises UserError when
    fewer than `count` have cells.
    """
    if finished(folder):
        return folder
    scale = {} if dataset.scale == 1 else {"scale": dataset.scale}
    writer = DatasetWriter(folder, {"crops_of": dataset.path.name, "seed": seed, **scale}, suffix=".tif")
    written = 0
    for place in np.random.default_rng([seed, 0xC809]).permutation(len(dataset.items)):
        item = dataset.items[place]
        if written == count or item.image is None or item.mask is None:
            continue
        if item.name not in writer.done:
            labels = read_labels(item.mask)
            if not labels.any():
                continue
            window = _window(labels, side, np.random.default_rng([seed, int(place)]))
            writer.add(item.name, read_image(item.image)[:, *window], labels[window])
        written += 1
    if written < count:
        raise UserError(f"{dataset.path}: holds {written} images with cells, --crops asks for {count}")
    writer.finish()
    return folder


def _window(labels: np.ndarray, side: int, draw: np.random.Generator) -> tuple[slice, slice]:
    """Draw a cell, and return rows and columns of a square around it, moved to where it fits into the image."""
    centres = ndimage.center_of_mass(labels > 0, labels, np.unique(labels[labels > 0]))
    middle = centres[draw.integers(len(centres))]
    top, left = (int(np.clip(m - side / 2, 0, max(n - side, 0))) for m, n in zip(middle, labels.shape, strict=True))
    return slice(top, top + side), slice(left, left + side)
