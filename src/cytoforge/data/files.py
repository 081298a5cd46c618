"""Writing that is whole or absent, JSON, and hashes of files."""

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cytoforge.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name in the folder of `path` to write to; it becomes `path` when the block ends without error.

    A block that fails leaves neither a temporary file nor a changed `path`. Missing folders are made.
    Raises UserError when the disk is full or the folder may not be written to.
    """
    temporary = path.with_name(f".{path.name}.part")  # the same after a kill, so that nothing piles up
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if (told := explained(path, error)) is not None:
            raise told from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, if need be; raises UserError when that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(path, error) or error from error


def explained(path: Path, error: BaseException) -> UserError | None:
    """Return the UserError that a failed writing calls for, if it is the user's to mend."""
    # safetensors writes in Rust and reports the system's error number in words only
    if (isinstance(error, OSError) and error.errno in FULL) or f"os error {errno.ENOSPC})" in str(error):
        return UserError(f"{path}: the disk is full; make room or write to another disk")
    if isinstance(error, OSError):
        return UserError(f"{path}: cannot be written ({error.strerror or error}); choose another place")
    return None


def write_bytes(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Write a file atomically; raises UserError when the disk is full."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; raises UserError when the disk is full."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises UserError when the file is missing, damaged or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; is this the right folder?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); mend or restore the file") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object, not {type(value).__name__}; mend the file")
    return value


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder such as a zarr array, in hexadecimal."""
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        listing = "".join(f"{part.relative_to(path).as_posix()} {digest(part)}\n" for part in parts)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
