"""Work divided into parts, and among the workers of a cluster, gives the bytes of undivided work."""

import contextlib
import importlib.util
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoforge.cli import main
from cytoforge.commands.segment import segment
from cytoforge.commands.simulate import simulate_masks, simulate_movie
from cytoforge.data.files import read_json
from cytoforge.data.images import read_labels
from cytoforge.data.ownership import WRITERS, OutputFolder
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.engine import ALONE, Engine, Part
from cytoforge.errors import UserError
from cytoforge.inference.track import track_movie
from cytoforge.inference.tracker import Tracker
from cytoforge.settings import Segment, SimulateMasks, SimulateMovie
from cytoforge.simulated.masks import Annotated
from cytoforge.simulated.movie import Filmed
from doubling import Doubling, Meeting, Telling
from test_gigapixel import cells, ome_zarr
from test_segment import write_run

SMALL = ("--size", "96x96", "--diameter", "16", "--seed", "3", "--count", "5")


def files(folder: Path) -> dict[str, bytes]:
    """All there is in a folder, hidden files and the manifest included."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def masks(out: Path, **given: object) -> SimulateMasks:
    return SimulateMasks(out, size="96x96", diameter=16, seed=3, **{"count": 5, **given})


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks that one call has made."""
    out = tmp_path_factory.mktemp("undivided") / "one"
    simulate_masks(masks(out))
    return out


# parts


