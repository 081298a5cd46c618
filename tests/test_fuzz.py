"""Damaged files: each reader of `fuzz/readers.py` on a few changes by chance; `make fuzz` tries many more."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
from readers import READERS, Fault, Reader, tried

from cytoforge.errors import UserError

TRIES = 12


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes of a file, cut it, or repeat a part of it."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        start, stop = sorted(int(place) for place in rng.integers(0, len(data) + 1, 2))
        match rng.integers(5):
            case 0:
                data[start : start + 1] = rng.bytes(1)
            case 1:
                data[start : start + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"-1e9", b"null"])
            case 2:
                del data[start : start + 8]
            case 3:
                data[start:start] = data[start : min(stop, start + 64)]
            case _:
                del data[stop + (len(data) - stop) // 2 :]
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    reader, folder = READERS[name], tmp_path / "in"
    folder.mkdir()
    contents, rng = reader.contents(folder), np.random.default_rng(list(name.encode()))
    outcomes = Counter(tried(reader, folder, content) for content in contents)
    assert outcomes == {"read": len(contents)}
    outcomes.update(tried(reader, folder, changed(contents[n % len(contents)], rng)) for n in range(TRIES))
    assert outcomes["refused"]


def refuse(sentence: str) -> Reader:
    def read(folder: Path) -> None:
        raise UserError(sentence)

    return Reader("cells.txt", lambda folder: [b"1"], read)


def escape(folder: Path) -> None:
    (folder.parent / "elsewhere").touch()


def escape_refused(folder: Path) -> None:
    escape(folder)
    raise UserError("cells.txt: bad")


def exhaust(folder: Path) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("reader", "says"),
    [
        (Reader("cells.txt", lambda folder: [], lambda folder: 1 / 0), "ZeroDivisionError is no sentence"),
        (Reader("cells.txt", lambda folder: [], escape), "outside of the output"),
        (Reader("cells.txt", lambda folder: [], escape_refused), "outside of the output"),
        (Reader("cells.txt", lambda folder: [], exhaust), "1 bytes took all memory"),
        (Reader("cells.txt", lambda folder: [], lambda folder: [1], lambda path: [2]), "reads something else"),
        (refuse("cells.txt: bad;\ntrace"), "not one sentence"),
        (refuse("cells are bad"), "not one sentence"),
    ],
)
def test_faults_are_seen(reader: Reader, says: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(Fault, match=says):
        tried(reader, tmp_path / "in", b"1")
