"""A large image whose segmentation is killed goes on below the last whole strip, to the same bytes."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.cells.instances import TARGETS
from cytoforge.commands.segment import segment
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import Normalisation, write_image
from cytoforge.engine import ALONE, Engine
from cytoforge.errors import UserError
from cytoforge.inference import panels, row_files, segmenter, strips
from cytoforge.inference import segment_work as segment_module
from cytoforge.inference.row_files import RowFile
from cytoforge.inference.segment import segment_dataset
from cytoforge.inference.segmenter import InMemory, Segmenter
from cytoforge.settings import Segment
from test_engine import files
from test_gigapixel import LABELS, cells, ome_zarr
from test_segment import Toy, painted, write_run

LIMITS = np.array([[-1.0, 1.0]])
IMAGE = painted(cells((300, 230), seed=5))


class Death(BaseException):
    pass


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Panels and strips of which a small image has several, and that are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "PANEL", 140)
        patch.setattr(strips, "STRIP_PIXELS", 1)
        patch.setattr(strips, "LEAST_STRIP", 64)
        patch.setattr(segmenter, "LONG", 1)
        yield


def dying(after: int, share: float = 0.5) -> Callable[[BinaryIO, Path, bytes], None]:
    """A write that dies the given number of times later, with a share of its bytes on the disk."""
    written = 0

    def write(file: BinaryIO, path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if written > after:
            file.write(content[: int(share * len(content))])
            file.flush()
            raise Death
        file.write(content)
        file.flush()

    return write


def toy(scale: float = 1.0, claims: int | None = 2, tile: int = 90, fingerprint: str = "a") -> Segmenter:
    network = Toy(2, stride=4, claims=claims)
    return Segmenter(Path(), network, TARGETS["boundary"], Normalisation(), scale, tile, 1, fingerprint)


def labels_of(
    run: Segmenter, folder: Path, image: str | None = "image", limits: Any = LIMITS, pixels: np.ndarray = IMAGE
) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    labels, _ = run.segment_rows(InMemory(pixels), limits, folder, image=image)
    with labels:
        return np.array(labels.rows(0, labels.height))


def cut_short(run: Segmenter, folder: Path, after: int, share: float = 0.5) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_files, "_write", dying(after, share))
        with suppress(Death):  # unless all was done before
            labels_of(run, folder)


@given(
    deaths=st.lists(st.tuples(st.integers(0, 14), st.floats(0, 1)), min_size=1, max_size=3),
    scale=st.sampled_from([1.0, 0.7]),
    claims=st.sampled_from([2, None]),
    threads=st.sampled_from([1, 3]),
)
@settings(max_examples=12)
def test_strips_of_killed_processes_give_what_one_gives(
    deaths: list[tuple[int, float]],
    scale: float,
    claims: int | None,
    threads: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whether tiles are exact or blended, at whatever byte each process died."""
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        whole = labels_of(toy(scale, claims), folder / "whole", None)
        for after, share in deaths:
            cut_short(toy(scale, claims), folder / "parts", after, share)
        np.testing.assert_array_equal(labels_of(toy(scale, claims), folder / "parts"), whole)