@given(st.integers(0, 30), st.integers(1, 12))
def test_every_item_is_in_one_part(items: int, count: int) -> None:
    parts = [Part(number, count).of(range(items)) for number in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1", "1/0", "-1/3", "1/3/5", "1.5/3", "/"])
def test_what_is_no_part_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "masks", "--out", str(tmp_path / "out"), f"--part={text}"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [f"cytoforge: --part {text}: takes a number and how many parts there are, from 1/16 to 16/16"]
    assert not (tmp_path / "out").exists()


def test_flags_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --part or --cluster, not both"):
        masks(tmp_path, part="1/2", cluster="local")
    with pytest.raises(UserError, match="--overwrite goes with the whole work"):
        masks(tmp_path, part="1/2", overwrite=True)
    for cluster in ("somewhere", "local:0", "tcp://host", "slurm:many"):
        with pytest.raises(UserError, match=f"--cluster {cluster}: must be written like local:4"):
            masks(tmp_path, cluster=cluster)


def test_parts_of_masks_give_what_one_call_gives(one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("2/3", "3/3"):
        simulate_masks(masks(tmp_path / "parts", part=part))
    assert "3 masks; 2 of other parts still to come" in capsys.readouterr().out
    assert not (tmp_path / "parts" / "report.html").exists()
    simulate_masks(masks(tmp_path / "parts", part="1/3"))
    assert files(tmp_path / "parts") == files(one)
    assert f"{counted_cells(one)} cells" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds results already"):
        simulate_masks(masks(tmp_path / "parts", part="1/3"))


def counted_cells(out: Path) -> int:
    return sum(int(read_labels(file).max()) for file in (out / "masks").iterdir())


@pytest.mark.slow
def test_parts_in_processes_at_once_give_what_one_call_gives(one: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cytoforge", "simulate", "masks", "--out", str(tmp_path / "parts"), *SMALL]
    together = [subprocess.Popen([*command, "--part", f"{number}/2"]) for number in (1, 2)]
    assert [process.wait() for process in together] == [0, 0]
    assert files(tmp_path / "parts") == files(one)


def test_a_killed_part_goes_on_and_leaves_no_trace(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        replace = Path.replace

        def die(self: Path, target: Path) -> Path:
            if target.name == "simulated0002.png":
                raise Death
            return replace(self, target)

        patch.setattr(Path, "replace", die)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # what is dead clears nothing away
        with pytest.raises(Death):
            simulate_masks(masks(out, part="1/2"))
    assert (out / "masks" / ".simulated0002.png.1-of-2.part").exists()
    simulate_masks(masks(out, part="2/2"))
    made = {file: file.stat().st_mtime_ns for file in out.glob("masks/sim*.png")}
    simulate_masks(masks(out))  # the whole goes on, and does what the dead one was at
    assert len(made) == 3 and made == {file: file.stat().st_mtime_ns for file in made}
    assert files(out) == files(one)


class Death(BaseException):
    pass


def test_parts_of_a_segmentation_give_what_one_call_gives(tiny_dataset: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    segment(Segment(run, tiny_dataset, tmp_path / "one", threads=1, views=1))
    for part in ("2/2", "1/2"):
        assert not (tmp_path / "parts" / "segment.json").exists() or b'"finished": false' in record(tmp_path / "parts")
        segment(Segment(run, tiny_dataset, tmp_path / "parts", threads=1, views=1, part=part))
    assert files(tmp_path / "parts") == files(tmp_path / "one")
    segment(Segment(run, tiny_dataset, tmp_path / "parts", threads=1, views=1, part="1/2"))  # nothing is left to do
    assert files(tmp_path / "parts") == files(tmp_path / "one")


def record(out: Path) -> bytes:
    return (out / "segment.json").read_bytes()


def test_parts_of_movies_give_what_one_call_gives(tmp_path: Path) -> None:
    def simulate(out: Path, part: str | None = None) -> None:
        simulate_movie(SimulateMovie(out, size="96x96", diameter=16, count=2, frames=4, part=part))

    simulate(tmp_path / "one")
    for part in ("2/2", "1/2"):
        simulate(tmp_path / "parts", part)
    assert files(tmp_path / "parts") == files(tmp_path / "one")

    tracker = Tracker.load("overlap")
    whole = track_movie(tracker, tmp_path / "one", tmp_path / "tracked")
    second = track_movie(tracker, tmp_path / "one", tmp_path / "by part", engine=Engine(Part(2, 2)))
    assert second.page is None and second.missing == 1 and list(second.found) == ["02"]
    first = track_movie(tracker, tmp_path / "one", tmp_path / "by part", engine=Engine(Part(1, 2)))
    assert first.found == whole.found and first.page is not None
    assert files(tmp_path / "by part") == files(tmp_path / "tracked")


# who may write


def test_one_process_is_at_a_part(tmp_path: Path) -> None:
    with at_work(tmp_path / "out", Part(1, 2)):
        with at_work(tmp_path / "out", Part(2, 2)):
            pass
        with (
            pytest.raises(UserError, match=r"out: the process of part 1/2 is at work there; wait for it"),
            at_work(tmp_path / "out", Part(1, 2)),
        ):
            pass
        with pytest.raises(UserError, match="part 1/2 is at work"), at_work(tmp_path / "out", None):
            pass
    assert not (tmp_path / "out").exists()
    with (
        at_work(tmp_path / "out", None),
        pytest.raises(UserError, match="out: another process is at work there"),
        at_work(tmp_path / "out", Part(1, 2)),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="an open folder cannot be renamed there")
def test_a_folder_that_is_moved_away_gets_nothing_more(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with contextlib.ExitStack() as work:
        work.enter_context(at_work(out, None))
        out.rename(tmp_path / "away")
        with pytest.raises(UserError, match="out: was moved or removed"), in_turn(out):
            pass
        with pytest.raises(UserError, match="out: was moved or removed"):
            OutputFolder(out).write("a.txt", b"1")
        with pytest.raises(UserError, match="out: was moved or removed while it was written to"):
            work.close()
    assert not out.exists()


def test_work_is_not_complete_where_its_locks_would_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, out = os.access, tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: Path(path).name != WRITERS and allowed(path, mode))
        with pytest.raises(UserError, match=f"out/{WRITERS}: may not be written to; change its permissions"):
            simulate_masks(masks(out))
        assert read_json(out / "dataset.json")["complete"] is False
    simulate_masks(masks(out))
    assert read_json(out / "dataset.json")["complete"] is True and not (out / WRITERS).exists()


def test_what_one_writer_lists_others_may_replace(tmp_path: Path) -> None:
    first, second = (OutputFolder(tmp_path, "x", name) for name in ("first", "second"))
    assert not second.known  # it has read what there was
    first.write("a.txt", b"1")
    second.write("a.txt", b"2")
    first.note("a", 1)
    second.write("b.txt", b"3")
    whole = OutputFolder(tmp_path, "x")
    whole.write("c.txt", b"4")
    assert whole.notes == {"a": 1}
    assert sorted(whole.survey().own) == ["a.txt", "b.txt", "c.txt"]
    whole.settle()
    assert not (tmp_path / WRITERS).exists() and whole.notes == {}
    assert OutputFolder(tmp_path, "x").survey().own == ("a.txt", "b.txt", "c.txt")
    (tmp_path / "d.txt").write_text("mine")
    with pytest.raises(UserError, match="this command did not write it"):
        second.write("d.txt", b"5")


# the engine


def test_items_are_done_in_order_without_a_cluster() -> None:
    assert list(ALONE.run(Doubling(), range(4), "double")) == [(0, 0), (1, 2), (2, 4), (3, 6)]
    assert Engine(Part(2, 3)).share("abcdefgh") == "beh"


def test_a_package_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytoforge.extras.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'--cluster local:2: needs the package distributed; run pip install "cytofo'):
        list(Engine(cluster="local:2").run(Doubling(), [1], "double"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two processes."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("no distributed: install the extra dask to run the tests that need it")
    from distributed import LocalCluster

    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with LocalCluster(n_workers=2, **options) as cluster:
        yield cluster.scheduler_address


def test_a_killed_worker_costs_nothing(cluster: str, tmp_path: Path) -> None:
    work = Doubling(killed=tmp_path / "killed")
    found = list(Engine(cluster=cluster).run(work, range(12), "double"))
    assert sorted(found) == [(number, 2 * number) for number in range(12)]
    assert (tmp_path / "killed").exists()
    with pytest.raises(UserError, match=r"^4: is wrong$"):
        list(Engine(cluster=cluster).run(Doubling(wrong=4), range(12), "double"))


def test_workers_that_are_started_take_memory_as_other_processes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """dask lets them give it back beyond 64 KiB, at which networks took twice as long."""
    pytest.importorskip("distributed")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    ((_, bytes_kept),) = Engine(cluster="local:1").run(Telling(), ["MALLOC_TRIM_THRESHOLD_"], "tell")
    assert bytes_kept is None


def test_few_items_are_spread_over_the_workers(cluster: str, tmp_path: Path) -> None:
    found = dict(Engine(cluster=cluster).run(Meeting(tmp_path, 2), range(2), "meet"))
    assert len(set(found.values())) == 2


def test_models_of_simulations_travel_to_the_workers(tiny_dataset: Path, tiny_movie: Path) -> None:
    for model in (Annotated(tiny_dataset, (), 1.0), Filmed(tiny_movie, ("01",), 1.0)):
        sent = pickle.loads(pickle.dumps(model))
        one, other = (each.model(np.random.default_rng(3)) for each in (model, sent))
        assert (one.name, one.size, one.density) == (other.name, other.size, other.density)
        assert len(one.shapes) == len(other.shapes) > 0


@pytest.mark.slow
def test_a_killed_client_goes_on_and_workers_write_the_same_bytes(cluster: str, one: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cytoforge", "simulate", "masks", "--out", str(out), *SMALL, "--cluster", cluster]
    client = subprocess.Popen(command)
    while client.poll() is None and not list(out.glob("masks/sim*.png")):
        time.sleep(0.02)
    client.kill()
    client.wait()
    made = {file: file.stat().st_mtime_ns for file in out.glob("masks/sim*.png")}
    simulate_masks(masks(out, cluster=cluster))
    assert files(out) == files(one)
    assert made and made == {file: file.stat().st_mtime_ns for file in made}


def test_a_model_travels_to_the_workers(cluster: str, tiny_dataset: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for out, address in (("one", None), ("out", cluster)):
        segment(Segment(run, tiny_dataset, tmp_path / out, threads=1, views=1, cluster=address))
    assert files(tmp_path / "out") == files(tmp_path / "one")
    assert np.unique(read_labels(tmp_path / "out" / "masks" / "cell_0.png")).size > 0


def test_workers_and_parts_write_the_label_zarrs_of_one_call(cluster: str, tmp_path: Path) -> None:
    """Of several chunks, with smaller copies."""
    run = write_run(tmp_path / "run")
    for version in (2, 3):
        ome_zarr(tmp_path / "images" / f"v{version}.zarr", version, (256, 256), cells((1100, 200), seed=version))

    def segmented(out: Path, **given: str) -> None:
        segment(Segment(run, tmp_path / "images", out, threads=1, views=1, **given))

    segmented(tmp_path / "one")
    segmented(tmp_path / "workers", cluster=cluster)
    for part in ("2/2", "1/2"):
        segmented(tmp_path / "parts", part=part)
    assert (tmp_path / "one" / "masks" / "v2.zarr" / "1").is_dir()
    assert files(tmp_path / "one") == files(tmp_path / "workers") == files(tmp_path / "parts")


@pytest.mark.slow
def test_workers_measure_a_study(cluster: str, tiny_dataset: Path, tmp_path: Path) -> None:
    def measured(out: str, *flags: str) -> list[dict[str, object]]:
        terms = "--preset tiny --steps 1 --threads 1 --test-share 0.34 --images 2 --networks unet --ways conventional"
        place = tmp_path / out
        command = ["study", "training", str(tiny_dataset), "--out", str(place), *terms.split(), "--seeds", "2", *flags]
        assert main(command) == 0
        assert not (place / WRITERS).exists()
        rows = read_json(place / "results.json")["rows"]
        return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]

    assert measured("workers", "--cluster", cluster) == measured("one")
    assert files(tmp_path / "workers").keys() == files(tmp_path / "one").keys()
