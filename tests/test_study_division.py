"""Studies divided into parts measure what one call measures, each measurement once."""

from pathlib import Path
from typing import Any

import pytest

from cytoforge.cli import main
from cytoforge.data.files import read_json
from cytoforge.data.ownership import WRITERS, OutputFolder
from cytoforge.data.sharing import at_work
from cytoforge.engine import Part
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.measure import movies, trackers, trainings
from test_engine import files
from test_study import write_phantoms
from test_study_movies import film

pytestmark = pytest.mark.usefixtures("short_trainings")

FLAGS = [
    "--preset",
    "tiny",
    "--steps",
    "2",
    "--threads",
    "1",
    "--test-share",
    "0.34",
    "--seeds",
    "2",
    "--images",
    "2",
    "--networks",
    "unet",
    "--ways",
    "conventional",
    "all",
    "--protocol",
    "instances",
]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", range(5))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are trained, in order."""
    names: list[str] = []
    train = trainings.run_task

    def record(task: Any, training: Any) -> Any:
        names.append(training.output.path.name)
        return train(task, training)

    monkeypatch.setattr(trainings, "run_task", record)
    return names


def study(data: Path, out: Path, *flags: str) -> int:
    return main(["study", "training", str(data), "--out", str(out), *FLAGS, *flags])


def rows(out: Path) -> Any:
    """What was measured, but for the time that it took."""
    return [
        {name: value for name, value in row.items() if "seconds" not in name}
        for row in read_json(out / "results.json")["rows"]
    ]


def test_parts_measure_what_one_call_measures(
    phantoms: Path, tmp_path: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, out = tmp_path / "one", tmp_path / "parts"
    assert study(phantoms, one) == 0
    names = [file.stem for file in sorted((one / "results").iterdir())]
    assert sorted(trained) == names and len(names) == 4
    trained.clear()
    capsys.readouterr()
    assert study(phantoms, out, "--part", "3/3") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: 1 measurement; 3 of other parts still to come"
    assert not (out / "report.html").exists() and (out / WRITERS / "3-of-3.jsonl").exists()
    with at_work(out, Part(1, 3)):
        assert study(phantoms, out, "--part", "1/3") == 2
    assert "the process of part 1/3 is at work there" in capsys.readouterr().err
    for part in ("1/3", "2/3"):
        assert study(phantoms, out, "--part", part) == 0
    assert sorted(trained) == names
    assert rows(out) == rows(one)
    assert files(out).keys() == files(one).keys()
    assert not (out / WRITERS).exists()
    listed = [OutputFolder(folder, "study").survey() for folder in (one, out)]
    assert listed[0] == listed[1] and not listed[0].kept
    # a part that is given again, and the whole, find all done; and the whole is replaced
    assert study(phantoms, out, "--part", "1/3") == study(phantoms, out) == 0
    assert sorted(trained) == names
    assert study(phantoms, out, "--overwrite", "--seeds", "1") == 0
    assert len(trained) == 6 and len(list((out / "results").iterdir())) == 2


def test_the_whole_does_what_parts_have_left(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "parts"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainings, "run_task", stop)
        assert study(phantoms, out, "--part", "1/2") == 130
    assert study(phantoms, out, "--part", "2/2") == 0
    made = {file: file.stat().st_mtime_ns for file in (out / "results").iterdir()}
    assert study(phantoms, out) == 0
    assert len(made) == 2 and made == {file: file.stat().st_mtime_ns for file in made}
    assert len(read_json(out / "results.json")["rows"]) == 2 and not (out / WRITERS).exists()


@pytest.mark.parametrize(
    ("kind", "module", "last"),
    [("movie", movies, "segmenter-both"), ("tracking", trackers, "wrong-deepsea-both-10")],
)
def test_a_part_of_a_study_of_movies_measures_its_seeds(
    kind: str,
    module: Any,
    last: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured: list[int] = []

    def measure(study: Any, parts: Any, folder: StudyFolder, seed: int) -> None:
        measured.append(seed)
        folder.folder.write_json(f"results/{last}-{seed}.json", {})

    monkeypatch.setattr(module, "_measure_seed", measure)
    out = tmp_path / "out"
    command = ["study", kind, str(film(tmp_path / "movie")), "--out", str(out), "--seeds", "3", "--seed", "4"]
    assert main([*command, "--part", "2/2"]) == 0
    assert measured == [5]
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: 1 measurement; 2 of other parts still to come"
    assert main([*command, "--part", "2/2"]) == 0
    assert measured == [5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("movie", "--frames 10 --densities 0.2 --max-steps 2"),
        ("tracking", "--trackers laptrack deepsea --learners global --frames 5 --tune"),
    ],
)
def test_parts_of_studies_of_movies_measure_each_seed_once(
    kind: str, flags: str, tmp_path: Path, trained: list[str]
) -> None:
    data = film(tmp_path / "movie")
    terms = f"--preset tiny --steps 1 --threads 1 --seeds 2 --methods tgan {flags}".split()

    def study(out: Path, *part: str) -> int:
        return main(["study", kind, str(data), "--out", str(out), *terms, *part])

    one, out = tmp_path / "one", tmp_path / "parts"
    assert study(one) == 0
    names = sorted(trained)
    assert study(out, "--part", "2/2") == 0
    assert {name[-1] for name in trained[len(names) :]} == {"1"} and not (out / "report.html").exists()
    assert study(out, "--part", "1/2") == 0
    assert sorted(trained[len(names) :]) == names
    assert rows(out) == rows(one)
    assert files(out).keys() == files(one).keys()
    assert not OutputFolder(out, "study").survey().kept
