"""The movie folder of a studio with its corrected tracks, for all other commands; no file of the user is replaced."""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.images import encode_labels, read_image, write_image
from cytoforge.data.movie import read_sequences
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.tracks import Calibration, movie_info, read_calibration
from cytoforge.data.writer import INFO, made_by, read_info
from cytoforge.errors import UserError
from cytoforge.studio.workspace import link

BY = "cytoforge studio tracks"
TABLE = "res_track.txt"


class Tracked:
    """A movie folder that only the studio writes: frames as links, masks and tracks. Thread-safe."""

    def __init__(self, path: Path, source: Path | None) -> None:
        """`source`: the movie whose frames are linked; None when those that are there are all."""
        self.path, self._source = path, source
        self._lock = threading.Lock()
        self._output = OutputFolder(path, BY)

    def results(self, name: str) -> Path:
        """Return the folder of masks and tracks of a sequence."""
        return self.path / f"{name}_RES"

    def prepare(self) -> None:
        """Make the folder, with the frames that it lacks; raises UserError where it is not the studio's."""
        with self._lock:
            self._prepare()

    def _prepare(self) -> None:
        if self.path.is_symlink() or (_is_filled(self.path) and not self._is_own()):
            raise UserError(
                f"{self.path}: was not made by the studio, so nothing is written into it, and corrections are only "
                "in the studio; move it away"
            )
        if self._source is None:
            return
        self._begin(movie_info(self._source, read_calibration(self._source, None, None)))
        linked = {sequence.name: sequence.frames for sequence in read_sequences(self.path)}
        for sequence in read_sequences(self._source):
            for number, frame in sequence.frames.items():
                if number not in linked.get(sequence.name, {}):
                    link(frame, self.path / sequence.name / frame.name)

    def _begin(self, info: Mapping[str, Any]) -> None:
        if not (self.path / INFO).exists():
            self._output.write_json(INFO, {**info, "written_by": "cytoforge", "by": BY, "complete": True})

    def add_frames(self, name: str, images: Sequence[Path], calibration: Calibration) -> None:
        """Make images the frames 0, 1, 2 ... of a sequence, those that are not there yet; raises as `prepare`."""
        with self._lock:
            self._prepare()
            self._begin(calibration.info)
            for number, image in enumerate(images):
                frame = self.path / name / f"t{number:03d}.tif"
                if image.suffix.lower() in (".tif", ".tiff"):
                    link(image, frame)
                elif not frame.exists():
                    write_image(frame, read_image(image))

    def _is_own(self) -> bool:
        return self._output.known or made_by(read_info(self.path)) == BY

    def write(
        self,
        name: str,
        masks: Collection[str],
        stale: Collection[str],
        labels: Callable[[str], NDArray[np.integer[Any]]],
        table: bytes,
    ) -> None:
        """Write masks and tracks of a sequence, the tracks last; until then the folder has none.

        Args:
            name: of the sequence.
            masks: names of all mask files that belong to the tracks; others of the studio are removed.
            stale: names of those to write.
            labels: of one of these.
            table: content of the track file.

        Raises UserError, before anything is changed, where a file is in the way that the studio did not write or that
        was changed since.
        """
        with self._lock:
            self._prepare()
            folder = self.results(name)
            for file in (*stale, TABLE):
                part = f"{folder.name}/{file}"
                if folder.is_symlink() or (os.path.lexists(folder / file) and not self._output.owns(part)):
                    raise UserError(
                        f"{folder / file}: is not as the studio wrote it, so it is kept, and corrections are only in "
                        "the studio; move it away"
                    )
            if os.path.lexists(folder / TABLE):
                self._output.remove(f"{folder.name}/{TABLE}")
            others = {file.name for file in folder.glob("mask*.tif")} - set(masks)
            for part in (f"{folder.name}/{file}" for file in sorted(others)):
                if self._output.owns(part):
                    self._output.remove(part)
            for file in stale:
                self._output.write(f"{folder.name}/{file}", encode_labels(folder / file, labels(file)))
            self._output.write(f"{folder.name}/{TABLE}", table)


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
