"""`cytoforge score segmentation`: what is paired, what is refused, what is said and written."""

import json
from pathlib import Path

import numpy as np
import pytest

from cells import MERGED, NOTHING, ONE_MISSED_ONE_INVENTED, SPLIT, THREE_CELLS, TOUCHING, TOUCHING_AS_ONE
from cytoforge.cli import main
from cytoforge.commands.score import score_command, score_segmentation
from cytoforge.data.images import write_image, write_labels
from cytoforge.errors import UserError
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.settings import ScoreSegmentation

TRUTH = {"a": THREE_CELLS, "b": THREE_CELLS, "c": TOUCHING}
PREDICTION = {"a": ONE_MISSED_ONE_INVENTED, "b": SPLIT, "c": TOUCHING_AS_ONE}


def masks(folder: Path, labels: dict[str, np.ndarray], suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for name, image in labels.items():
        write_labels(folder / f"{name}{suffix}", image)
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    masks(tmp_path / "truth" / "masks", TRUTH)
    (tmp_path / "truth" / "images").mkdir()
    for name, image in TRUTH.items():
        write_image(tmp_path / "truth" / "images" / f"{name}.png", image[None].astype(np.uint8))
    return tmp_path / "truth"


@pytest.fixture
def prediction(tmp_path: Path) -> Path:
    masks(tmp_path / "prediction" / "masks", PREDICTION, ".tif")
    return tmp_path / "prediction"


def test_scores_pairs_of_the_same_name(prediction: Path, truth: Path) -> None:
    results = score_segmentation(ScoreSegmentation(prediction, truth))
    for name in "abc":
        expected = segmentation_scores(TRUTH[name], PREDICTION[name])
        assert results.images[name].to_json() == expected.to_json()
    assert (results.truth_cells, results.predicted_cells) == (8, 8)
    assert results.true_positives == (2 + 3 + 1, 2 + 3, 2 + 2, 2 + 2, 2 + 2)  # 8/16 for the pair taken as one
    assert results.pooled["precision"][0].value == pytest.approx(6 / 8)
    assert results.mean["recall"][0].value == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)


def test_either_side_is_a_dataset_a_folder_or_a_file(prediction: Path, truth: Path, tmp_path: Path) -> None:
    elsewhere = masks(tmp_path / "elsewhere", PREDICTION)
    whole = score_segmentation(ScoreSegmentation(prediction, truth)).to_json()
    for found, there in ((prediction / "masks", truth), (prediction, truth / "masks"), (elsewhere, truth)):
        assert score_segmentation(ScoreSegmentation(found, there)).to_json() == whole
    one = score_segmentation(ScoreSegmentation(elsewhere / "b.png", truth / "masks" / "a.png"))
    assert list(one.images) == ["a"]
    assert one.images["a"] == segmentation_scores(THREE_CELLS, SPLIT)


def test_movies_are_scored_frame_by_frame(tmp_path: Path) -> None:
    masks(tmp_path / "truth" / "01_GT" / "SEG", {"man_seg000": THREE_CELLS, "man_seg001": TOUCHING}, ".tif")
    masks(tmp_path / "found" / "01_RES", {"mask000": SPLIT, "mask001": TOUCHING}, ".tif")
    results = score_segmentation(ScoreSegmentation(tmp_path / "found", tmp_path / "truth"))
    assert list(results.images) == ["01_t000", "01_t001"]
    assert results.images["01_t000"] == segmentation_scores(THREE_CELLS, SPLIT)


def test_paper_protocol_joins_touching_cells(prediction: Path, truth: Path) -> None:
    results = score_segmentation(ScoreSegmentation(prediction, truth, protocol="paper"))
    assert results.protocol == "paper"
    assert results.images["c"].truth_cells == 1


