"""A record of the files that a command wrote into an output folder; only these are ever replaced or removed.

OUT/manifest.jsonl gets a line with name, size and SHA-256 for each write, before the file gets its final name. Files
that are not listed there, or have changed since, belong to the user. Where several processes write into OUT, each has
such a list of its own in OUT/.writers, until the work is complete.
"""

import contextlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cytoforge.data.files import atomic, digest, explained, make_folder, temporary_name, utf8
from cytoforge.data.lock import refuse_moved
from cytoforge.data.manifest import HEAD, MANIFEST, content_of, encoded, key_of, lines_of, sums_of
from cytoforge.errors import UserError
from cytoforge.progress import counted

WRITERS = ".writers"  # folder of the lists of other writers
UNFINISHED = ".unfinished"  # folder of what a process that works alone has in work


@dataclass(frozen=True)
class Found:
    """The files in an output folder: names relative to it, with slashes."""

    own: tuple[str, ...]
    """listed and unchanged files, and temporary files of an interrupted write"""
    changed: tuple[str, ...]
    """listed files that have been edited, replaced or write-protected since they were written"""
    kept: tuple[str, ...]
    """everything else: files, and links to folders, which are not followed"""


class OutputFolder:
    """A folder that a command writes into, and that may also hold the user's own files.

    Every write first completes a temporary file, then lists its checksum, then gives it its final name. So every file
    of the command is accounted for, even if it is killed. `by` distinguishes commands that share a folder, such as
    `segment`, which writes masks beside the images of `simulate`; each command owns only the files that it wrote.
    """

    def __init__(self, path: Path, by: str | None = "cytoforge", writer: str | None = None) -> None:
        """`by`: the command that writes; None, for surveying or removing, counts the files of all commands as own.

        `writer`: the name of a process that writes into the folder at the same time as others of the same command.
        """
        self.path, self.by, self.writer = path, by, writer
        self.manifest = path / (MANIFEST if writer is None else f"{WRITERS}/{writer}.jsonl")
        self._lines: list[dict[str, Any]] = []
        self._others: dict[str | None, list[dict[str, Any]]] = {}
        """lines of the other lists, by writer"""
        self._seen: dict[str | None, tuple[int, ...]] = {}
        """and how their files were when they were read"""
        self._sums: dict[str, set[tuple[int, str]]] = {}
        """by name, the (size, SHA-256) that a file of `by` may have: several after a kill, none if it was removed"""
        self._inside: set[str] = set()
        self._notes: dict[str, Any] = {}
        self._read: tuple[int, ...] | None = None
        self._cut = False
        """whether the last line of the list is not complete"""
        self._opened = self._writes = False

    # what is ours

    @property
    def known(self) -> bool:
        """Whether this command has written here before; raises UserError when the manifest is not cytoforge's."""
        self._load()
        return any(line.get("by") == self.by for line in (*self._lines, *self._foreign()))

    def require(self) -> None:
        """Raise UserError if no written files are listed, so that results cannot be told from the user's files."""
        if not self.known:
            raise UserError(
                f"{self.path}: holds results without a list of the files that were written ({MANIFEST}), as earlier "
                "versions left them, so none of them is replaced; move or remove the folder yourself, or choose "
                "another folder"
            )

    def refuse_taken(self, overwrite: bool) -> None:
        """Raise UserError where the folder is a file, or holds others' files, or this command's without `overwrite`."""
        if self.path.is_file():
            raise UserError(f"{self.path}: is a file; give a folder to write into")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not self.known:
                raise UserError(f"{self.path}: holds files that {self.by} did not write; choose another folder")
            if not overwrite:
                raise UserError(f"{self.path}: exists already; choose another name or give --overwrite")

    def lists(self, name: str) -> bool:
        """Tell whether a file, or one in a folder, is listed as written by this command, even if changed since."""
        return any(map(self._known_sums, self._files(name)))

    def _known_sums(self, name: str) -> set[tuple[int, str]]:
        """Return the (size, SHA-256) that a file may have, also by what other writers have listed by now."""
        self._load()
        if not self._sums.get(name) and self._shared():
            self.reread()
        return self._sums.get(name, set())

    def _files(self, name: str) -> list[str]:
        """Return the names of the files in a folder; of anything else, an empty folder too, its own."""
        path = self.path / name
        if path.is_symlink() or not path.is_dir():
            return [name]
        inside = (file for file in path.rglob("*") if file.is_symlink() or not file.is_dir())
        return sorted(file.relative_to(self.path).as_posix() for file in inside) or [name]

    def owns(self, name: str) -> bool:
        """Tell whether a file is unchanged since this command wrote it: same content, no link, not write-protected.

        Of a folder, such as a zarr, tells whether all its files are.
        """
        return all(self._own_sum(file) is not None for file in self._files(name))

    def _own_sum(self, name: str) -> tuple[int, str] | None:
        """Return (size, SHA-256) of a file that `owns` is true of, else None."""
        path = self.path / name
        try:
            state = path.lstat()
        except OSError:
            return None
        sums = self._known_sums(name)
        regular = stat.S_ISREG(state.st_mode) and state.st_mode & stat.S_IWUSR
        if not regular or all(size != state.st_size for size, _ in sums):
            return None
        found = _sum(path)
        return found if found in sums else None

    def intact(self, name: str) -> bool:
        """Tell whether a file is as this command wrote it, or nothing is known of it, or it is not there.

        Of a folder, tells whether all its files are.
        """
        return not self.known or all(map(self._intact, self._files(name)))

    def _intact(self, name: str) -> bool:
        sums = self._sums.get(name)
        return not sums or (found := _sum(self.path / name)) is None or found in sums

    def refuse_foreign(self, names: Iterable[str]) -> None:
        """Raise UserError when one of `names` exists and this command may not replace it."""
        for name in names:
            if os.path.lexists(self.path / name) and not self.owns(name):
                raise UserError(self._in_the_way(name))

    def refuse_unlisted(self, names: Iterable[str]) -> None:
        """Raise UserError when one of `names`, to be written later, exists and this command did not write it."""
        for name in names:
            if os.path.lexists(self.path / name) and not self.lists(name):
                raise UserError(self._in_the_way(name))

    def refuse_unwritable(self, names: Iterable[str]) -> None:
        """Raise UserError when a folder in which one of `names` lies may not be written to."""
        for folder in {(self.path / name).parent for name in names}:
            if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
                raise UserError(f"{folder}: may not be written to; change its permissions, or choose another folder")

    def _in_the_way(self, name: str, *, listed: bool | None = None) -> str:
        path = self.path / name
        if not (self.lists(name) if listed is None else listed):
            why = "is there already, and this command did not write it"
        elif path.is_file() and not path.stat().st_mode & stat.S_IWUSR:
            why = "is write-protected, so it is not replaced"
        else:
            why = "has been changed since this command wrote it"
        return f"{path}: {why}; move it away, or choose another folder"

    # writing

    def _refuse_place(self, name: str) -> None:
        """Raise UserError where `name` may not be written."""
        refuse_moved(self.path)
        self._load()
        self._refuse_links(name)
        self.refuse_foreign([name])

    def _refuse_links(self, name: str) -> None:
        """Raise UserError where a folder in which `name` lies is a link."""
        if _linked(self.path, name):
            where = (self.path / name).parent
            raise UserError(
                f"{where}: is a link to another folder, where nothing is written; remove it, or choose another folder"
            )

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a temporary file to write to; it becomes the file `name` when the block ends without error.

        Raises UserError when a file exists there that this command did not write, and as `files.atomic`.
        """
        self._refuse_place(name)
        temporary = _temporary(name, self.writer)
        if name not in self._sums or (self.path / temporary).is_symlink():
            self.refuse_foreign([temporary])
            self._append({"name": name})  # lists the name, so that the temporary file is known
        with atomic(self.path / name, self.writer) as file:
            yield file
            self.refuse_foreign([name])  # a file may have appeared in the meantime
            self._append({"name": name, "size": file.stat().st_size, "sha256": digest(file)})

    @contextlib.contextmanager
    def writing_folder(self, name: str, part: Path) -> Iterator[Path]:
        """Give an empty folder `part`, which is removed if it exists, to write files into; becomes `name` at the end.

        `part` lies on the same disk, and is gone when the block ends. Raises UserError as `writing`.
        """
        self._refuse_place(name)
        shutil.rmtree(part, ignore_errors=True)
        make_folder(part)
        try:
            yield part
            if os.path.lexists(self.path / name):
                self.remove(name)
            for file in sorted(file for file in part.rglob("*") if file.is_file()):
                inside = f"{name}/{file.relative_to(part).as_posix()}"
                self._append({"name": inside, "size": file.stat().st_size, "sha256": digest(file)})
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            part.rename(self.path / name)
        except OSError as error:
            raise explained(self.path / name, error) or error from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def write(self, name: str, content: bytes | bytearray | memoryview) -> Path:
        """Write a file and return its path; raises UserError as `writing`."""
        with self.writing(name) as file:
            file.write_bytes(content)
        return self.path / name

    def write_json(self, name: str, value: Any) -> Path:
        """Write a value as indented JSON; raises UserError as `writing`."""
        return self.write(name, utf8(json.dumps(value, indent=2, ensure_ascii=False) + "\n"))

    def remove(self, name: str) -> None:
        """Delete a file or folder that this command wrote; raises UserError when it did not, or it has changed."""
        self.refuse_foreign([name])
        files = self._files(name)
        self._delete(files)
        for file in files:
            self._append({"name": file})

    def note(self, item: str, facts: Any) -> None:
        """Keep facts, plain values, about an item that is done; they are there until the work is complete."""
        self._append({"item": item, "facts": facts})

    @property
    def notes(self) -> dict[str, Any]:
        """What was noted by item, by all writers of this command."""
        self._load()
        return dict(self._notes)

    def move(self, name: str, new: str) -> None:
        """Give a file that this command wrote another name, also in place of one of its own; raises as `remove`."""
        self.refuse_foreign([new])
        path, found = self.path / name, self._own_sum(name)
        if found is None:
            raise UserError(self._in_the_way(name))
        size, sha256 = found
        self._append({"name": new, "size": size, "sha256": sha256})
        try:
            path.replace(self.path / new)
        except OSError as error:
            raise explained(path, error) or error from error
        self._append({"name": name})

    def inside(self, name: str) -> Path:
        """Return the path of a subfolder in which other commands work for this one, with manifests of their own.

        The files listed there are removed when this folder is replaced.
        """
        self._load()
        if name not in self._inside:
            self._append({"folder": name})
        return self.path / name

    def adopt(self) -> None:
        """List all files in this folder, which was just written under a temporary name."""
        names = [file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()]
        for name in sorted(names):
            path = self.path / name
            self._append({"name": name, "size": path.stat().st_size, "sha256": digest(path)})

    # several writers

    @property
    def scratch(self) -> Path:
        """A folder for what this writer has in work."""
        return self.path / (UNFINISHED if self.writer is None else f"{WRITERS}/{self.writer}")

    def make_scratch(self, shared: str | None = None) -> Path:
        """Make `scratch`, or a folder that all writers share by its name; raises UserError where a link is there."""
        place = self.scratch if shared is None else self.path / UNFINISHED / shared
        self._refuse_links((place / MANIFEST).relative_to(self.path).as_posix())
        make_folder(place)
        return place

    def reread(self) -> None:
        """Read again what the other writers have listed."""
        self._opened = False
        self._load()

    def refuse_unsettled(self) -> None:
        """Raise UserError where nothing that writers leave could be removed; work is not to be marked as done then."""
        self.refuse_unwritable([f"{WRITERS}/any"])

    def settle(self) -> None:
        """End the work: one list, a line for each file of this command in the order of names, and no notes.

        So it is the same whichever processes wrote the files, in whatever order.
        """
        self.reread()
        if self._read is None:
            return
        for writer, lines in self._others.items():
            for name in sums_of(lines, self.by):  # what a killed writer has left
                (self.path / _temporary(name, writer)).unlink(missing_ok=True)
        self._lines = [*self._foreign(), *self._lines]
        lines = [line for line in self._compact() if line.get("by") != self.by or self._remains(line)]
        own = [line for line in lines if line.get("by") == self.by]
        unique = {json.dumps(line, sort_keys=True): line for line in own}.values()
        ordered = sorted(unique, key=lambda line: (line.get("folder", ""), line.get("name", "")))
        self._rewrite([*(line for line in lines if line.get("by") != self.by), *(ordered or [{"by": self.by}])])
        self._forget_writers()

    def _remains(self, line: dict[str, Any]) -> bool:
        return "folder" in line or ("sha256" in line and os.path.lexists(self.path / line["name"]))

    def _shared(self) -> bool:
        return self.writer is not None or (self.path / WRITERS).is_dir()

    def _foreign(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the other lists."""
        return (line for lines in self._others.values() for line in lines)

    def _forget_writers(self) -> None:
        """Remove the lists of the other writers, and what they had in work."""
        for entry in sorted(self.path.joinpath(WRITERS).glob("*")):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.suffix == ".jsonl":
                entry.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: somebody holds a lock there
            self.path.joinpath(WRITERS).rmdir()
        self.reread()

    # replacing

    def survey(self, beside: str | None = None) -> Found:
        """Return all files in the folder, without changing any; the subfolder `beside` is skipped."""
        self._load()
        own: list[str] = []
        changed: list[str] = []
        kept: list[str] = []
        temporary = {
            _temporary(name, writer)
            for writer, lines in ((self.writer, self._lines), *self._others.items())
            for name in sums_of(lines, self.by)
        }
        skipped = {MANIFEST, _temporary(MANIFEST)} if self._read else set()
        for root, folders, files in os.walk(self.path):
            place = Path(root).relative_to(self.path)
            for folder in sorted(folders):
                name = (place / folder).as_posix()
                if (Path(root) / folder).is_symlink():
                    (changed if self._sums.get(name) else kept).append(name)
                elif name in self._inside:
                    inner = OutputFolder(self.path / name, None).survey()
                    for there, here in ((inner.own, own), (inner.changed, changed), (inner.kept, kept)):
                        here += [f"{name}/{file}" for file in there]
                    if (self.path / name / MANIFEST).is_file() and not inner.changed + inner.kept:
                        own.append(f"{name}/{MANIFEST}")
                elif name not in (beside, WRITERS):
                    continue
                folders.remove(folder)
            for file in sorted(files):
                name = (place / file).as_posix()
                if name in skipped:
                    continue
                if self._sums.get(name):
                    (own if self.owns(name) else changed).append(name)
                elif name in temporary and not (self.path / name).is_symlink():
                    own.append(name)
                else:
                    kept.append(name)
        return Found(tuple(own), tuple(sorted(changed)), tuple(sorted(kept)))

    def clear(self, found: Found, beside: str | None = None) -> None:
        """Remove the files that `survey` found as own, and name on standard error the files that are kept.

        Raises UserError, before anything is removed, when a file was changed since it was written.
        """
        if found.changed:
            others = len(found.changed) - 1
            more = f" (and {counted(others, 'file')} more likewise)" if others else ""
            raise UserError(self._in_the_way(found.changed[0], listed=True) + more)
        self.refuse_unwritable(found.own)
        self._delete(found.own)
        self._load()
        if self._read:
            gone = set(found.own)
            every = (*self._foreign(), *self._lines)
            stay = [line for line in every if line.get("by") != self.by or self._stays(line, gone, beside)]
            self._rewrite([*stay, {"by": self.by}])  # the folder stays known, even if it is empty
            self._forget_writers()
        tell_kept(self.path, found.kept)

    def discard(self, name: str) -> None:
        """Remove the unchanged files in a folder from `inside`, and name on standard error the files that are kept."""
        part = OutputFolder(self.path / name, None)
        if name not in self._inside or not part.path.is_dir() or _linked(self.path, f"{name}/{MANIFEST}"):
            return
        found = part.survey()
        left = (*found.changed, *found.kept)
        part._delete(found.own)
        if not left:
            self._delete([f"{name}/{MANIFEST}"])
        tell_kept(part.path, left)

    def remove_all(self, found: Found) -> None:
        """Remove the files that `survey` found as own, the manifest, and then the folder if it is empty."""
        self._delete((*found.own, MANIFEST))
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _stays(self, line: dict[str, Any], gone: set[str], beside: str | None) -> bool:
        """Tell whether a line is still needed: its file lies in `beside`, or exists and is not among those `gone`."""
        name = line.get("name") or line.get("folder")
        if name is None:
            return False
        if beside and PurePosixPath(name).is_relative_to(beside):
            return True
        return name not in gone and os.path.lexists(self.path / name)

    def _delete(self, names: Iterable[str]) -> None:
        """Delete files, and folders that become empty; manifests are deleted after the files that they list."""
        parents: set[Path] = set()
        for name in sorted(names, key=lambda name: PurePosixPath(name).name == MANIFEST):
            path = self.path / name
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise explained(path, error) or error from error
            parents |= {parent for parent in path.parents if parent != self.path and self.path in parent.parents}
        for folder in sorted(parents, key=lambda parent: -len(parent.parts)):
            if not folder.is_symlink():
                with contextlib.suppress(OSError):  # not empty: it holds files of the user
                    folder.rmdir()

    # the list

    def _load(self) -> None:
        """Read the manifest, unless it is unchanged since the last reading or writing; raises UserError if invalid."""
        if not self._opened:
            self._opened = True
            self._read_others()
        file = self.manifest
        try:
            state = _state(file.stat())
        except (FileNotFoundError, NotADirectoryError):
            if self._read is not None:
                self._read = None
                self._take([])
            return
        if state == self._read:
            return
        content = content_of(file)
        self._take(lines_of(file, content))
        self._read = state
        self._cut = not content.endswith(b"\n")

    def _read_others(self) -> None:
        """Read the lists of the other writers, unless they are as they were, but for a line that is being written."""
        files: dict[str | None, Path] = {None: self.path / MANIFEST}
        files |= {file.stem: file for file in sorted(self.path.joinpath(WRITERS).glob("*.jsonl"))}
        found: dict[str | None, tuple[int, ...]] = {}
        for writer in files.keys() - {self.writer}:
            with contextlib.suppress(OSError):  # another process has just joined it to its own
                found[writer] = _state(files[writer].stat())
        if found == self._seen:
            return
        self._seen = found
        self._others = {writer: lines_of(files[writer], content_of(files[writer])) for writer in found}
        self._take(self._lines)

    def _take(self, lines: list[dict[str, Any]]) -> None:
        self._lines = lines
        self._sums, self._inside, self._notes = {}, set(), {}
        for some in (*self._others.values(), lines):
            for name, sums in sums_of(some, self.by).items():
                self._sums[name] = self._sums.get(name, set()) | sums
            own = [line for line in some if self.by in (None, line.get("by"))]
            self._inside |= {line["folder"] for line in own if "folder" in line}
            self._notes |= {line["item"]: line.get("facts") for line in own if "item" in line}

    def _compact(self) -> list[dict[str, Any]]:
        """Return the last line of each name, and the line that matches the file, if the last write was interrupted."""
        last = {json.dumps(key_of(line)): line for line in self._lines}
        stale = [line for line in self._lines if line is not last[json.dumps(key_of(line))]]
        there = {line["name"]: _sum(self.path / line["name"]) for line in stale if "sha256" in line}
        return [
            line
            for line in self._lines
            if line is last[json.dumps(key_of(line))]
            or ("sha256" in line and there[line["name"]] == (line["size"], line["sha256"]))
        ]

    def _append(self, line: dict[str, Any]) -> None:
        self._load()
        if self._read is None:
            make_folder(self.manifest.parent)
            self._rewrite([])
        elif self._cut or not self._writes:
            self._tidy()
        self._writes = True
        line = {**line, "by": self.by}
        file = self.manifest
        try:
            with file.open("ab") as stream:
                stream.write(encoded(line))
        except OSError as error:
            raise explained(file, error) or error from error
        self._lines.append(line)
        if "folder" in line:
            self._inside.add(line["folder"])
        elif "item" in line:
            self._notes[line["item"]] = line["facts"]
        elif "sha256" in line:
            self._sums.setdefault(line["name"], set()).add((line["size"], line["sha256"]))
        else:
            self._sums[line["name"]] = set()
        self._read = _state(file.stat())

    def _tidy(self) -> None:
        """Mend the list, or shorten it before the first write; who only reads does not, as another may be writing."""
        if self._cut:  # by a kill, before its file got its final name
            self._rewrite(self._lines)
        elif len(self._lines) > 2 * len({json.dumps(key_of(line)) for line in self._lines}) + 16:
            self._rewrite(self._compact())

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        file = self.manifest
        with atomic(file) as temporary:
            temporary.write_bytes(b"".join(map(encoded, [HEAD, *lines])))
        self._take(list(lines))
        self._read, self._cut = _state(file.stat()), False


def tell_kept(path: Path, names: tuple[str, ...]) -> None:
    """Print on standard error, in one line, which files are kept because this command did not write them."""
    if names:
        first = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        print(f"{path}: kept {counted(len(names), 'file')} that this command did not write: {first}", file=sys.stderr)


def _linked(path: Path, name: str) -> bool:
    """Tell whether one of the parent folders of `name` inside `path` is a symbolic link."""
    return any((path / parent).is_symlink() for parent in PurePosixPath(name).parents if parent.name)


def _sum(path: Path) -> tuple[int, str] | None:
    """Return size in bytes and SHA-256 of a file, None if it cannot be read."""
    try:
        return path.stat().st_size, digest(path)
    except OSError:
        return None


def _temporary(name: str, writer: str | None = None) -> str:
    path = PurePosixPath(name)
    return path.with_name(temporary_name(path.name, writer)).as_posix()


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ino
