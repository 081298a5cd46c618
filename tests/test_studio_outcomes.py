"""What the studio gives out: tables of cells, files for other programs, scores, and simulated masks with paintings."""

import base64
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import roifile
from PIL import Image

from conftest import picture, squares
from cytoforge.cli import main
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.interchange.tables import in_words
from cytoforge.errors import UserError
from cytoforge.report import colour_labels
from cytoforge.studio import queue as queues
from cytoforge.studio import simulator
from cytoforge.studio.results import pack, read_table, told_of_table
from cytoforge.studio.scores import read_scores, write_scores
from cytoforge.studio.simulator import Chosen
from cytoforge.studio.workspace import Workspace
from studio_server import Opened, wait

Opening = Callable[..., Opened]
SLIDERS = {
    "density": 0.3,
    "magnification": 1.2,
    "touching": 0.5,
    "variation": 1,
    "layout": "mixed",
    "gap": 1,
    "seed": 7,
}
# Stands for the commands: it finds the cells as they are, and writes two masks where some are to be simulated.
PRETENDED = """
import json, pathlib, shutil, sys
folder = pathlib.Path(sys.argv[1])
command = json.loads((folder / "job.json").read_text())["command"]
out = pathlib.Path(command[command.index("--out") + 1])
if command[0] == "segment":
    shutil.copytree(pathlib.Path(command[2]) / "masks", out / "masks")
else:
    (out / "masks").mkdir(parents=True)
    for name in "ab":
        (out / "masks" / f"{name}.png").touch()
    (out / "dataset.json").write_text('{"complete": true}')
(folder / "status").write_text("0")
"""


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Three images, of which the first two have masks."""
    folder = tmp_path / "cells"
    for number in range(3):
        write_image(folder / "images" / f"a{number}.tif", picture(squares(), number))
        if number < 2:
            write_labels(folder / "masks" / f"a{number}.tif", squares())
    return folder


@pytest.fixture
def pretending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "pretended.py"
    script.write_text(PRETENDED)
    monkeypatch.setattr(queues, "WORKER", (sys.executable, str(script)))


def drawn(answer: httpx.Response) -> np.ndarray:
    """The picture of an answer, (H, W) or (H, W, 3)."""
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["picture"].partition(",")[2]))))


# the table


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("area_um2", ("area", "µm²")),
        ("major_axis_px", ("major axis", "px")),
        ("orientation_degrees", ("orientation", "degrees")),
        ("density_per_mm2", ("density", "per mm²")),
        ("density_per_megapixel", ("density", "per megapixel")),
        ("corrected_total_1", ("corrected total 1", "")),
        ("label", ("label", "")),
    ],
)
def test_columns_in_words(column: str, words: tuple[str, str]) -> None:
    assert in_words(column) == words


def test_a_table_is_sorted_and_sent_by_parts(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("image,label,area_px2\n007,1,5\nf10,2,\nf2,3,20\nf2,4,9\n")
    table = read_table(path)
    assert table.rows("", 0, 9, down=False)["rows"] == [("007", 1, 5), ("f10", 2, None), ("f2", 3, 20), ("f2", 4, 9)]
    by_area = [[row[1] for row in table.rows("area_px2", 0, 9, down=down)["rows"]] for down in (False, True)]
    assert by_area == [[1, 4, 3, 2], [3, 4, 1, 2]]  # what has no area comes last
    assert [row[0] for row in table.rows("image", 0, 9, down=False)["rows"]] == ["007", "f2", "f2", "f10"]
    part = table.rows("label", 1, 2, down=False)
    assert [row[1] for row in part["rows"]] == [2, 3] and part["total"] == 4
    assert part["columns"][2] == {"name": "area_px2", "title": "area", "unit": "px²"}
    assert told_of_table(path) == "4 cells measured in 3 images."
    with pytest.raises(ValueError, match="there is no column 'x'"):
        table.rows("x", 0, 9, down=False)


def test_a_table_without_cells_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("image,label,area_px2\n")
    assert read_table(path).rows("area_px2", 0, 9, down=True)["rows"] == []


def test_cells_are_measured_and_written_for_other_programs(cells: Path, opened: Opening, tmp_path: Path) -> None:
    client, space, *_ = opened(cells)
    assert client.post("/api/measure", json={"pixel_size": 0.5}).json() == {"number": 1}
    assert client.post("/api/export", json={"format": "roi"}).json() == {"number": 2}
    count = int(squares().max())
    assert wait(client, 1)["message"] == f"{2 * count} cells measured in 2 images."
    table = client.get("/api/jobs/1/table?sort=label&down=1").json()
    assert [column["unit"] for column in table["columns"]][:5] == ["", "", "µm", "µm", "µm²"]
    assert table["total"] == 2 * count and table["rows"][0][:2] == ["a0", count]
    assert table["rows"][0][4] == 144 * 0.25
    assert client.get("/api/jobs/1/changed").json() == {"changed": False, "later": 0}
    out = tmp_path / "by-hand.csv"
    assert main(["measure", str(space.path), str(space.path), "--pixel-size", "0.5", "--out", str(out)]) == 0
    answer = client.get("/api/jobs/1/files/cells.csv")
    assert answer.content == out.read_bytes() and "cells-studio-cells.csv" in answer.headers["content-disposition"]
    assert client.get("/api/jobs/1/files/cells-summary.png").content[:4] == b"\x89PNG"
    assert "sandbox" in client.get("/api/jobs/1/files/cells.html").headers["content-security-policy"]
    assert client.get("/api/jobs/1/files/job.json").status_code == 404
    assert client.get("/api/jobs/2/table").status_code == 404
    # a row is found in the image
    assert client.get("/api/images/a0/cells/1").json() == {"x": 2, "y": 2, "width": 12, "height": 12}
    draft = space.draft("a0")
    draft.edit({"tool": "delete", "points": [[5, 5]]}, draft.revision)
    space.mark("a2", done=True)
    assert "has no cell 1 any more" in client.get("/api/images/a0/cells/1").json()["error"]
    assert client.get("/api/jobs/1/changed").json() == {"changed": True, "later": 1}
    # regions of ImageJ
    assert wait(client, 2)["message"] == "2 files for 2 images."
    archive = zipfile.ZipFile(io.BytesIO(client.get("/api/jobs/2/files/cells.zip").content))
    assert archive.namelist() == ["a0_RoiSet.zip", "a1_RoiSet.zip"]
    archive.extractall(tmp_path / "regions")
    assert len(roifile.roiread(tmp_path / "regions" / "a1_RoiSet.zip")) == count


def test_masks_in_work_are_measured_if_asked_for(cells: Path, opened: Opening, pretending: None) -> None:
    client, space, *_ = opened(cells)
    draft = space.draft("a2")
    draft.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, draft.revision)
    for number, (drafts, names) in enumerate([(False, ["a0", "a1"]), (True, ["a0", "a1", "a2"])], 1):
        assert client.post("/api/measure", json={"drafts": drafts}).status_code == 200
        folder = space.hidden / "jobs" / f"{number:04d}" / "in"
        assert sorted(path.stem for path in (folder / "masks").iterdir()) == names
        assert space.is_unchanged(folder)


def test_an_export_without_cells_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="no cells were written"):
        pack(tmp_path, "coco")


@pytest.mark.parametrize(
    ("path", "wanted", "why"),
    [
        ("measure", {"pixel_size": -1}, "a pixel is 1e-6"),
        ("measure", {"pixel_size": "x"}, "a number is missing"),
        ("export", {"format": "rm"}, "there is no format 'rm'"),
        ("score", {"model": "run-7"}, "there is no run"),
        ("painter", {"minutes": 0}, "a training takes"),
        ("simulate", SLIDERS | {"count": 10**6}, "can be simulated at once"),
        ("simulate", SLIDERS | {"count": 2, "painter": "x"}, "there is no image generator"),
        ("simulator/painting", SLIDERS, "there is no image generator"),
        ("simulator/mask", SLIDERS | {"density": 2}, "density goes from"),
        ("simulator/mask", SLIDERS | {"layout": "spiral"}, "there is no layout"),
        ("simulator/mask", SLIDERS | {"gap": 1000}, "gap goes from"),
        ("simulator/mask", {}, "a number is missing"),
    ],
)
def test_what_cannot_be_done_is_refused(
    path: str, wanted: dict[str, Any], why: str, cells: Path, opened: Opening
) -> None:
    client, *_ = opened(cells)
    answer = client.post(f"/api/{path}", json=wanted)
    assert answer.status_code in (400, 422) and why in answer.json()["error"]
    assert client.get("/api/state").json()["jobs"] == []


@pytest.mark.parametrize("path", ["measure", "score", "painter", "simulator/mask"])
def test_nothing_comes_of_images_that_are_not_finished(path: str, tmp_path: Path, opened: Opening) -> None:
    write_image(tmp_path / "b.tif", picture(squares()))
    client, *_ = opened(tmp_path / "b.tif")
    wanted = SLIDERS | {"model": "base", "minutes": 1}
    answer = client.post(f"/api/{path}", json=wanted)
    assert answer.status_code == 422 and "no image is finished yet" in answer.json()["error"]


# scores


def test_scores_name_the_worst_image_first_and_what_was_trained_on(tmp_path: Path) -> None:
    truth = np.zeros((40, 40), np.int32)
    truth[:10, :10], truth[20:30, 20:30] = 1, 2
    half = np.where(truth == 1, 1, 0).astype(np.int32)
    half[20:23, 20:30], half[35:, 35:] = 2, 3  # an overlap of 0.3, and a cell that is none
    for name, found in (("known", truth), ("new", half), ("empty", np.zeros_like(truth))):
        image = truth if name != "empty" else np.zeros_like(truth)
        write_labels(tmp_path / "job" / "in" / "masks" / f"{name}.tif", image)
        write_labels(tmp_path / "job" / "out" / "masks" / f"{name}.tif", found)
    space = Workspace(tmp_path / "space")
    space._found("new", truth)
    flatters = "1 of 3 masks is just as a model found them, which flatters the model."
    assert write_scores(space, tmp_path / "job", ["known"]) == f"F is 0.40 on 2 images. {flatters}"
    scores = read_scores(tmp_path / "job")
    assert [image["name"] for image in scores["images"]] == ["new", "known", "empty"]
    new = scores["images"][0]
    assert (new["true"], new["found"], new["missed"], new["wrong"]) == (2, 3, 1, 2)
    assert new["f_score"] == pytest.approx(0.4)
    assert new["as_found"] and not new["learned"] and scores["images"][1]["learned"]
    assert scores["images"][2]["f_score"] is None
    assert scores["learned"]["value"] == 1 and scores["new"]["images"] == 2
    assert write_scores(space, tmp_path / "job", ["known", "new", "empty"]).endswith(
        f"3 images it learned from. {flatters}"
    )
    assert read_scores(tmp_path / "job")["new"] is None


def test_what_a_model_began_from_counts_as_learned(cells: Path, opened: Opening, pretending: None) -> None:
    client, space, *_ = opened(cells)
    for number, learned in ((1, "a0"), (2, "a1")):
        content = {"format": 1, "training_images": [learned], "validation_images": []}
        folder = space.path / f"run-{number}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(content))
        (folder / "provenance.json").write_text("{}")
    assert client.post("/api/score", json={"model": "run-2"}).json() == {"number": 1}
    assert "F is 1.00 on 1 image." in wait(client, 1)["message"]
    # the training of run-2 is asked for, and started from run-1
    job = json.loads((space.hidden / "jobs" / "0001" / "job.json").read_text())
    training = {**job, "number": 2, "kind": "train", "asked": {"run": "run-2", "start": "run-1", "images": ["a1"]}}
    (space.hidden / "jobs" / "0002").mkdir()
    (space.hidden / "jobs" / "0002" / "job.json").write_text(json.dumps(training))
    client, *_ = opened(space.path)
    assert client.post("/api/score", json={"model": "run-2"}).json() == {"number": 3}
    assert "it learned from" in wait(client, 3)["message"]
    scores = client.get("/api/jobs/3/scores").json()
    assert scores["model"] == "run-2" and [image["learned"] for image in scores["images"]] == [True, True]


# simulated masks


def test_the_mask_shown_is_the_first_one_that_the_command_writes(
    cells: Path, opened: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, space, *_ = opened(cells)
    begin = client.get("/api/simulator").json()
    assert begin["yours"] == {"masks": 2, "cells": [16, 16], "coverage": pytest.approx(16 * 144 / 4096)}
    assert begin["painters"] == [] and begin["begin"]["density"] == begin["yours"]["coverage"]
    answer = client.post("/api/simulator/mask", json=SLIDERS)
    out = tmp_path / "out"
    line = ["simulate", "masks", "--like", str(cells), "--out", str(out), "--count", "1"]
    assert main([*line, *Chosen.of(SLIDERS, 1.0).flags()]) == 0
    labels = read_labels(out / "masks" / "simulated0000.png")
    assert np.array_equal(drawn(answer), colour_labels(labels))
    assert answer.json()["cells"] == labels.max() and answer.json()["coverage"] == pytest.approx((labels > 0).mean())
    denser = client.post("/api/simulator/mask", json=SLIDERS | {"density": 0.6}).json()
    assert denser["coverage"] > answer.json()["coverage"] + 0.2
    monkeypatch.setattr(simulator, "WINDOW", 40)
    assert drawn(client.post("/api/simulator/mask", json=SLIDERS)).shape == (40, 40, 3)
    space.mark("a1", done=False)  # the sliders begin at what is finished now
    assert client.get("/api/simulator").json()["yours"]["masks"] == 1


def test_the_painting_shown_is_the_first_one_that_the_command_writes(
    cells: Path, opened: Opening, tmp_path: Path
) -> None:
    client, space, *_ = opened(cells)
    painter = space.path / "painter-1"
    line = ["train", "generator", str(cells), "--out", str(painter), "--preset", "tiny", "--threads", "1"]
    assert main([*line, "--steps", "1", "--condition", "instances", "--scale", "0.5"]) == 0
    wanted = SLIDERS | {"painter": "painter-1"}
    (entry,) = client.get("/api/simulator").json()["painters"]
    assert entry["name"] == "painter-1" and "on validation" in entry["told"]
    shown = drawn(client.post("/api/simulator/painting", json=wanted))
    flags = Chosen.of(wanted, 0.5).flags()
    masks, out = str(tmp_path / "simulated"), tmp_path / "out"
    assert main(["simulate", "masks", "--like", str(cells), "--out", masks, "--count", "1", *flags]) == 0
    assert main(["generate", "images", str(painter), masks, "--out", str(out), "--seed", "7"]) == 0
    written = read_image(out / "images" / "simulated0000.png")[0]
    assert written.shape == (32, 32) and np.array_equal(shown, written >> 8)


def test_simulated_masks_are_painted_once_and_trained_on_with_the_others(
    cells: Path, opened: Opening, pretending: None
) -> None:
    client, space, *_ = opened(cells)
    painter = space.path / "painter-1"
    painter.mkdir()
    networks = {"generator": {"network": "style-unet"}}
    (painter / "config.json").write_text(json.dumps({"format": 1, "networks": networks, "scale": 0.5}))
    (painter / "provenance.json").write_text(json.dumps({"finished": "2026-01-01T00:00:00+00:00"}))
    wanted = SLIDERS | {"painter": "painter-1", "count": 2}
    assert client.post("/api/simulate", json=wanted).json() == {"number": 1}
    assert wait(client, 1)["message"] == "2 masks simulated in simulated-1."
    assert wait(client, 2)["message"] == "2 images painted in painted-1."
    commands = [
        json.loads((space.hidden / "jobs" / f"000{number}" / "job.json").read_text())["command"] for number in (1, 2)
    ]
    assert " ".join(commands[0]).endswith("--variation 1 --gap 1 --seed 7 --scale 0.5")
    paths = [str(space.path / name) for name in ("painter-1", "simulated-1", "painted-1")]
    assert commands[1] == ["generate", "images", paths[0], paths[1], "--out", paths[2], "--seed", "7"]
    state = client.get("/api/state").json()
    assert state["painted"] == ["painted-1"] and len(state["jobs"]) == 2
    job = space.hidden / "jobs" / "0001" / "job.json"  # as when the studio was killed at the end of the simulation
    job.write_text(json.dumps(json.loads(job.read_text()) | {"state": "running"}))
    (space.path / "simulated-1" / "masks" / "a.png").unlink()
    client, *_ = opened(space.path)
    assert wait(client, 1)["state"] == "done" and len(client.get("/api/state").json()["jobs"]) == 2
    train = {"kind": "train", "minutes": 1, "model": "base", "painted": "painted-1"}
    number = client.post("/api/jobs", json=train).json()["number"]
    command = json.loads((space.hidden / "jobs" / f"000{number}" / "job.json").read_text())["command"]
    assert command[-2:] == ["--with", paths[2]]
    answer = client.post("/api/jobs", json=train | {"painted": "../cells"})
    assert answer.status_code == 422 and "there are no painted images" in answer.json()["error"]
