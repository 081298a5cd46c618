"""The notebooks of docs/ run from top to bottom, and are kept as they ran, with their pictures."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
SHORTER = {  # what is done otherwise than written, so that a notebook takes seconds
    "first-steps": {"steps=100": "steps=3", "steps=300": "steps=120"},
    "film-to-numbers": {"frames = 24": "frames = 6"},
    "few-labels": {"steps = 400 ": "steps = 8 "},
}
SLOW = {"few-labels"}
LARGEST = 600_000  # bytes of a notebook with its pictures


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_are_some() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == ["few-labels", "film-to-numbers", "first-steps"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_is_kept_as_it_ran_from_top_to_bottom(notebook: Path) -> None:
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} == {"stdout"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert notebook.stat().st_size < LARGEST


@pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in NOTEBOOKS],
)
def test_a_notebook_runs(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    for written, run in SHORTER[notebook.stem].items():
        assert any(written in source for source in sources)
        sources = [source.replace(written, run) for source in sources]
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(sources):
        exec(compile(source, f"{notebook.name}:{number}", "exec"), names)
    scores = names["scores"]
    assert scores.mean["f_score"][0].value > 0.1, "learning shows"
    assert "F at IoU 0.5" in capsys.readouterr().out
    names["plt"].close("all")
    assert list(tmp_path.iterdir()) == []
