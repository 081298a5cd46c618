"""The pages that are written from measurements: up to date, without typed figures, silent on what is not measured."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
FIGURE = re.compile(r"(?<![\w.])\.\d\d|\d (?:ms|s|min|GiB|GFLOP|times)\b")
ABOUT = re.compile(r"\b(?:\w+ to )?\w+ of ten\b|\bhalf (?:the F|as many|of the divisions)\b")


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of benchmarks/."""
    import measured

    monkeypatch.setattr(measured, "HERE", tmp_path)
    for name in ("studies", "few_labels", "peers"):
        (tmp_path / name).mkdir()
    return tmp_path


def words(script: Path) -> list[str]:
    """All strings of a script but its docstrings; of f-strings the parts that are typed."""
    tree = ast.parse(script.read_text())
    documented = [
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    ]
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in strings if node not in documented]


@pytest.mark.parametrize("name", ["results", "papers", "measured"])
def test_no_measurement_is_typed_in_a_script(name: str) -> None:
    assert [text for text in words(BENCHMARKS / f"{name}.py") if FIGURE.search(text)] == []
    assert FIGURE.search("F .811") and FIGURE.search("57 s") and not FIGURE.search("F at IoU 0.5")


def test_no_measurement_is_typed_among_the_observations() -> None:
    import papers

    text = (BENCHMARKS / "few_labels" / "observations.md").read_text()
    typed = " ".join(papers.SLOT.sub("", text).split())
    assert FIGURE.findall(typed) == [] and ABOUT.findall(typed) == ["six to seven of ten"]  # from a study named there
    assert ABOUT.findall("nine of ten, half the F, half as many") == ["nine of ten", "half the F", "half as many"]


@pytest.mark.parametrize("name", ["results", "papers"])
def test_the_page_is_what_the_script_writes(name: str) -> None:
    written = __import__(name).page()
    assert (ROOT / "docs" / f"{name}.md").read_text() == written, "run python benchmarks/results.py"


def test_counts_of_faults_are_what_the_script_writes() -> None:
    import reliability

    page = (ROOT / "docs" / "reliability.md").read_text()
    assert reliability.filled(page) == page, "run python benchmarks/reliability.py"
    assert {slot[1] for slot in reliability.SLOT.findall(page)} == reliability.TABLES.keys()


def test_what_is_not_measured_is_not_told(folder: Path) -> None:
    import papers
    import results

    tables = [line for line in results.page().splitlines() if line.startswith("|")]
    assert tables == ["| what | measured | goal |", "|---|---|---|"]
    assert papers.filled("{{dense-x}}: {{dense-x :: F :: a=b}}") == "not measured yet: not measured yet"
    assert papers.filled("{{verdict few_labels/x :: against a :: training=b}}") == "not measured yet"
    assert papers.filled("{{absent.json :: a.0.b}}") == "not measured yet"


def test_slots_are_filled_by_the_one_row_that_fits(folder: Path) -> None:
    import papers

    def cell(value: float, low: float | None, high: float | None) -> dict[str, float | None]:
        return {"value": value, "low": low, "high": high}

    rows = [
        {"training": "a, b", "protocol": "instances", "F": cell(0.5, 0.25, 0.75), "against": cell(0.2, 0.1, 0.3)},
        {"training": "a, b", "protocol": "paper", "F": cell(0.6, None, None), "against": cell(-0.2, -0.3, -0.1)},
        {"training": "c", "protocol": "instances", "F": cell(0.7, 0.6, 0.8), "against": cell(0.0, -0.1, 0.1)},
        {"training": "c", "steps": 7},
    ]
    settings = {"data": "x/train, y/train", "images": 5, "minutes": 10.0, "steps": 300, "preset": "small", "seeds": 1}
    (folder / "studies" / "dense-x.json").write_text(json.dumps({"settings": settings, "rows": rows}))
    (folder / "one.json").write_text('{"results": [{"ratio": 0.82712}]}')
    for slot, expected in {
        "{{dense-x}}": "x-y, 5 images, 300 steps, preset small, 1 seed",
        "{{dense-x :: F :: training=a, b}}": "0.500 [0.250, 0.750]",
        "{{dense-x :: F :: training=a, b; protocol=paper}}": "0.600",
        "{{dense-x :: steps}}": "7",
        "{{verdict dense-x :: against :: training=a, b}}": "better",
        "{{verdict dense-x :: against :: training=a, b; protocol=paper}}": "worse",
        "{{verdict dense-x :: against :: training=c}}": "same",
        "{{verdict dense-x :: F :: training=c :: training=a, b}}": "same",
        "{{verdict dense-x :: against :: training=a, b :: training=a, b; protocol=paper}}": "better",
        "{{dense-x :: F :: protocol=instances :: training}}": "x-y, 5 images, 300 steps, preset small, 1 seed: a, b "
        "0.500 [0.250, 0.750], c 0.700 [0.600, 0.800]",
        "{{one.json :: results.0.ratio}}": "0.827",
    }.items():
        assert papers.filled(f"<{slot}>") == f"<{expected}>"
    with pytest.raises(ValueError, match="2 rows"):
        papers.filled("{{dense-x :: F}}")
    with pytest.raises(ValueError, match="0 rows"):
        papers.filled("{{dense-x :: recall}}")