def test_table_says_what_was_scored(prediction: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(prediction / "masks" / "z.tif", NOTHING)
    assert main(["score", "segmentation", str(prediction), str(truth)]) == 0
    shown = capsys.readouterr().out
    assert "prediction: 1 mask without a true mask, not scored" in shown
    assert "mean over 3 images" in shown
    assert "pooled over 8 true and 8 predicted cells" in shown
    results = score_segmentation(ScoreSegmentation(prediction, truth))
    first = next(line.split() for line in shown.splitlines() if line.startswith("  0.5"))
    assert first[:2] == ["0.5", f"{results.mean['f_score'][0].value:.3f}"]
    assert max(map(len, shown.splitlines())) <= 80


def test_table_marks_what_is_undefined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, found = masks(tmp_path / "there", {"a": THREE_CELLS}), masks(tmp_path / "found", {"a": NOTHING})
    score_command(ScoreSegmentation(found, there))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  0.5"))
    assert line.split() == ["0.5", "0.000", "-", "0.000", "0.000"]  # no interval from one image, no precision


def test_movie_sources_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks(tmp_path / "truth" / "01_ST" / "SEG", {"man_seg000": THREE_CELLS}, ".tif")
    found = masks(tmp_path / "found", {"01_t000": SPLIT})
    score_command(ScoreSegmentation(found, tmp_path / "truth"))
    assert "truth: sequence 01: masks from ST/SEG" in capsys.readouterr().out


def test_binary_masks_are_remarked_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, binary = (
        masks(tmp_path / "there", TRUTH),
        masks(tmp_path / "found", {n: np.minimum(TRUTH[n], 1) for n in TRUTH}),
    )
    score_command(ScoreSegmentation(binary, there))
    assert "prediction: no mask holds more than one cell; are they binary?" in capsys.readouterr().out
    score_command(ScoreSegmentation(there, binary))
    assert "truth: no mask holds more than one cell" in capsys.readouterr().out
    score_command(ScoreSegmentation(binary, there, protocol="paper"))
    assert "binary" not in capsys.readouterr().out
    missed = masks(tmp_path / "missed", dict.fromkeys(TRUTH, NOTHING))
    score_command(ScoreSegmentation(missed, there))
    assert "binary" not in capsys.readouterr().out


def test_json_holds_every_number_and_where_it_comes_from(prediction: Path, truth: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores" / "scores.json"
    results = score_segmentation(ScoreSegmentation(prediction, truth, json=file, seed=3))
    stored = json.loads(file.read_text())
    assert {key: stored[key] for key in results.to_json()} == results.to_json()
    assert stored["images"]["b"]["f_score"][0] == pytest.approx(6 / 7)
    assert (stored["seed"], stored["protocol"], stored["format"]) == (3, "instances", 1)
    assert stored["truth"]["items"] == 3
    assert stored["truth"]["path"] == str(truth)
    assert len(stored["prediction"]["sha256"]) == 64
    assert [path.name for path in file.parent.iterdir()] == ["scores.json"]


def test_json_does_not_depend_on_images_and_follows_the_seed(prediction: Path, truth: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.json" for k in range(3)]
    score_segmentation(ScoreSegmentation(prediction, truth, json=files[0]))
    (truth / "images" / "a.png").unlink()
    score_segmentation(ScoreSegmentation(prediction, truth, json=files[1]))
    assert files[0].read_bytes() == files[1].read_bytes()
    write_labels(prediction / "masks" / "a.tif", MERGED)
    score_segmentation(ScoreSegmentation(prediction, truth, json=files[2]))
    first, other = (json.loads(file.read_text()) for file in files[1:])
    assert first["prediction"]["sha256"] != other["prediction"]["sha256"]
    assert first["truth"] == other["truth"]


def test_an_existing_json_file_is_kept_unless_told(prediction: Path, truth: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("mine")
    with pytest.raises(UserError, match=r"scores\.json: exists already; .*--overwrite"):
        score_segmentation(ScoreSegmentation(prediction, truth, json=file))
    assert file.read_text() == "mine"
    score_segmentation(ScoreSegmentation(prediction, truth, json=file, overwrite=True))
    assert json.loads(file.read_text())["format"] == 1


def test_missing_predictions_are_named(prediction: Path, truth: Path, tmp_path: Path) -> None:
    (prediction / "masks" / "b.tif").unlink()
    with pytest.raises(UserError, match=r"no prediction for 1 of 3 true masks \(b\)"):
        score_segmentation(ScoreSegmentation(prediction, truth, json=tmp_path / "scores.json"))
    assert not (tmp_path / "scores.json").exists()
    for number in range(12):
        write_labels(truth / "masks" / f"n{number:02}.png", NOTHING)
    with pytest.raises(UserError, match=r"no prediction for 13 of 15 .*\(b, n00, .*n08, \.\.\.\)"):
        score_segmentation(ScoreSegmentation(prediction, truth))


def test_masks_that_both_sides_have_are_scored_alone_if_allowed(
    prediction: Path, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = score_segmentation(ScoreSegmentation(prediction, truth))
    (prediction / "masks" / "b.tif").unlink()
    line = ["score", "segmentation", str(prediction), str(truth)]
    assert main(line) == 2
    assert "give --allow-missing to score the others" in capsys.readouterr().err
    assert main([*line, "--allow-missing", "--json", str(tmp_path / "scores.json")]) == 0
    assert "truth: 1 mask without a prediction (b), not scored\n" in capsys.readouterr().out
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["notes"] == ["truth: 1 mask without a prediction (b), not scored"]
    part = score_segmentation(ScoreSegmentation(prediction, truth, allow_missing=True))
    for name in ("a", "c"):
        assert repr(part.images[name]) == repr(whole.images[name])  # nan is not equal to itself
    assert len(part.images) == 2
    for name in ("a", "c"):
        (prediction / "masks" / f"{name}.tif").rename(prediction / "masks" / f"x{name}.tif")
    with pytest.raises(UserError, match=r"has no mask with the name of a true one \(a, b, c in .*\); name predictions"):
        score_segmentation(ScoreSegmentation(prediction, truth, allow_missing=True))


def test_sizes_must_agree(prediction: Path, truth: Path) -> None:
    write_labels(prediction / "masks" / "b.tif", SPLIT[:, :-1])
    with pytest.raises(UserError, match=r"b\.tif: is 5 x 11 pixels, the true mask .*b\.png 5 x 12"):
        score_segmentation(ScoreSegmentation(prediction, truth))


def test_truth_is_not_scored_against_itself(truth: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: would be truth and prediction at once"):
        score_segmentation(ScoreSegmentation(truth / "masks", truth))


@pytest.mark.parametrize("part", [".", "masks", "masks/a.png"])
def test_synthetic_truth_is_refused_whatever_part_of_it_is_named(prediction: Path, truth: Path, part: str) -> None:
    found = prediction / "masks" / "a.tif" if part.endswith("png") else prediction
    config = ScoreSegmentation(found, truth / part)
    (truth / "dataset.json").write_text(json.dumps({"licence": "CC0"}))
    score_segmentation(config)
    (truth / "dataset.json").write_text(json.dumps({"synthetic": {"run": "x"}}))
    with pytest.raises(UserError, match=r"synthetic, .*--allow-synthetic"):
        score_segmentation(config)
    score_segmentation(ScoreSegmentation(found, truth / part, allow_synthetic=True))


def test_synthetic_predictions_are_no_concern(prediction: Path, truth: Path) -> None:
    (prediction / "dataset.json").write_text(json.dumps({"synthetic": {"run": "x"}}))
    assert score_segmentation(ScoreSegmentation(prediction, truth)).truth_cells == 8


def test_images_are_not_taken_for_masks(prediction: Path, truth: Path) -> None:
    for mask in (truth / "masks").iterdir():
        mask.unlink()
    with pytest.raises(UserError, match="holds no masks"):
        score_segmentation(ScoreSegmentation(prediction, truth))
