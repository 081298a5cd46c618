"""The lines of manifest.jsonl, which lists the files that commands wrote: a head, then a line of JSON for each file."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from cytoforge.errors import UserError

MANIFEST = "manifest.jsonl"
FORMAT = 1
HEAD = {"manifest": "cytoforge", "format": FORMAT}  # first line of the file, which a user's own manifest.jsonl lacks


def sums_of(lines: Iterable[dict[str, Any]], by: str | None) -> dict[str, set[tuple[int, str]]]:
    """Return the (size, SHA-256) by name, of one command or (None) of all."""
    sums: dict[str, set[tuple[int, str]]] = {}
    for line in lines:
        if "name" not in line or (by is not None and line.get("by") != by):
            continue
        if "sha256" in line:
            sums.setdefault(line["name"], set()).add((line["size"], line["sha256"]))
        else:
            sums[line["name"]] = set()
    return sums


def key_of(line: dict[str, Any]) -> list[Any]:
    """Return what a line tells of, the last of which counts."""
    return [line.get("by"), line.get("name"), line.get("folder"), line.get("item")]


def content_of(file: Path) -> bytes:
    """Read a list; raises UserError where that fails."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); restore its permissions") from error


def lines_of(file: Path, content: bytes) -> list[dict[str, Any]]:
    """Return the valid lines of a list without its head; raises UserError where it is not cytoforge's."""
    lines = [line for line in map(parsed, content.split(b"\n")) if line is not None]
    if not lines or lines[0].get("manifest") != HEAD["manifest"]:
        raise UserError(
            f"{file}: is not a list that cytoforge wrote, which it would keep under this name; choose another folder"
        )
    if lines[0].get("format") != FORMAT:
        raise UserError(f"{file}: is of another version of cytoforge; use that version, or choose another folder")
    return lines[1:]


def parsed(text: bytes) -> dict[str, Any] | None:
    """Return a line of the manifest, or None if it is invalid."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict):
        return None
    name = line.get("name", line.get("folder", "x"))
    if not isinstance(line.get("item", "x"), str):
        return None
    if not isinstance(name, str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return None
    if "sha256" in line and not (isinstance(line["sha256"], str) and isinstance(line.get("size"), int)):
        return None
    return line


def encoded(line: dict[str, Any]) -> bytes:
    """Return a line as it stands in the file."""
    return json.dumps(line).encode() + b"\n"
