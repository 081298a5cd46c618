"""The demo, at its smallest: everything it promises is there, and nothing is replaced unless told."""

import re
from pathlib import Path

import pytest

from cytoforge.cli import main


def test_the_demo_from_phantoms_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", "--overwrite", "--out", str(tmp_path)]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"