def test_strips_that_are_whole_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of 64 rows; tiles of 88 rows, each 80 below the one before, in bands of two widths."""
    tall, whole, run = painted(cells((900, 130))), toy(), toy()
    expected = labels_of(whole, tmp_path / "whole", None, pixels=tall)
    assert whole.network.calls == 12 * 2
    with monkeypatch.context() as patch:
        patch.setattr(row_files, "_write", dying(3 * 10))  # labels, overlap and line of ten strips
        with pytest.raises(Death):
            labels_of(run, tmp_path / "parts", pixels=tall)
    assert len((tmp_path / "parts" / "strips-0").read_bytes().splitlines()) == 10
    before = run.network.calls
    np.testing.assert_array_equal(labels_of(run, tmp_path / "parts", pixels=tall), expected)
    assert run.network.calls - before == 5 * 2  # those that end below row 640, less the 64 that both strips look at
    labels_of(run, tmp_path / "parts", pixels=tall)
    assert run.network.calls - before == 5 * 2


@pytest.mark.parametrize("cut", [False, True])
def test_damaged_strips_are_made_again(cut: bool, tmp_path: Path) -> None:
    run = toy(0.7)
    whole = labels_of(run, tmp_path / "whole", None)
    cut_short(run, tmp_path / "parts", 4 * 5)
    for name in ("work", "labels-0", "cell-0", "overlap-0", "strips-0", "strips-1"):
        shutil.copytree(tmp_path / "parts", tmp_path / name)
        file = tmp_path / name / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content[: len(content) // 2] if cut else content)
        before = run.network.calls
        np.testing.assert_array_equal(labels_of(run, tmp_path / name), whole, name)
        assert run.network.calls > before


def test_strips_of_other_work_are_not_taken(tmp_path: Path) -> None:
    cut_short(toy(), tmp_path / "rows", 3 * 6)
    (tmp_path / "rows" / "notes").write_text("mine")
    for run, image, limits in (
        (toy(fingerprint="b"), "image", LIMITS),
        (toy(), "image b", LIMITS),
        (toy(), "image", np.array([[-1.0, 0.9]])),
    ):
        fresh = toy()
        labels_of(fresh, tmp_path / "whole", None)
        labels_of(run, tmp_path / "rows", image, limits)
        assert run.network.calls == fresh.network.calls
    assert (tmp_path / "rows" / "notes").read_text() == "mine"


def test_small_images_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "LONG", IMAGE.size + 1)
    cut_short(toy(), tmp_path, 3)
    assert {file.name.split("-")[0] for file in tmp_path.iterdir()} == {"labels"}


def test_a_full_disk_is_told_and_rows_are_taken_from_where_they_are(tmp_path: Path) -> None:
    class Full:
        def write(self, content: bytes) -> int:
            raise OSError(28, "No space left on device")

    rows = np.arange(60, dtype=np.int32).reshape(12, 5)
    with RowFile(tmp_path / "rows", 5, np.int32) as file:
        blocks = [file.append(rows[:7]), file.append(rows[7:])]
    with RowFile(tmp_path / "rows", 5, np.int32, keep=True) as file:
        assert not file.holds(blocks[1])  # its rows do not follow
        for block in blocks:
            assert file.holds(block) and not file.holds(block._replace(checksum=0))
            file.take(block)
        np.testing.assert_array_equal(file.rows(5, 9), rows[5:9])
    with pytest.raises(UserError, match=r"rows: cannot be written \(No space left on device\); make room"):
        row_files._write(Full(), tmp_path / "rows", b"")  # type: ignore[arg-type]


# ---- the command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("cytoforge.inference.load.load_network", lambda run, name, device: Toy())
    return write_run(tmp_path / "run")


@pytest.mark.parametrize("kind", ["big.zarr", "big.tif"])
@pytest.mark.parametrize("part", [None, "1/2"])
def test_a_killed_command_goes_on(
    kind: str, part: str | None, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = tmp_path / "images" / kind, tmp_path / "out"
    image.parent.mkdir()
    if kind == "big.zarr":
        ome_zarr(image, 2)
    else:
        write_image(image, painted(LABELS))
    segment(Segment(run, image, tmp_path / "one", threads=1))
    for after in (3, 7, 9):
        with monkeypatch.context() as patch:
            patch.setattr(row_files, "_write", dying(after))
            with pytest.raises(Death):
                segment(Segment(run, image, out, threads=1, part=part))
        (place,) = (out / ".unfinished").iterdir()
        assert (place / "work").exists() and not (place / "pieces").exists()
    for number in ("1/2", "2/2") if part else (None,):
        segment(Segment(run, image, out, threads=1, part=number))
    assert files(out) == files(tmp_path / "one")


def test_what_goes_on_is_gone_where_it_is_replaced(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = ome_zarr(tmp_path / "big.zarr", 2), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(row_files, "_write", dying(9))
        with pytest.raises(Death):
            segment(Segment(run, image, out, threads=1))
    write_image(tmp_path / "small.tif", IMAGE)
    capsys.readouterr()
    segment(Segment(run, tmp_path / "small.tif", out, threads=1, overwrite=True, views=1))
    assert "kept" not in capsys.readouterr().err
    assert sorted(file.name for file in out.iterdir()) == ["manifest.jsonl", "masks", "segment.json"]
    assert list(json.loads((out / "segment.json").read_text())["masks"]) == ["small"]


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two images, of three panels and of one."""
    monkeypatch.setattr(segment_module, "HEAVY", 0)
    ome_zarr(tmp_path / "images" / "big.zarr", 2)
    write_image(tmp_path / "images" / "tall.tif", painted(cells((500, 100))))
    return tmp_path / "images"


def test_parts_share_the_panels_of_an_image(
    wide: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segment(Segment(run, wide, tmp_path / "one", threads=1))
    out, decoded = tmp_path / "parts", list[list[str]]()
    append = row_files.StripFiles.append

    def counted(self: row_files.StripFiles, strip: Any) -> None:
        decoded[-1].append(f"{self.labels.width} {self.labels.path.name}")
        append(self, strip)

    monkeypatch.setattr(row_files.StripFiles, "append", counted)
    for part in ("1/2", "2/2", "1/2"):
        decoded.append([])
        capsys.readouterr()
        segment(Segment(run, wide, out, threads=1, part=part))
        if part == "1/2" and len(decoded) == 1:
            assert "0 masks with 0 cells; 2 masks of other parts still to come" in capsys.readouterr().out
    assert [sorted(set(names)) for names in decoded] == [
        ["174 labels-0", "174 labels-2"],  # of the wide image
        ["100 labels-0", "238 labels-1"],
        [],
    ]
    assert files(out) == files(tmp_path / "one")


def test_what_parts_decoded_is_joined_by_the_whole_and_lost_panels_are_decoded_again(
    wide: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(Segment(run, wide, tmp_path / "one", threads=1))
    for number, lost in enumerate((False, True)):
        out = tmp_path / f"parts{number}"
        segment(Segment(run, wide, out, threads=1, part="1/2"))
        if lost:
            shutil.rmtree(out / ".unfinished")
            segment(Segment(run, wide, out, threads=1, part="2/2"))
        else:
            segment(Segment(run, wide, out, threads=1))
        assert files(out) == files(tmp_path / "one")


def test_workers_share_the_panels_of_an_image(wide: Path, run: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options, silence_logs=50) as cluster:  # in this process, with its small panels
        for out, engine in (("one", ALONE), ("workers", Engine(cluster=cluster.scheduler_address))):
            found = segment_dataset(Segmenter.load(run, threads=1), Dataset.open(wide), tmp_path / out, engine=engine)
    assert found.images == 2 and found.missing == 0
    assert files(tmp_path / "workers") == files(tmp_path / "one")
