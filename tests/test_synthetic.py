"""Training with synthetic images beside real ones: how many, when, with which pixels, and never in validation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cells import draw
from conftest import picture, squares
from cytoforge.cells.instances import TARGETS
from cytoforge.cli import main
from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.run import Run
from cytoforge.data.writer import DatasetWriter
from cytoforge.losses import IGNORED
from cytoforge.training.recipes.conventional import classes
from cytoforge.training.samplers.items import Batch, Drawing
from cytoforge.training.samplers.synthetic import Synthetic
from cytoforge.training.samplers.windows import Windows

REAL, PAINTED = 0.5, -0.5
TINY = ["--preset", "tiny", "--threads", "1"]


def source(value: float):
    return lambda i: (np.full((1, 20, 24), value, np.float32), np.full((20, 24), i + 1, np.int32))


def batches(schedule: str = "mix", share: float = 0.5, count: int = 4, ranks: tuple[int, int] = (0, 1)) -> Windows:
    synthetic = Synthetic([Item("s0"), Item("s1"), Item("s2")], source(PAINTED), share, schedule)
    drawing = Drawing(size=(16, 16), count=count, policy="none", seed=3, ranks=ranks)
    return Windows(["a", "b"], source(REAL), drawing, synthetic)


def shares(cut: Windows, progress: float, steps: int = 300) -> float:
    return float(np.mean([cut(step, progress).synthetic for step in range(steps)]))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_is_met_in_the_mean(share: float) -> None:
    """1200 coins: the standard deviation of their mean is 0.0144 at most."""
    assert shares(batches(share=share), 0.3) == pytest.approx(share, abs=0.045 * (0 < share < 1))


def test_images_names_and_flags_belong_together() -> None:
    cut = batches()
    names = set()
    for step in range(60):
        batch = cut(step, 0.1)
        for image, name, synthetic in zip(batch.images, batch.names, batch.synthetic, strict=True):
            assert torch.all(image == (PAINTED if synthetic else REAL))
            assert name.startswith("s") is synthetic
            names.add(name)
    assert names == {"a", "b", "s0", "s1", "s2"}


@pytest.mark.parametrize("schedule", ["mix", "pretrain"])
def test_the_end_is_real_only(schedule: str) -> None:
    cut = batches(schedule, share=1.0)
    assert shares(cut, 0.699, 20) == 1
    assert shares(cut, 0.701, 20) == shares(cut, 1.0, 20) == 0


def test_pretraining_sees_synthetic_windows_first_and_as_many() -> None:
    cut = batches("pretrain", share=0.4)
    assert shares(cut, 0.0, 20) == shares(cut, 0.279, 20) == 1  # 0.4 of the first 0.7
    assert shares(cut, 0.281, 20) == shares(cut, 0.5, 20) == 0


def test_a_window_depends_on_its_own_seed_only() -> None:
    whole, halves = batches(), [batches(ranks=(rank, 2)) for rank in range(2)]
    for step in range(30):
        together, parts = whole(step, 0.2), [half(step, 0.2) for half in halves]
        assert together.names[0::2] == parts[0].names and together.names[1::2] == parts[1].names
        assert together.synthetic[1::2] == parts[1].synthetic
        again = batches()(step, 0.2)
        assert torch.equal(again.images, together.images) and again.names == together.names


def test_without_synthetic_images_nothing_changes() -> None:
    drawing = Drawing(size=(16, 16), count=4, policy="strong", seed=3)
    plain = Windows(["a", "b"], source(REAL), drawing)
    none = Synthetic([Item("s")], source(PAINTED), 0.0, "mix")
    with_none = Windows(["a", "b"], source(REAL), drawing, none)
    for step in range(5):
        one, other = plain(step), with_none(step, 0.5)
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert one.names == other.names


CELLS = draw("""
    ..........
    .AAAABBBB.
    .AAAABBBB.
    .AAAABBBB.
    .AAAABBBB.
    .AAAABBBB.
    ..........
    ..........
    """)


def test_only_synthetic_windows_lose_the_contour_of_their_cells() -> None:
    labels = torch.from_numpy(np.stack([CELLS, CELLS])).long()
    batch = Batch(torch.zeros(2, 1, *CELLS.shape), labels, 0, 0, (0, 1), ("a", "s"), (False, True))
    target = TARGETS["boundary"]
    real, painted = classes(batch, target)
    assert torch.equal(real, target.encode(labels)[0])
    # interior 1, border 2 where the cells touch; background only from the second pixel on
    expected = draw("""
        XXXXXXXXXX
        XXXXXXXXXX
        XXAABBAAXX
        XXAABBAAXX
        XXAABBAAXX
        XXXXXXXXXX
        XXXXXXXXXX
        ..........
        """)
    assert torch.equal(painted, torch.from_numpy(np.where(expected == 24, IGNORED, expected)).long())


def test_without_flags_no_window_is_synthetic() -> None:
    labels = torch.from_numpy(CELLS)[None].long()
    batch = Batch(torch.zeros(1, 1, *CELLS.shape), labels, 0, 0, (0,), ("a",))
    assert torch.equal(classes(batch, TARGETS["semantic"]), (labels != 0).long())


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    writer = DatasetWriter(tmp_path / "painted", {"synthetic": {"by": "test"}})
    for i in range(3):
        writer.add(f"painted_{i}", picture(squares(), seed=50 + i), squares())
    writer.finish()
    return tmp_path / "painted"


def train(data: Path, out: Path, *flags: str) -> int:
    return main(["train", "segmentation", str(data), "--out", str(out), *TINY, *flags])


@pytest.mark.parametrize("schedule", ["mix", "pretrain"])
def test_a_run_with_synthetic_images_says_which(
    schedule: str, tiny_dataset: Path, painted: Path, tmp_path: Path
) -> None:
    flags = ["--steps", "6", "--with", str(painted), "--schedule", schedule, "--synthetic-share", "0.75"]
    assert train(tiny_dataset, tmp_path / "run", *flags) == 0
    run = Run.open(tmp_path / "run")
    assert run.provenance["synthetic_data"] == Dataset.open(painted).pairs().fingerprint()
    assert run.config["training"]["data"]["synthetic"] == {
        "path": str(painted),
        "schedule": schedule,
        "share": 0.75,
    }
    names = [*run.config["training_images"], *run.config["validation_images"]]
    assert sorted(names) == [f"cell_{i}" for i in range(6)]


@pytest.mark.parametrize("schedule", ["mix", "pretrain"])
def test_interrupted_and_continued_equals_uninterrupted(
    schedule: str, tiny_dataset: Path, painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--steps", "12", "--with", str(painted), "--schedule", schedule]
    assert train(tiny_dataset, tmp_path / "whole", *flags) == 0

    def cut_off(self: Windows, step: int, progress: float = 0.0) -> Batch:
        if step == 7:
            raise KeyboardInterrupt
        return whole(self, step, progress)

    whole = Windows.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Windows, "__call__", cut_off)
        assert train(tiny_dataset, tmp_path / "parts", *flags) == 130
    assert train(tiny_dataset, tmp_path / "parts", *flags) == 0
    one, other = (Run.open(tmp_path / name).load_weights("segmenter") for name in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert len(Run.open(tmp_path / "parts").metrics()) == 12


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--with {real}", "does not say that these images are synthetic"),
        ("--with {started}", "is not finished; repeat the command"),
        ("--with {colour}", "has images of 3 channels"),
        ("--with nowhere", "nowhere: does not exist"),
        ("--validation {painted}", "which is no measure of a segmenter"),
        ("--with {painted} --method cyclegan", "--with belongs to --method conventional, not cyclegan"),
        (
            "--with {painted} --synthetic-share 1.5",
            "--synthetic-share 1.5: must be at least 0 and at most 1",
        ),
        ("--condition instances", "--condition belongs to --method cyclegan or two-stage"),
    ],
)
def test_what_makes_no_sense_is_refused(
    flags: str,
    sentence: str,
    tiny_dataset: Path,
    painted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {name: tmp_path / name for name in ("started", "colour")} | {"real": tiny_dataset, "painted": painted}
    started = DatasetWriter(places["started"], {"synthetic": True})
    started.add("a", picture(squares()), squares())
    colour = DatasetWriter(places["colour"], {"synthetic": True})
    colour.add("a", np.concatenate([picture(squares()), picture(squares()) // 2, picture(squares())]), squares())
    colour.finish()
    assert train(tiny_dataset, tmp_path / "run", "--steps", "1", *flags.format(**places).split()) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_training_on_synthetic_images_alone_is_said(painted: Path, tmp_path: Path, capsys) -> None:
    assert train(painted, tmp_path / "run", "--steps", "1") == 0
    assert "these images are synthetic; the validation score says little" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["synthetic_data"] is None
