"""`cytoforge simulate masks`: folders in, folders out, what is said, resumed and refused."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

from cells import NOTHING
from cytoforge.cli import main
from cytoforge.commands.simulate import simulate_masks
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import write_json
from cytoforge.data.images import write_image, write_labels
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import morphology
from cytoforge.settings import SimulateMasks
from cytoforge.simulated import masks as module
from cytoforge.simulation.phantom import phantom

BINARY = np.zeros((40, 60), np.int32)
BINARY[5:15, 5:17] = BINARY[5:15, 30:42] = BINARY[22:34, 30:40] = 255


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    for seed, size in enumerate([(128, 128), (128, 128), (96, 160)]):
        image, labels = phantom(seed, size, 20)
        write_image(folder / "images" / f"dish{seed}.png", image[None])
        write_labels(folder / "masks" / f"dish{seed}.png", labels)
    return folder


def run(out: Path, **settings: object) -> dict[str, np.ndarray]:
    """Simulate, and read what was written."""
    assert simulate_masks(SimulateMasks(out=out, **settings)) == out  # type: ignore[arg-type]
    return written(out)


def written(out: Path) -> dict[str, np.ndarray]:
    found = Dataset.open(out)
    return {item.name: found.read_labels(item) for item in found.items}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_from_phantoms_to_masks_statistics_and_report(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["simulate", "masks", "--like", str(phantoms), "--out", str(out), "--count", "6"]) == 0
    masks = written(out)
    assert list(masks) == [f"simulated{index:04d}" for index in range(6)]
    cells = sum(int(labels.max()) for labels in masks.values())
    assert f"{out / 'masks'}: 6 masks with {cells} cells" in capsys.readouterr().out
    files = {"dataset.json", "manifest.jsonl", "statistics.json", "report.html"}
    assert {path.name for path in out.iterdir()} == {"masks", *files}

    info = Dataset.open(out).info
    assert info["complete"]
    synthetic = info["synthetic"]
    assert synthetic["settings"]["seed"] == 0 and synthetic["settings"]["layout"] == "mixed"
    assert synthetic["source"]["items"] == 3 and len(synthetic["source"]["sha256"]) == 64
    real = {item.name: Dataset.open(phantoms).read_labels(item) for item in Dataset.open(phantoms).items}
    for index, (name, labels) in enumerate(masks.items()):
        record, measure = info["files"][name], morphology(labels)
        assert (record["seed"], record["cells"], record["coverage"]) == ([0, index], measure.count, measure.coverage)
        model = real[record["model"]]
        assert labels.shape == model.shape
        assert record["density"] == pytest.approx((model > 0).mean())
        assert record["coverage"] == pytest.approx(record["density"], abs=0.03)
    assert {labels.shape for labels in masks.values()} == {(128, 128), (96, 160)}

    stored = json.loads((out / "statistics.json").read_text())
    areas = np.concatenate([np.bincount(labels.ravel())[1:] for labels in masks.values()])
    assert stored["simulated"]["area"]["values"] == areas.size
    assert stored["simulated"]["area"]["median"] == np.median(areas)
    assert stored["real"]["count"]["median"] == np.median([labels.max() for labels in real.values()])
    assert 0 < stored["distance"]["area"] < 0.25

    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1 + 2 * 4
    for part in ("Kolmogorov-Smirnov", "real, its model", "simulated0003", "share of cells that touch"):
        assert part in page, part
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", page)


def test_mask_k_depends_on_the_seed_and_k_only(phantoms: Path, tmp_path: Path) -> None:
    three = run(tmp_path / "three", like=phantoms, count=3, seed=4)
    five = run(tmp_path / "five", like=phantoms, count=5, seed=4)
    other = run(tmp_path / "other", like=phantoms, count=3, seed=5)
    assert same(three, dict(list(five.items())[:3]))
    assert not any(np.array_equal(five[a], five[b]) for a, b in zip(list(five), list(five)[1:], strict=False))
    assert not np.array_equal(other["simulated0000"], three["simulated0000"])


def test_without_data_cells_have_the_shapes_of_a_model(tmp_path: Path) -> None:
    out = tmp_path / "out"
    masks = run(out, count=2, density=30, diameter=20, size="120x200")
    assert [labels.shape for labels in masks.values()] == [(120, 200)] * 2
    assert [labels.max() for labels in masks.values()] == [30, 30]
    whole = np.concatenate([np.bincount(labels.ravel())[1:] for labels in masks.values()])
    assert 2 * np.sqrt(np.median(whole) / np.pi) == pytest.approx(20, rel=0.2)
    assert Dataset.open(out).info["synthetic"]["source"] is None
    assert Dataset.open(out).info["files"]["simulated0000"]["model"] is None
    stored = json.loads((out / "statistics.json").read_text())
    assert stored["real"] is None and stored["distance"] is None
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 1 + 2
    plain = run(tmp_path / "plain", count=1)["simulated0000"]
    assert plain.shape == (256, 256)
    assert (plain > 0).mean() == pytest.approx(0.2, abs=0.02)


def test_scale_and_magnification(phantoms: Path, tmp_path: Path) -> None:
    def median_area(name: str, **settings: object) -> float:
        masks = run(tmp_path / name, like=phantoms, count=4, layout="scattered", size="256x256", density=20, **settings)
        return float(np.median(np.concatenate([np.bincount(labels.ravel())[1:] for labels in masks.values()])))

    plain = median_area("plain")
    assert median_area("half", scale=0.5) == pytest.approx(plain / 4, rel=0.25)
    assert median_area("double", magnification=2) == pytest.approx(plain * 4, rel=0.25)
    default = run(tmp_path / "default", like=phantoms, count=4, scale=0.5)
    assert {labels.shape for labels in default.values()} <= {(64, 64), (48, 80)}


@pytest.mark.parametrize(("layout", "gap"), [("scattered", 2), ("colony", 0), ("colony", 2), ("mixed", 1)])
def test_layouts_and_gap(phantoms: Path, tmp_path: Path, layout: str, gap: int) -> None:
    (labels,) = run(tmp_path / "out", like=phantoms, count=1, layout=layout, gap=gap, density=25).values()
    assert labels.max() == 25
    touching = morphology(labels).touching
    assert touching > 0.9 if (layout, gap) == ("colony", 0) else touching == 0


def test_touching_is_as_told_or_as_in_the_masks(phantoms: Path, tmp_path: Path) -> None:
    few, many = (
        morphology(run(tmp_path / str(share), like=phantoms, count=1, density=25, touching=share)["simulated0000"])
        for share in (0.0, 1.0)
    )
    assert few.touching < 0.2 < 0.8 < many.touching
    told = json.loads((tmp_path / "1.0" / "dataset.json").read_text())["synthetic"]["settings"]
    assert told["touching"] == 1.0 and told["variation"] == 1.0


def test_too_many_cells_are_said_and_not_waited_for(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (labels,) = run(tmp_path / "out", like=phantoms, count=1, density=5000, size="64x64").values()
    said = f"simulated0000: no more room; {labels.max()} of 5000 cells"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "report.html").read_text()
    (labels,) = run(tmp_path / "gap", like=phantoms, count=1, density=0.7, gap=10, size="96x96").values()
    assert f"coverage {(labels > 0).mean():.3f} of 0.700" in capsys.readouterr().out


def test_masks_alone_and_movies_are_models_too(phantoms: Path, tiny_movie: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms / "masks", tmp_path / "labels")
    whole = run(tmp_path / "a", like=phantoms, count=2)
    assert same(whole, run(tmp_path / "b", like=phantoms / "masks", count=2))
    assert same(whole, run(tmp_path / "c", like=tmp_path / "labels", count=2))
    frames = run(tmp_path / "d", like=tiny_movie, count=2, sequence=("01",))
    assert all(labels.max() >= 1 for labels in frames.values())


def test_interrupted_work_goes_on(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", like=phantoms, count=4)
    out = tmp_path / "out"
    simulated, made = module._simulated, []

    def stops(*arguments: object) -> np.ndarray:
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return simulated(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_simulated", stops)
    assert main(["simulate", "masks", "--like", str(phantoms), "--out", str(out), "--count", "4"]) == 130
    assert len(written(out)) == 2
    with pytest.raises(UserError, match="unfinished work with another density, seed; repeat its command to go on"):
        simulate_masks(SimulateMasks(out=out, like=phantoms, count=4, seed=1, density=0.3))
    assert same(whole, run(out, like=phantoms, count=4))
    assert len(made) == 3 + 2
    for name in ("statistics.json", "dataset.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_nothing_is_replaced_unless_told(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(out, like=phantoms, count=2)
    for seed in (0, 1):
        with pytest.raises(UserError, match=r"holds results already; .*--overwrite"):
            simulate_masks(SimulateMasks(out=out, like=phantoms, count=2, seed=seed))
    assert same(first, written(out))
    assert not same(first, run(out, like=phantoms, count=2, seed=1, overwrite=True))
    mine = tmp_path / "mine"
    write_labels(mine / "masks" / "a.png", NOTHING)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "report.html").write_text("mine")
    write_json(tmp_path / "painted" / "dataset.json", {"written_by": "cytoforge", "synthetic": {"by": "a painter"}})
    for name, sentence in (
        ("mine", "did not write"),
        ("foreign", r"holds report.html and is no dataset"),
        ("painted", "another kind, by a painter; choose another folder"),
    ):
        before = {path: path.stat() for path in (tmp_path / name).rglob("*")}
        with pytest.raises(UserError, match=sentence):
            simulate_masks(SimulateMasks(out=tmp_path / name, like=phantoms, count=1, overwrite=True))
        assert {path: path.stat() for path in (tmp_path / name).rglob("*")} == before


@pytest.mark.parametrize("part", [".", "masks", "new"])
def test_the_model_is_not_written_into(phantoms: Path, part: str) -> None:
    before = sorted(phantoms.rglob("*"))
    with pytest.raises(UserError, match="which --like takes as a model; give another --out"):
        simulate_masks(SimulateMasks(out=phantoms / part, like=phantoms, overwrite=True))
    assert sorted(phantoms.rglob("*")) == before


def test_masks_without_cells_or_without_whole_cells_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / "empty" / "masks" / "a.png", NOTHING)
    with pytest.raises(UserError, match="the masks hold no cells"):
        simulate_masks(SimulateMasks(out=tmp_path / "out", like=tmp_path / "empty"))
    write_labels(tmp_path / "cut" / "masks" / "a.png", np.ones((30, 30), np.int32))
    with pytest.raises(UserError, match="every cell is cut by the edge of its image"):
        simulate_masks(SimulateMasks(out=tmp_path / "out2", like=tmp_path / "cut"))
    for name, labels in (("a", BINARY), ("b", BINARY.T), ("nothing", NOTHING)):
        write_labels(tmp_path / "binary" / "masks" / f"{name}.png", labels)
    with pytest.raises(UserError, match=r"a\.png: one value \(255\) for 3 separate regions: a binary mask; number"):
        simulate_masks(SimulateMasks(out=tmp_path / "out2", like=tmp_path / "binary"))
    write_labels(tmp_path / "binary" / "masks" / "a.png", label(BINARY))
    with pytest.raises(UserError, match=r"b\.png: one value \(255\) for 3 separate regions"):  # one of them will do
        simulate_masks(SimulateMasks(out=tmp_path / "out2", like=tmp_path / "binary"))
    write_labels(tmp_path / "binary" / "masks" / "b.png", label(BINARY.T))
    simulate_masks(SimulateMasks(out=tmp_path / "numbered", like=tmp_path / "binary", count=1))
    (tmp_path / "pictures" / "images").mkdir(parents=True)
    write_image(tmp_path / "pictures" / "images" / "a.png", np.zeros((1, 30, 30), np.uint8))
    with pytest.raises(UserError, match="holds no masks"):
        simulate_masks(SimulateMasks(out=tmp_path / "out3", like=tmp_path / "pictures"))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "--density 0.8",
            "--density 0.8: below 1 it is the share of the image that cells cover, at most 0.7",
        ),
        ("--density 0", "--density 0: must be above 0, such as 0.3 for coverage or 150 for cells"),
        ("--density 20.5", "--density 20.5: from 1 on it is a whole number of cells, such as 150"),
        ("--size 512", "--size 512: must be written like 512x768, height x width in pixels"),
        ("--size 0x5", "--size 0x5"),
        ("--like x --diameter 20", "--diameter is for cells without --like"),
        ("--scale 0.5", "--scale resizes the masks of --like, which is not given"),
        ("--sequence 01", "--sequence picks from the movie folder of --like"),
        ("--gap -1", "--gap -1: must be at least 0 and at most 100, such as 0"),
        ("--count 0", "--count 0: must be at least 1, such as 10"),
        ("--magnification 0", "--magnification 0"),
        ("--like no/such/folder", "no/such/folder: does not exist"),
    ],
)
def test_mistakes_are_one_sentence(
    line: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "masks", "--out", str(tmp_path / "out"), *line.split()]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("part", "scale", "count"), [("usiigaci/val", 0.333, 5), ("dsb256/val", 1.0, 30)])
def test_like_real_cells(real_data: Path, tmp_path: Path, part: str, scale: float, count: int) -> None:
    """Areas and shapes are those of the data within what few images can tell; density and touching likewise."""
    out = tmp_path / "out"
    run(out, like=real_data / part, scale=scale, count=count)
    stored = json.loads((out / "statistics.json").read_text())
    assert stored["distance"]["area"] < 0.15
    assert stored["distance"]["eccentricity"] < 0.15
    for name in ("coverage", "touching"):
        spread = stored["real"][name]["high"] - stored["real"][name]["low"]
        assert abs(stored["simulated"][name]["median"] - stored["real"][name]["median"]) < spread