def parts(text: str, kind: str) -> set[str]:
    """The numbers of the equations, figures or tables that a text names: "Figures 1A and S2", "Equations 2 to 4"."""
    found = set()
    for listed in re.findall(rf"{kind}s? ((?:S?\d+[A-C]?(?:, | and | to )?)+)", text):
        for supplement, first, last in re.findall(r"(S?)(\d+)[A-C]?(?: to S?(\d+))?", listed):
            found |= {f"{supplement}{number}" for number in range(int(first), int(last or first) + 1)}
    return found


@pytest.mark.parametrize(
    ("paper", "kind", "numbered", "supplementary"),
    [
        ("cGAN-Seg", "Equation", 17, 0),
        ("cGAN-Seg", "Figure", 5, 3),
        ("cGAN-Seg", "Table", 2, 3),
        ("tGAN", "Equation", 3, 0),
        ("tGAN", "Figure", 5, 6),
        ("tGAN", "Table", 3, 0),
    ],
)
def test_all_parts_of_the_papers_have_a_row(paper: str, kind: str, numbered: int, supplementary: int) -> None:
    page = (ROOT / "docs" / "papers.md").read_text()
    section = page.partition(f"## {paper}\n")[2].partition("\n## ")[0]
    places = "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    wanted = {str(n + 1) for n in range(numbered)} | {f"S{n + 1}" for n in range(supplementary)}
    assert wanted - parts(places, kind) == set()
    assert parts("Equations 6, 7, 12 to 14; Figures 1A and S2", "Equation") == {"6", "7", "12", "13", "14"}
    assert parts("Equations 6, 7, 12 to 14; Figures 1A and S2", "Figure") == {"1", "S2"}


def test_budgets_are_told_as_they_were_given() -> None:
    from measured import budget

    assert budget({"minutes": 2.0}) == "2 min of one thread's processor time"
    assert budget({"minutes": 10.0, "epochs": 3, "until_converged": True}) == "3 epochs or until converged"


def test_other_tools_stand_beside_with_their_time_and_version(folder: Path) -> None:
    import results

    assert results.others("usiigaci") == []
    test = {f"image{i}": {"f_score": [0.5, 0.4, 0.3, 0.2, 0.1], "dice": 0.8} for i in range(9)}
    record = {
        "way": "cellpose", "steps": 10, "training_core_seconds": 361.0, "inference_core_seconds": 2.5,
        "images_trained_on": 5, "test": test,
        "provenance": {"packages": {"cellpose": "3.1"}, "core_seconds": 360.0, "command": "python x"},
    }  # fmt: skip
    for seed in (0, 1):
        (folder / "peers" / f"usiigaci-cellpose-{seed}.json").write_text(json.dumps(record))
    told = "\n".join(results.others("usiigaci"))
    assert "| Cellpose 3.1 | 0.500 [0.500, 0.500] | 0.300 [0.300, 0.300] | 0.100 [0.100, 0.100] |" in told
    assert "| 0.800 | 0.500, 0.500 | 10 | 361 s | 2.50 s | 5 |" in told
    assert "| Cellpose 3.1 | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |" in told  # first seven, other eight


def test_peers_get_the_images_of_the_few_label_trainings_and_are_no_dependency(real_data: Path) -> None:
    import peers

    kept = json.loads((BENCHMARKS / "few_labels" / "usiigaci-conventional-1.json").read_text())
    given = peers.task(real_data / "usiigaci", kept["provenance"]["limit"], kept["provenance"]["scale"], seed=1)
    assert given["names"] == kept["images"] and given["held"] == 1
    assert given["images"].shape == given["labels"].shape == (5, 340, 341)
    assert len(given["test"]) == len(kept["test"])
    assert sum(len(np.unique(labels)) - 1 for labels in given["labels"]) == kept["cells"]
    wanted = {re.split("[=<]", package)[0] for packages in peers.PEERS.values() for package in packages}
    ours = (ROOT / "pyproject.toml").read_text() + (ROOT / "constraints.txt").read_text()
    assert [name for name in sorted(wanted - {"torch", "numpy", "monai", "pandas"}) if name in ours.lower()] == []
