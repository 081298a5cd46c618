"""Atomic writing of files, JSON, hashes of files, and text that contains file names."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cytoforge.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
LONGEST = 255  # bytes of a file name that common file systems allow
MAX_JSON = 2**28  # bytes
LARGEST = 1e30  # largest absolute value of a number in JSON


@contextlib.contextmanager
def atomic(path: Path, writer: str | None = None) -> Iterator[Path]:
    """Give a temporary name in the folder of `path` to write to; it becomes `path` when the block ends without error.

    A block that fails leaves neither a temporary file nor a changed `path`. Missing folders are made. `writer` tells
    processes apart that may write the same file at once. Raises UserError when the disk is full or the folder may not
    be written to.
    """
    temporary = path.with_name(temporary_name(path.name, writer))
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


def temporary_name(name: str, writer: str | None = None) -> str:
    """Return the name under which a file is written: the same after a kill, so that nothing piles up."""
    temporary = f".{name}.part" if writer is None else f".{name}.{writer}.part"
    return f".{hashlib.sha256(utf8(temporary)).hexdigest()}.part" if is_too_long(temporary) else temporary


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file, which the system releases with the process; the file is gone afterwards.

    Without `wait` it raises BlockingIOError where another process holds it. On Windows, and on disks that know no
    locks, none is held. Raises UserError when the file cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    while True:
        current = False
        make_folder(path.parent)
        try:
            file = path.open("a+b")
        except FileNotFoundError:  # whoever has left its folder last has removed it
            continue
        except OSError as error:
            raise explained(path, error) or error from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            with contextlib.suppress(FileNotFoundError):
                current = os.path.samestat(os.fstat(file.fileno()), path.stat())
            if not current:  # whoever held it has removed it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def is_too_long(name: str) -> bool:
    """Tell whether a file name is longer than file systems allow."""
    return len(os.fsencode(name)) > LONGEST


def utf8(text: str) -> bytes:
    r"""Encode text that may contain file names: bytes of a name that are not UTF-8 become \udc80 to \udcff.

    JSON writes them in the same way, so a name in a JSON file is read back unchanged.
    """
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def in_utf8(path: Path) -> Iterator[Path]:
    """Give a name under which libraries that require UTF-8 can open a file for reading, whatever its own name is.

    Raises OSError where the file cannot be opened.
    """
    if utf8(str(path)) == os.fsencode(path):
        yield path
        return
    with path.open("rb") as file:
        yield Path(f"/dev/fd/{file.fileno()}")  # names that are not UTF-8 exist only on Unix


def make_folder(path: Path) -> None:
    """Make a folder and its parents if they are missing; raises UserError when that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(path, error) or error from error


def explained(path: Path, error: BaseException) -> UserError | None:
    """Return the UserError for a failed write that the user can mend (an OSError), else None."""
    if isinstance(error, OSError):
        if error.errno in FULL:
            return UserError(f"{path}: the disk is full; make room or write to another disk")
        return UserError(f"{path}: cannot be written ({error.strerror or error}); choose another place")
    return None


def write_bytes(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Write a file atomically; raises UserError when the disk is full or the folder may not be written to."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; raises UserError as write_bytes."""
    write_bytes(path, utf8(json.dumps(value, indent=2, ensure_ascii=False) + "\n"))


def check_readable(path: Path, remedy: str) -> None:
    """Raise UserError, ending in `remedy`, unless `path` is a readable regular file or a link to one."""
    try:
        with path.open("rb") if path.is_file() else contextlib.nullcontext():
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); change its permissions, or {remedy}") from error
    if not path.is_file():
        link = "is a link to nothing" if path.is_symlink() else "does not exist"
        what = "is a folder, no file" if path.is_dir() else "is no regular file" if path.exists() else link
        raise UserError(f"{path}: {what}; {remedy}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises UserError as load_json, and when the file holds no object."""
    value = load_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object, not {type(value).__name__}; mend the file")
    return value


def load_json(path: Path, largest: int = MAX_JSON, shrink: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON value in UTF-8 or UTF-16, with or without a byte order mark.

    `shrink` replaces each object as soon as it is read, so that a large file need not be in memory as Python's lists.
    Raises UserError when the file is missing, may not be read, is damaged or has more than `largest` bytes.
    """
    check_readable(path, "is this the right folder?")
    if path.stat().st_size > largest:
        raise UserError(f"{path}: is larger than {largest / 2**20:.0f} MiB, which no such file is; restore the file")
    try:
        return json.loads(path.read_bytes(), object_hook=shrink)
    except (ValueError, RecursionError) as error:  # damaged, numbers of thousands of digits, too deep nesting
        raise UserError(f"{path}: cannot be read as JSON ({error}); mend or restore the file") from error


def is_number(value: Any) -> bool:
    """Tell whether a JSON value is a number (not a boolean) with an absolute value of at most LARGEST."""
    return type(value) in (int, float) and abs(value) <= LARGEST


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder such as a zarr array, in hexadecimal."""
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        listing = "".join(f"{part.relative_to(path).as_posix()} {digest(part)}\n" for part in parts)
        return hashlib.sha256(utf8(listing)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
