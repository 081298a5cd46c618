"""Scores divided into parts, or among the workers of a cluster, are those of one call."""

import json
from pathlib import Path

import numpy as np
import pytest

import cells
from cells import MERGED, NOTHING, ONE_MISSED_ONE_INVENTED, SPLIT, THREE_CELLS, TOUCHING, TOUCHING_AS_ONE
from cytoforge.cli import main
from cytoforge.commands.score import score_command, score_segmentation
from cytoforge.commands.score_tracking import score_tracking, score_tracking_command
from cytoforge.data.files import read_json
from cytoforge.data.images import write_labels
from cytoforge.data.ownership import OutputFolder
from cytoforge.errors import UserError
from cytoforge.evaluation import segmentation
from cytoforge.settings import ScoreSegmentation, ScoreTracking
from test_engine import Death, files
from test_score import masks
from test_score_tracking import write

TRUTH = dict.fromkeys("abcdefg", THREE_CELLS) | {"c": TOUCHING, "g": NOTHING}
FOUND = {
    "a": ONE_MISSED_ONE_INVENTED,
    "b": SPLIT,
    "c": TOUCHING_AS_ONE,
    "d": NOTHING,
    "e": MERGED,
    "f": THREE_CELLS,
    "g": NOTHING,
}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Predicted and true masks, some without cells, so that some scores are undefined."""
    return masks(tmp_path / "found", FOUND), masks(tmp_path / "true", TRUTH)


def scored(sides: tuple[Path, Path], out: Path, **given: object) -> None:
    score_command(ScoreSegmentation(*sides, out=out, **given))


def test_parts_of_masks_give_the_scores_of_one_call(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score_segmentation(ScoreSegmentation(*sides, json=tmp_path / "scores.json"))
    scored(sides, tmp_path / "one")
    whole = capsys.readouterr().out
    for part, told in (("2/3", "5 masks"), ("3/3", "3 masks")):
        scored(sides, tmp_path / "parts", part=part)
        assert f"parts: {told} of other parts still to come" in capsys.readouterr().out
        assert read_json(tmp_path / "parts" / "scores.json")["finished"] is False
    scored(sides, tmp_path / "parts", part="1/3")
    assert capsys.readouterr().out == whole
    assert files(tmp_path / "parts") == files(tmp_path / "one")
    assert sorted(files(tmp_path / "one")) == ["manifest.jsonl", "scores.json"]
    assert read_json(tmp_path / "one" / "scores.json") == {
        **read_json(tmp_path / "scores.json"), "finished": True,
    }  # fmt: skip
    for part in (None, "1/3"):  # all is done, which the table says again
        scored(sides, tmp_path / "parts", part=part)
        assert capsys.readouterr().out == whole
    assert files(tmp_path / "parts") == files(tmp_path / "one")


def test_parts_of_tracks_give_the_scores_of_one_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = (np.zeros_like(cells.DIVISION[0]),) * 3
    for sequence, frames in {"01": cells.SWITCH, "02": cells.DIVISION[:2] + empty, "03": cells.DIVISION}.items():
        write(tmp_path / "found", "RES", frames, "BA CA" if sequence == "03" else "", sequence=sequence)
    for sequence, frames in {"01": cells.STILL, "02": cells.DIVISION, "03": cells.DIVISION}.items():
        write(tmp_path / "true", "TRA", frames, "" if sequence == "01" else "BA CA", sequence=sequence)

    def tracks(out: str, **given: object) -> ScoreTracking:
        return ScoreTracking(tmp_path / "found", tmp_path / "true", out=tmp_path / out, **given)

    results = score_tracking(tracks("one"))
    assert results.sequences["01"].measures["tracking"]["mota"] == pytest.approx(0.8)
    score_tracking_command(tracks("parts", part="2/2"))
    assert "parts: 2 sequences of other parts still to come" in capsys.readouterr().out
    with pytest.raises(UserError, match="other parts: 1 sequence of other parts still to come"):
        score_tracking(tracks("other parts", part="1/2"))
    score_tracking_command(tracks("parts", part="1/2"))
    told = capsys.readouterr().out
    assert "no intervals" in told and files(tmp_path / "parts") == files(tmp_path / "one")
    score_tracking_command(tracks("parts"))
    assert capsys.readouterr().out == told


def test_a_killed_part_is_done_again_and_the_whole_takes_what_parts_have_done(
    sides: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(sides, tmp_path / "one")
    out, score, seen = tmp_path / "parts", segmentation._scored, []

    def noted(pairs: object, true: object, *others: object) -> object:
        seen.append(true.name)  # type: ignore[attr-defined]
        if true.name == dying:  # type: ignore[attr-defined]
            raise Death
        return score(pairs, true, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(segmentation, "_scored", noted)
    dying = "d"
    with pytest.raises(Death):
        scored(sides, out, part="2/2")  # b, d, f
    assert seen == ["b", "d"] and not (out / "rows").exists()
    dying, seen[:] = "", []
    scored(sides, out, part="2/2")
    scored(sides, out, part="2/2")  # nothing is left to do
    assert seen == ["b", "d", "f"]
    scored(sides, out)
    assert seen == [*"bdf", *"aceg"]
    assert files(out) == files(tmp_path / "one")


def test_rows_are_neither_taken_from_other_work_nor_when_damaged(sides: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "parts"
    scored(sides, out, part="1/2")
    with pytest.raises(UserError, match="parts: holds scores with another protocol; repeat its command"):
        scored(sides, out, part="2/2", protocol="paper")
    write_labels(sides[0] / "b.png", THREE_CELLS)
    with pytest.raises(UserError, match="parts: holds scores with another prediction"):
        scored(sides, out, part="2/2")
    write_labels(sides[0] / "b.png", SPLIT)
    rows = out / "rows" / "1-of-2.json"
    content = json.loads(rows.read_text())
    content["a"]["truth_cells"] += 1
    rows.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"rows/1-of-2\.json: has been changed since this command wrote it; move it"):
        scored(sides, out, part="2/2")
    rows.unlink()
    scored(sides, out, part="1/2")
    scored(sides, out, part="2/2")
    scored(sides, tmp_path / "one")
    assert files(out) == files(tmp_path / "one")


def test_overwriting_leaves_no_rows_and_spares_the_users_files(sides: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    scored(sides, out, part="1/2")
    (out / "rows" / "mine.txt").write_text("mine")
    scored(sides, out, protocol="paper", overwrite=True)
    scored(sides, tmp_path / "one", protocol="paper")
    assert files(out) == files(tmp_path / "one") | {"rows/mine.txt": b"mine"}
    scored(sides, out, overwrite=True)  # instances
    assert read_json(out / "scores.json")["protocol"] == "instances"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "scores.json").write_text("{}")
    with pytest.raises(UserError, match=r"scores\.json: is there already, and this command did not write it"):
        scored(sides, tmp_path / "taken", overwrite=True)


def test_a_kill_at_the_very_end_leaves_nothing_of_parts(
    sides: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(folder: OutputFolder, name: str) -> None:
        raise Death

    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "remove", die)
        with pytest.raises(Death):
            scored(sides, out, part="1/1")
    assert read_json(out / "scores.json")["finished"] is True and (out / "rows" / "1-of-1.json").exists()
    scored(sides, out, part="1/1")
    scored(sides, tmp_path / "one")
    assert files(out) == files(tmp_path / "one")


def test_rows_without_their_record_are_not_used(sides: tuple[Path, Path], tmp_path: Path) -> None:
    """As where a kill came while results were overwritten."""
    out = tmp_path / "out"
    scored(sides, out, part="1/2", protocol="paper")
    OutputFolder(out, "score segmentation").remove("scores.json")
    scored(sides, out)
    scored(sides, tmp_path / "one")
    assert files(out) == files(tmp_path / "one")


def test_a_cluster_gives_the_scores_of_one_process(sides: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    scored(sides, tmp_path / "one")
    scored(sides, tmp_path / "workers", cluster="local:1")
    assert files(tmp_path / "workers") == files(tmp_path / "one")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--part 1/2", "--part needs --out, the folder in which all parts meet"),
        ("--out SCORES --json FILE", "give --json or --out, not both; scores.json in OUT holds the same"),
        ("--out SCORES --part 3/2", "--part 3/2: takes a number and how many parts there are, from 1/16 to 16/16"),
    ],
)
@pytest.mark.parametrize("command", ["segmentation", "tracking"])
def test_what_parts_need_is_said(
    command: str, flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", command, str(tmp_path), str(tmp_path), *flags.split()]) == 2
    assert capsys.readouterr().err == f"cytoforge: {message}\n"
