"""What the scripts of `stress` compare: everything but times, and all that lies in the folder of a command."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "stress"))
from commands import facts


def written(folder: Path, **changes: object) -> dict[str, str]:
    record = {"finished": True, "masks": {"a": {"cells": 3, "seconds": 1.5}}, "rate": 0.1} | changes
    folder.mkdir()
    (folder / "segment.json").write_text(json.dumps(record))
    (folder / "manifest.jsonl").write_text(f"{record}")
    (folder / "metrics.csv").write_text(f"step,seconds,rate\n1,{len(changes)},{record['rate']}\n")
    return facts(folder)


def test_times_may_differ_and_nothing_else(tmp_path: Path) -> None:
    whole = written(tmp_path / "a")
    assert written(tmp_path / "b", masks={"a": {"cells": 3, "seconds": 2}}) == whole
    assert written(tmp_path / "c", finished=False)["segment.json"] != whole["segment.json"]
    assert written(tmp_path / "d", finished="2026-11-30")["segment.json"] != whole["segment.json"]
    other = written(tmp_path / "e", rate=0.2)
    assert [name for name in whole if whole[name] != other[name]] == ["metrics.csv", "segment.json"]
    (tmp_path / "a" / "manifest.jsonl").write_text("")
    (tmp_path / "a" / ".unfinished").mkdir()
    assert facts(tmp_path / "a").keys() - whole.keys() == {".unfinished"}
    assert facts(tmp_path / "a")["manifest.jsonl"] != whole["manifest.jsonl"]
