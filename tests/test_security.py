"""Names and files that mean harm: pages escape them, tables do not run them, and nothing is written outside of OUT."""

import csv
import io
import os
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from conftest import content, picture, squares
from cytoforge.cli import main
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.interchange.imagej import region_set

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows takes no such names")
HTML = "<img src=x onerror=alert(1)>"
FORMULAS = ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1+2", "=HYPERLINK(!x!)"]


class Tags(HTMLParser):
    """Collects the tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands write of a dataset whose images have names of HTML and of formulas."""
    folder = tmp_path_factory.mktemp("security")
    data = folder / f"set {HTML}"
    for number, name in enumerate([HTML, *FORMULAS]):
        write_image(data / "images" / f"{name}.png", picture(squares(), number))
        write_labels(data / "masks" / f"{name}.png", squares())
    out = folder / "out"
    for line in (
        ["measure", str(data), str(data), "--out", str(out / "cells.csv")],
        ["simulate", "masks", "--like", str(data), "--count", "1", "--out", str(out / "masks")],
        ["suggest", "base", str(data / "images"), "--count", "7", "--out", str(out / "next"), "--threads", "1"],
    ):
        assert main(line) == 0
    return out


def test_pages_show_names_and_run_none(written: Path) -> None:
    pages = [page.read_text() for page in written.rglob("*.html")]
    assert len(pages) >= 2 and any("&lt;img" in page for page in pages)
    for tags in (Tags(page).found for page in pages):
        assert not [tag for tag in tags if tag[1].get("src") == "x" or any(name.startswith("on") for name in tag[1])]
        assert sum(tag == "script" for tag, _ in tags) <= 1


def test_no_table_holds_a_formula(written: Path) -> None:
    tables = [*written.rglob("*.csv")]
    assert len(tables) >= 2
    for table in tables:
        with table.open(newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row if cell):
                assert cell[0] not in "=+@\t\r" and (cell[0] != "-" or float(cell) < 0), table


@pytest.mark.parametrize("linked", ["masks", "images", "masks/a.tif", "dataset.json", "manifest.jsonl", ".unfinished"])
def test_nothing_is_written_through_links_in_the_output(
    linked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in" / "a.png", picture(squares()))
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("{}")
    (out / linked).parent.mkdir(parents=True)
    (out / linked).symlink_to(elsewhere if "." not in linked else elsewhere / "file")
    before = content(elsewhere)
    for line in (f"simulate masks --count 1 --size 64x64 --out {out}", f"segment base {tmp_path / 'in'} --out {out}"):
        main([*line.split()])
        capsys.readouterr()
        assert content(elsewhere) == before


def test_links_in_data_that_lead_nowhere_or_in_circles_end_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b").symlink_to(tmp_path / "images")
    assert main(["check", str(tmp_path)]) in (1, 2)
    assert "fault of cytoforge" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../x.roi", "/tmp/x.roi", "a/../../x.roi"])
def test_regions_with_paths_for_names_are_read_in_memory(name: str, tmp_path: Path) -> None:
    data = tmp_path / "in" / "data"
    write_image(data / "a.png", np.zeros((1, 20, 30), np.uint8))
    labels = np.zeros((20, 30), np.int32)
    labels[3:9, 4:12] = 1
    with zipfile.ZipFile(io.BytesIO(region_set(labels, "a.png"))) as packed:
        region = packed.read(packed.namelist()[0])
    with zipfile.ZipFile(data / "a_RoiSet.zip", "w") as archive:
        archive.writestr(name, region)
    before = content(tmp_path)
    assert main(["import", "dataset", str(data), "--out", str(tmp_path / "out")]) == 0
    assert {key: value for key, value in content(tmp_path).items() if not key.startswith("out")} == before
    assert not os.path.lexists("/tmp/x.roi")
