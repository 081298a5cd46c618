"""The demo, at its smallest: everything it promises is there, and nothing is replaced unless told."""

import re
from pathlib import Path

import pytest

from cytoforge.cli import main
from cytoforge.commands.demo import MINUTES, held_out, mean_score, run_way, write_phantoms
from cytoforge.data.run import Run
from cytoforge.inference.segmenter import Segmenter
from cytoforge.places import SCRATCH
from cytoforge.settings import TrainSegmentation


def test_the_demo_from_phantoms_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MINUTES, "tiny", 0.005)
    out = tmp_path / "demo"
    assert main(["demo", "--preset", "tiny", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("at IoU 0.5") == 5
    assert shown.count("best on validation: use this one") == 1
    page = (out / "report.html").read_text()
    for part in (
        "Otsu + watershed",
        "base model, no annotation",
        "paper&#39;s",
        "cytoforge&#39;s defaults",
        "warm start",
        "synthetic",
    ):
        assert part in page, part
    assert page.count("data:image/png;base64,") >= 4 * 7 + 4 * 5
    text = re.sub(r"base64,[\w+/=]+", "", page)  # any word may turn up in a picture
    assert "http" not in text.replace("http://www.w3.org", "")
    assert main(["demo", "--preset", "tiny", "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    (out / "report.html").unlink()  # as an interrupted demo leaves it: trainings are not repeated
    weights = out / "runs" / "3" / "weights" / "generator.safetensors"
    before = weights.stat().st_mtime_ns
    assert main(["demo", "--preset", "tiny", "--out", str(out)]) == 0
    assert weights.stat().st_mtime_ns == before
    assert (out / "report.html").exists()


def test_validation_counts_cells_whatever_is_learned(tmp_path: Path) -> None:
    """Also where a training is validated by the protocol of the papers, by which scores are higher."""
    write_phantoms(tmp_path / "data", 4, first=0)
    way = TrainSegmentation(
        data=tmp_path / "data", out=tmp_path / "run", preset="tiny", steps=60, target="semantic", start=SCRATCH
    )
    held = held_out(way)
    result = run_way("semantic", way, tmp_path / "data", held, tmp_path / "found")
    found = [(labels, Segmenter.load(way.out).segment(image)) for image, labels in held]
    assert result.validation == pytest.approx(mean_score(found))
    told = max(float(row["validation"]) for row in Run.open(way.out).metrics())
    assert told != pytest.approx(result.validation, abs=0.01)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", "--overwrite", "--out", str(tmp_path)]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"
