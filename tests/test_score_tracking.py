"""`cytoforge score tracking`: what is paired, where truth comes from, what is refused, what is said and written."""

import json
from pathlib import Path

import numpy as np
import pytest

import cells
from cells import Labels, draw_movie, tracks
from cytoforge.cli import main
from cytoforge.commands.score_tracking import score_tracking
from cytoforge.data.images import write_labels
from cytoforge.data.movie import read_sequences
from cytoforge.errors import UserError
from cytoforge.settings import ScoreTracking

LAYOUT = {
    "RES": ("_RES", "mask", "res_track.txt"),
    "TRA": ("_GT/TRA", "man_track", "man_track.txt"),
    "ST": ("_ST/SEG", "man_seg", None),
    "SEG": ("_GT/SEG", "man_seg", None),
}


def write(
    path: Path,
    source: str,
    frames: tuple[Labels, ...],
    parents: str = "",
    sequence: str = "01",
    rows: str | None = None,
) -> Path:
    """Write masks of one of LAYOUT, and their tracks, or `rows` in the place of these; returns the movie folder."""
    folder, stem, track_file = LAYOUT[source]
    for t, frame in enumerate(frames):
        write_labels(path / f"{sequence}{folder}" / f"{stem}{t:03d}.tif", frame)
    if track_file:
        told = "".join(" ".join(map(str, row)) + "\n" for row in tracks(frames, parents)) if rows is None else rows
        (path / f"{sequence}{folder}" / track_file).write_text(told)
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write(tmp_path / "truth", "TRA", cells.STILL)


def value(config: ScoreTracking, block: str, name: str, sequence: str = "01") -> float:
    return score_tracking(config).sequences[sequence].measures[block][name]


