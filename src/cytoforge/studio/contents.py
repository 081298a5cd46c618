"""Images that are looked for by what is in their files, whatever they are called."""

from collections.abc import Mapping
from pathlib import Path

from cytoforge.data.files import digest


class Contents:
    """Image files, or zarr folders, by name."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._by_size: dict[int, list[str]] = {}
        for name, file in files.items():
            self._by_size.setdefault(_bytes(file), []).append(name)
        self._digests: dict[str, str] = {}

    def pop(self, file: Path) -> str | None:
        """Return the name of an image that is this file or holds the same bytes, once; None where there is none."""
        alike = self._by_size.get(_bytes(file), [])
        found = next((name for name in alike if self._files[name].samefile(file)), None)
        if found is None and alike:
            wanted = digest(file)
            found = next((name for name in alike if self._digest(name) == wanted), None)
        if found is not None:
            alike.remove(found)
        return found

    def _digest(self, name: str) -> str:
        if name not in self._digests:
            self._digests[name] = digest(self._files[name])
        return self._digests[name]


def _bytes(image: Path) -> int:
    """Return how many bytes a file has, or all files of a folder together."""
    files = (file for file in image.rglob("*") if file.is_file()) if image.is_dir() else (image,)
    return sum(file.stat().st_size for file in files)
