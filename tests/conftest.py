"""Fixtures that several test files share: tiny datasets and movies, and the real data where they exist."""

import gc
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from cytoforge.data.images import write_image, write_labels
from cytoforge.data.manifest import MANIFEST

ROOT = Path(__file__).parents[1]

settings.register_profile("untimed", deadline=None)  # an example takes as long as a busy computer needs
settings.load_profile("untimed")


def _folder(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.is_dir():
        pytest.skip(f"no {path}: set {variable} to run the tests that need it")
    return path


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Keep what all tests import out of the collections of garbage to come, which would take a tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with usiigaci, dsb256, u373, hela and usiigaci_movie; skips where it is absent."""
    return _folder("CYTOFORGE_DATA", ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """The folder with the feature networks' weights; skips where it is absent."""
    return _folder("CYTOFORGE_WEIGHTS", ROOT.parent / "shared" / "weights")


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """Open a studio on a folder, as often as asked; all are closed at the end."""
    from studio_server import studio  # needs the packages of an extra

    with ExitStack() as studios:
        yield lambda *arguments: studios.enter_context(studio(*arguments))


@pytest.fixture(autouse=True)
def no_fetched_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever somebody has fetched into the cache of this computer is not found."""
    monkeypatch.setattr("cytoforge.data.weights.default_folder", lambda: tmp_path / "no cache" / "weights")


@pytest.fixture(scope="module")
def short_trainings() -> Iterator[None]:
    """For tests of what a training leads to: no curves are drawn, and linkers learn from one simulated movie.

    Either takes longer than a few steps.
    """
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytoforge.report.training_curves", lambda rows: Figure((1, 1)))
        patch.setattr("cytoforge.training.samplers.lineages.SIMULATED", 1)
        yield


def squares(shape: tuple[int, int] = (64, 64), side: int = 12, pitch: int = 16, margin: int = 2) -> np.ndarray:
    """Labels int32: squares of `side` pixels every `pitch` pixels, numbered row by row."""
    labels = np.zeros(shape, np.int32)
    for y in range(margin, shape[0] - side, pitch):
        for x in range(margin, shape[1] - side, pitch):
            labels[y : y + side, x : x + side] = labels.max() + 1
    return labels


def picture(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """A grey image uint8 (1, H, W) of labels: bright noisy cells on a darker noisy ground."""
    noise = np.random.default_rng(seed).normal(0, 8, labels.shape)
    return np.clip(60 + 120 * (labels > 0) + noise, 0, 255).astype(np.uint8)[None]


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of all files but the manifest, which also lists what was written before an interruption."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MANIFEST)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def write_movie(path: Path, masks: dict[int, np.ndarray], tracks: tuple[tuple[int, ...], ...], **info: object) -> Path:
    """Frames whose grey value is the column, masks and track file."""
    for number, labels in masks.items():
        image = np.tile(np.arange(labels.shape[1], dtype=np.uint8), (1, labels.shape[0], 1))
        write_image(path / "01" / f"t{number:03d}.tif", image)
        write_labels(path / "01_GT" / "TRA" / f"man_track{number:03d}.tif", labels)
    (path / "01_GT" / "TRA" / "man_track.txt").write_text("".join(f"{' '.join(map(str, row))}\n" for row in tracks))
    if info:
        (path / "dataset.json").write_text(json.dumps(info))
    return path


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Path:
    """A dataset folder with six pairs cell_0 ... cell_5 of 64 x 64 pixels, 16 cells each, all different."""
    labels = squares()
    for i in range(6):
        write_image(tmp_path / "tiny" / "images" / f"cell_{i}.png", picture(labels, seed=i))
        write_labels(tmp_path / "tiny" / "masks" / f"cell_{i}.png", labels)
    return tmp_path / "tiny"


@pytest.fixture
def tiny_movie(tmp_path: Path) -> Path:
    """A movie folder: 01 and 02 of 5 frames, 48 x 56, with silver masks; 01 also has gold tracks 1 and 2, 2 from 1."""
    path = tmp_path / "movie"
    for sequence in ("01", "02"):
        for t in range(5):
            labels = np.roll(np.pad(squares((48, 48)), ((0, 0), (0, 8))), t, axis=1)
            write_image(path / sequence / f"t{t:03d}.tif", picture(labels, seed=t + 10 * int(sequence)))
            write_labels(path / f"{sequence}_ST" / "SEG" / f"man_seg{t:03d}.tif", labels)
    for t in range(5):
        tracked = np.zeros((48, 56), np.int32)
        tracked[10:14, 10:14] = 1 if t < 3 else 2
        write_labels(path / "01_GT" / "TRA" / f"man_track{t:03d}.tif", tracked)
    (path / "01_GT" / "TRA" / "man_track.txt").write_text("1 0 2 0\n2\t3\t4\t1\n")
    return path