def test_scores_by_sequence_and_pooled(tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """01: 2 switches in 10 cells. 02: of a division of 8 cells only the mother is found, in two frames."""
    found = write(tmp_path / "found", "RES", cells.SWITCH)
    write(truth, "TRA", cells.DIVISION, "BA CA", sequence="02")
    write(found, "RES", cells.DIVISION[:2] + (np.zeros_like(cells.DIVISION[0]),) * 3, sequence="02")
    file = tmp_path / "scores.json"
    assert main(["score", "tracking", str(found), str(truth), "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    record = json.loads(file.read_text())
    tracking = {name: scores["measures"]["tracking"] for name, scores in record["sequences"].items()}
    assert tracking["01"]["mota"] == pytest.approx(0.8)
    assert tracking["02"]["mota"] == pytest.approx(2 / 8)
    assert record["pooled"]["tracking"]["mota"] == {
        "value": pytest.approx(1 - 8 / 18), "low": None, "high": None, "sequences": 2,
    }  # fmt: skip
    assert record["pooled"]["ctc"]["det"]["value"] == pytest.approx(1 - 60 / 180)
    assert record["pooled"]["ctc"]["division_f_2"]["value"] == 0
    assert record["sequences"]["01"]["measures"]["ctc"]["division_f_0"] is None
    assert "no intervals: they resample sequences, and need 5 at least" in record["notes"]
    lines = [line.split() for line in shown.splitlines()]
    assert ["01", "02", "pooled"] in lines
    assert ["MOTA", "0.800", "0.250", "0.556"] in lines
    assert ["ID", "switches", "2", "0", "2"] in lines
    assert ["divisions", "F,", "+-1", "frame", "-", "0.000", "0.000"] in lines
    assert "[" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_intervals_from_five_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = tmp_path / "truth", tmp_path / "found"
    for k in range(5):
        write(truth, "TRA", cells.STILL, sequence=f"0{k}")
        write(found, "RES", cells.STILL if k else cells.NEVER_FOUND, sequence=f"0{k}")
    config = ScoreTracking(found, truth)
    mota = score_tracking(config).pooled["tracking"]["mota"]
    assert mota.value == pytest.approx(0.9)
    assert 0.5 <= mota.low < 0.9 < mota.high <= 1
    assert score_tracking(config).pooled["tracking"]["mota"] == mota
    main(["score", "tracking", str(found), str(truth)])
    shown = capsys.readouterr().out
    assert "5 sequences, each of them in --json" in shown
    assert ["MOTA", "0.900", f"[{mota.low:.3f}", f"{mota.high:.3f}]"] in [line.split() for line in shown.splitlines()]
    assert "no intervals" not in shown


def test_truth_and_results_may_lie_in_one_folder(truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(truth, "RES", cells.SWITCH)
    assert value(ScoreTracking(truth, truth), "tracking", "mota") == pytest.approx(0.8)
    main(["score", "tracking", str(truth), str(truth)])
    shown = capsys.readouterr().out
    assert "truth: tracks from GT/TRA, masks from GT/TRA" in shown
    assert "prediction: tracks from RES, masks from RES" in shown


def test_results_are_no_part_of_the_truth_nor_the_truth_of_results(truth: Path) -> None:
    """Masks of RES cover all frames, markers of the truth as many; of results without tracks none are made up."""
    for t in range(7):
        write_labels(truth / "01" / f"t{t:03d}.tif", cells.STILL[0])
    write(truth, "RES", (*cells.SWITCH, *cells.SWITCH[3:]))
    with pytest.raises(UserError, match=r"truth: sequence 01 has no masks for 2 frames \(5, 6\)"):
        score_tracking(ScoreTracking(truth, truth))
    (truth / "01_RES" / "res_track.txt").unlink()
    with pytest.raises(UserError, match=r"has no man_track.txt or res_track.txt beside its masks"):
        score_tracking(ScoreTracking(truth, truth))


def test_solution_of_a_tracker_and_equal_files_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "movie", "RES", cells.STILL)
    main(["score", "tracking", str(path), str(path)])
    shown = capsys.readouterr().out
    assert "truth: tracks from RES (a tracker's solution), masks from RES" in shown
    assert "sequence 01: truth and prediction are the same files" in shown


def test_each_measure_on_its_own_source(tmp_path: Path) -> None:
    """Markers of two pixels, silver masks of six, gold for one frame and one cell of five pixels.

    Prediction: silver masks, so that IoU is 1; the markers are covered, so DET is 1; SEG 5/6 in the gold frame.
    """
    markers = draw_movie("P..Q...  P..Q...  P..Q...")
    silver = draw_movie("AAABBB.  AAABBB.  AAABBB.")
    truth = write(tmp_path / "truth", "TRA", tuple(np.repeat(frame, 2, axis=0) for frame in markers))
    write(truth, "ST", tuple(np.repeat(frame, 2, axis=0) for frame in silver))
    gold = np.zeros((2, 7), np.int32)
    gold[0, :3], gold[1, :2] = 9, 9
    write_labels(truth / "01_GT" / "SEG" / "man_seg001.tif", gold)
    found = write(tmp_path / "found", "RES", tuple(np.repeat(frame, 2, axis=0) for frame in silver))
    scores = score_tracking(ScoreTracking(found, truth)).sequences["01"]
    assert scores.sources["truth_masks"] == "ST/SEG"
    assert (scores.sources["truth_seg"], scores.sources["truth_markers"]) == ("GT/SEG", "GT/TRA")
    assert scores.measures["tracking"]["hota"] == 1
    assert (scores.measures["ctc"]["det"], scores.measures["ctc"]["tra"]) == (1, 1)
    assert scores.measures["ctc"]["seg"] == pytest.approx(5 / 6)


def test_some_sequences_only(tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(truth, "TRA", cells.STILL, sequence="02")
    found = write(tmp_path / "found", "RES", cells.STILL)
    write(found, "RES", cells.STILL, sequence="03")
    with pytest.raises(UserError, match=r"found: has no prediction for 1 sequence \(02\); track these, or pick"):
        score_tracking(ScoreTracking(found, truth))
    assert list(score_tracking(ScoreTracking(found, truth, sequence=("01",))).sequences) == ["01"]
    write(found, "RES", cells.STILL, sequence="02")
    assert "prediction: 1 sequence (03) not scored" in score_tracking(ScoreTracking(found, truth)).notes
    with pytest.raises(UserError, match="truth: has no sequence 07"):
        score_tracking(ScoreTracking(found, truth, sequence=("07",)))


def test_empty_frames_and_one_frame(tmp_path: Path) -> None:
    empty = draw_movie("AA..  ....  ....")
    truth = write(tmp_path / "truth", "TRA", empty)
    found = write(tmp_path / "found", "RES", empty)
    assert value(ScoreTracking(found, truth), "tracking", "mota") == 1
    write(truth, "TRA", empty[:1], sequence="02")
    write(found, "RES", empty[:1], sequence="02")
    assert value(ScoreTracking(found, truth), "ctc", "tra", "02") == 1
    write(truth, "TRA", empty[1:], sequence="03")
    write(found, "RES", empty[1:], sequence="03")
    results = score_tracking(ScoreTracking(found, truth, sequence=("03",)))
    assert np.isnan(results.sequences["03"].measures["tracking"]["mota"])
    assert results.notes[0].startswith("sequence 03: no scores of the DeepSea script, as no true cell lies where it")


# STILL has the tracks "1 0 4 0" and "2 0 4 0"
@pytest.mark.parametrize("side", ["truth", "found"])
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            "1 0 4 0\n2 0 4 0\n3 0 1 0\n",
            r"2 cells \(3 in frame 0, 3 in frame 1\) in the track file without a mask; draw",
        ),
        ("1 0 4 0\n2 0 5 0\n", r"1 cell \(2 in frame 5\) in the track file without a mask; draw the cell there"),
        ("1 0 4 0\n", r"5 cells \(2 in frame 0, 2 in frame 1, 2 in frame 2 ...\) in the masks without a track; add"),
        ("1 0 4 0\n2 0 4 9\n", r"1 track \(2 of 9\) whose parent has no track; add the parent's track, or give 0"),
        ("1 0 4 0\n2 0 4 1\n", r"1 track \(2 of 1\) that do not begin after their parent's end; end the parent"),
        ("1 0 4 0\n2 0 4 0\n2 0 4 1\n", "line 3: track 2 is given twice; mend it"),
    ],
)
def test_tracks_that_contradict(tmp_path: Path, side: str, rows: str, says: str) -> None:
    for name, source in (("truth", "TRA"), ("found", "RES")):
        write(tmp_path / name, source, cells.STILL, rows=rows if name == side else None)
    file = {"truth": "man_track.txt", "found": "res_track.txt"}[side]
    with pytest.raises(UserError, match=f"{file}(:|,) {says}"):
        score_tracking(ScoreTracking(tmp_path / "found", tmp_path / "truth"))


def test_gaps_are_refused(tmp_path: Path, truth: Path) -> None:
    gap = write(tmp_path / "found", "RES", draw_movie("AB.  A..  AB.  AB.  AB."), rows="1 0 4 0\n2 0 4 0\n")
    wide = write(tmp_path / "wide", "TRA", draw_movie("AB.  AB.  AB.  AB.  AB."))
    with pytest.raises(
        UserError, match=r"1 cell \(2 in frame 1\) missing inside a track; draw the cell there, or go on"
    ):
        score_tracking(ScoreTracking(gap, wide))


def test_unlikely_parents_are_noted(tmp_path: Path) -> None:
    litter = draw_movie("AAAA  BCD.")
    truth = write(tmp_path / "truth", "TRA", litter, "BA CA DA")
    found = write(tmp_path / "found", "RES", litter, "BA CA DA")
    notes = score_tracking(ScoreTracking(found, truth)).notes
    assert sum("1 track (1) with more than two daughters: right only if" in note for note in notes) == 2


def test_frames_of_one_side_only(tmp_path: Path, truth: Path) -> None:
    found = write(tmp_path / "found", "RES", cells.STILL[:3])
    with pytest.raises(
        UserError, match=r"found: sequence 01 has no masks for 2 frames \(3, 4\) that the other side has"
    ):
        score_tracking(ScoreTracking(found, truth))
    with pytest.raises(UserError, match=r"truth: sequence 01 has no masks for 1 frame \(5\) that the other side has"):
        score_tracking(ScoreTracking(write(tmp_path / "more", "RES", (*cells.STILL, cells.STILL[0])), truth))


def test_sizes_that_differ(tmp_path: Path, truth: Path) -> None:
    found = write(tmp_path / "found", "RES", tuple(frame[:, :6] for frame in cells.STILL))
    says = (
        r"01_RES/mask000.tif: is 2 x 6 pixels, the first true mask of its sequence 2 x 7; bring all frames to one size"
    )
    with pytest.raises(UserError, match=says):
        score_tracking(ScoreTracking(found, truth))
    mixed = write(tmp_path / "mixed", "RES", (*cells.STILL[:4], cells.STILL[4][:, :6]))
    with pytest.raises(UserError, match=r"mask004.tif: is 2 x 6 pixels"):
        score_tracking(ScoreTracking(mixed, truth))
    gold = truth / "01_GT" / "SEG" / "man_seg002.tif"
    write_labels(gold, cells.STILL[0][:, :5])
    with pytest.raises(UserError, match=r"man_seg002.tif: is 2 x 5 pixels"):
        score_tracking(ScoreTracking(write(tmp_path / "right", "RES", cells.STILL), truth))
    gold.unlink()
    write(truth, "ST", tuple(frame[:, :6] for frame in cells.STILL))
    with pytest.raises(UserError, match=r"man_track000.tif: has another size than .*man_seg000.tif; export both"):
        score_tracking(ScoreTracking(found, truth))


def test_what_is_no_tracked_movie(tmp_path: Path, truth: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing: is no movie folder"):
        score_tracking(ScoreTracking(tmp_path / "nothing", truth))
    untracked = write(tmp_path / "untracked", "ST", cells.STILL)
    with pytest.raises(
        UserError, match=r"untracked: sequence 01 has no man_track.txt or res_track.txt beside its masks"
    ):
        score_tracking(ScoreTracking(untracked, truth))
    (tmp_path / "rows" / "01_RES").mkdir(parents=True)
    (tmp_path / "rows" / "01_RES" / "res_track.txt").write_text("1 0 4 0\n")
    with pytest.raises(UserError, match=r"rows: sequence 01 has tracks but no masks for every frame; add them"):
        score_tracking(ScoreTracking(tmp_path / "rows", truth))


def test_synthetic_truth_is_refused(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", "TRA", cells.STILL)
    (truth / "dataset.json").write_text('{"synthetic": {"by": "cytoforge"}}')
    found = write(tmp_path / "found", "RES", cells.STILL)
    with pytest.raises(
        UserError, match=r"dataset.json: says that this movie is synthetic, .* or give --allow-synthetic"
    ):
        score_tracking(ScoreTracking(found, truth))
    assert value(ScoreTracking(found, truth, allow_synthetic=True), "tracking", "mota") == 1
    (truth / "dataset.json").unlink()
    mark = {"synthetic": {"by": "cytoforge"}}
    write_labels(truth / "01_GT" / "TRA" / "man_track001.tif", cells.STILL[1], mark)
    with pytest.raises(UserError, match=r"man_track001.tif: says that this movie is synthetic"):
        score_tracking(ScoreTracking(found, truth))


def test_json_is_not_overwritten(tmp_path: Path, truth: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("{}")
    found = write(tmp_path / "found", "RES", cells.STILL)
    with pytest.raises(UserError, match=r"scores.json: exists already"):
        score_tracking(ScoreTracking(found, truth, json=file))
    score_tracking(ScoreTracking(found, truth, json=file, overwrite=True))
    record = json.loads(file.read_text())
    assert record["command"] == "score tracking"
    before = record["prediction"]["sha256"]
    (found / "01_RES" / "res_track.txt").write_text("1 0 4 0\n2 0 4 0\n\n")
    score_tracking(ScoreTracking(found, truth, json=file, overwrite=True))
    assert json.loads(file.read_text())["prediction"]["sha256"] != before


def test_real_movie_against_itself(real_data: Path) -> None:
    """Perfect but for SEG: gold outlines of 19 frames against silver ones, 0.888 by py-ctcmetrics too."""
    config = ScoreTracking(real_data / "u373", real_data / "u373", sequence=("02",))
    (sequence,) = read_sequences(real_data / "u373", ("02",))
    assert (sequence.source, sequence.track_source) == ("ST/SEG", "GT/TRA")
    results = score_tracking(config).sequences["02"]
    tracking, ctc = results.measures["tracking"], results.measures["ctc"]
    perfect = [tracking[name] for name in ("mota", "precision", "recall", "idf1", "hota", "chota", "mostly_tracked")]
    assert [*perfect, ctc["det"], ctc["tra"], ctc["lnk"]] == [1] * 10
    assert (tracking["switches"], tracking["fragmentations"], tracking["mostly_lost"]) == (0, 0, 0)
    assert ctc["seg"] == pytest.approx(0.8883704614790053)
