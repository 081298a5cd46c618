"""TrackMate's XML: spots with features and outlines, links between them, and the geometry of the images."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.files import atomic, check_readable
from cytoforge.data.formats import MAX_BYTES
from cytoforge.data.tracks import Calibration, Spots, linked
from cytoforge.errors import UserError
from cytoforge.metrics.cells import Cells
from cytoforge.progress import counted

VERSION = "7.11.1"
CHUNK = 2**16  # bytes read at once
MAX_TAG = 2**20  # bytes of a tag with its attributes; outlines are text between tags, and of any length
MAX_DIGITS = 40  # greatest number of digits of an id
SPOT = (  # TrackMate's key, name, dimension, and whether it is a whole number
    ("QUALITY", "Quality", "QUALITY", False),
    ("POSITION_X", "X", "POSITION", False),
    ("POSITION_Y", "Y", "POSITION", False),
    ("POSITION_Z", "Z", "POSITION", False),
    ("POSITION_T", "T", "TIME", False),
    ("FRAME", "Frame", "NONE", True),
    ("RADIUS", "Radius", "LENGTH", False),
    ("VISIBILITY", "Visibility", "NONE", True),
    ("TRACK_LABEL", "Track label", "NONE", True),  # added by cytoforge
)
MEASURED = {  # cytoforge's feature: TrackMate's key, name, dimension, and the power of the pixel size in its unit
    "area": ("AREA", "Area", "AREA", 2),
    "perimeter": ("PERIMETER", "Perimeter", "LENGTH", 1),
    "solidity": ("SOLIDITY", "Solidity", "NONE", 0),
    "mean_1": ("MEAN_INTENSITY_CH1", "Mean intensity ch1", "INTENSITY", 0),
    "sd_1": ("STD_INTENSITY_CH1", "Std intensity ch1", "INTENSITY", 0),
}
EDGE = (("SPOT_SOURCE_ID", "Source spot ID"), ("SPOT_TARGET_ID", "Target spot ID"))
TRACK = (("TRACK_INDEX", "Track index"), ("TRACK_ID", "Track ID"))


def write_trackmate(
    path: Path,
    frames: Iterable[tuple[Cells, Mapping[int, NDArray[np.float64]]]],
    spots: int,
    images: tuple[int, int, int],
    calibration: Calibration,
    stack: str = "",
) -> None:
    """Write a file that TrackMate opens, frame by frame.

    Args:
        path: the file.
        frames: the cells of each frame as `metrics.cells.follow` gives them, and by label their outlines (K, 2),
            y and x in pixels.
        spots: number of cells in all frames.
        images: number of frames, height and width in pixels, of the movie.
        calibration: positions are in micrometers and times in minutes if these are known, else in pixels and frames.
        stack: name of the file of the images, in the folder of `path`; without it TrackMate shows spots on black.

    Raises:
        UserError: when it cannot be written.
    """
    families: dict[int, list[tuple[int, int]]] = {}
    features: list[str] | None = None
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for cells, outlines in frames:
            if features is None:
                features = [name for name in MEASURED if name in cells]
                _write_head(file, features, spots, calibration)
            file.write(f'      <SpotsInFrame frame="{int(cells["frame"][0])}">\n' if len(cells["label"]) else "")
            for k, label in enumerate(cells["label"].tolist()):
                file.write(_spot(cells, k, outlines[label], features, calibration))
                spot, before = int(cells["spot"][k]), int(cells["before"][k])
                if before >= 0:
                    families.setdefault(int(cells["root"][k]), []).append((before, spot))
            file.write("      </SpotsInFrame>\n" if len(cells["label"]) else "")
        file.write("    </AllSpots>\n")
        _write_tracks(file, families)
        _write_settings(file, images, calibration, stack)


def _write_head(file: TextIO, features: Iterable[str], spots: int, calibration: Calibration) -> None:
    space = "pixel" if calibration.pixel_size is None else "micron"
    time = "frame" if calibration.frame_interval is None else "min"
    declared = [*SPOT, *((*MEASURED[name][:3], False) for name in features)]
    file.write(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<TrackMate version="{VERSION}">\n  <Log>Written by cytoforge</Log>\n'
    )
    file.write(f'  <Model spatialunits="{space}" timeunits="{time}">\n    <FeatureDeclarations>\n')
    for kind, entries in (
        ("SpotFeatures", declared),
        ("EdgeFeatures", [(*entry, "NONE", True) for entry in EDGE]),
        ("TrackFeatures", [(*entry, "NONE", True) for entry in TRACK]),
    ):
        file.write(f"      <{kind}>\n")
        for key, name, dimension, whole in entries:
            file.write(
                f'        <Feature feature="{key}" name="{name}" shortname="{name}" dimension="{dimension}" '
                f'isint="{str(whole).lower()}" />\n'
            )
        file.write(f"      </{kind}>\n")
    file.write(f'    </FeatureDeclarations>\n    <AllSpots nspots="{spots}">\n')


def _spot(cells: Cells, k: int, polygon: NDArray[np.float64], features: Iterable[str], calibration: Calibration) -> str:
    size, interval = calibration.length[0], calibration.time[0]
    centre = np.array([cells["point_y"][k], cells["point_x"][k]])
    frame = int(cells["frame"][k])
    values: dict[str, object] = {
        "ID": int(cells["spot"][k]),
        "name": str(cells["label"][k]),
        "QUALITY": 1.0,
        "POSITION_X": f"{centre[1] * size:.12g}",  # enough digits to place the spot in its pixel for any pixel size
        "POSITION_Y": f"{centre[0] * size:.12g}",
        "POSITION_Z": 0.0,
        "POSITION_T": frame * interval,
        "FRAME": frame,
        "RADIUS": f"{np.sqrt(cells['area'][k] / np.pi) * size:.6g}",
        "VISIBILITY": 1,
        "TRACK_LABEL": int(cells["label"][k]),
    }
    values |= {MEASURED[name][0]: f"{cells[name][k] * size ** MEASURED[name][3]:.6g}" for name in features}
    values["ROI_N_POINTS"] = len(polygon)
    around = " ".join(f"{value:.6g}" for value in ((polygon - centre)[:, ::-1] * size).ravel())
    attributes = " ".join(f"{key}={quoteattr(str(value))}" for key, value in values.items())
    return f"        <Spot {attributes}>{around}</Spot>\n"


def _write_tracks(file: TextIO, families: Mapping[int, list[tuple[int, int]]]) -> None:
    file.write("    <AllTracks>\n")
    for index, links in enumerate(families.values()):
        file.write(f'      <Track name="Track_{index}" TRACK_INDEX="{index}" TRACK_ID="{index}">\n')
        for source, target in links:
            file.write(f'        <Edge SPOT_SOURCE_ID="{source}" SPOT_TARGET_ID="{target}" />\n')
        file.write("      </Track>\n")
    file.write("    </AllTracks>\n    <FilteredTracks>\n")
    for index in range(len(families)):
        file.write(f'      <TrackID TRACK_ID="{index}" />\n')
    file.write("    </FilteredTracks>\n  </Model>\n")


def _write_settings(file: TextIO, images: tuple[int, int, int], calibration: Calibration, stack: str) -> None:
    """Write the settings that TrackMate requires; it looks for an image without folder beside the file."""
    count, height, width = images
    size, interval = calibration.length[0], calibration.time[0]
    file.write(
        f'  <Settings>\n    <ImageData filename={quoteattr(stack)} folder="" width="{width}" height="{height}" '
        f'nslices="1" nframes="{count}" pixelwidth="{size}" pixelheight="{size}" voxeldepth="1.0" '
        f'timeinterval="{interval}" />\n'
        f'    <BasicSettings xstart="0" xend="{width - 1}" ystart="0" yend="{height - 1}" zstart="0" zend="0" '
        f'tstart="0" tend="{count - 1}" />\n'
        '    <DetectorSettings DETECTOR_NAME="MANUAL_DETECTOR" RADIUS="5.0" />\n'
        '    <InitialSpotFilter feature="QUALITY" value="0.0" isabove="true" />\n    <SpotFilterCollection />\n'
        '    <TrackerSettings TRACKER_NAME="MANUAL_TRACKER" />\n    <TrackFilterCollection />\n'
        "    <AnalyzerCollection />\n  </Settings>\n"
        '  <GUIState state="ConfigureViews" />\n</TrackMate>\n'
    )


@dataclass
class _Found:
    """Data collected from the elements of a file while it is parsed."""

    path: Path
    unit: str | None = None
    pixel: tuple[str, str] | None = None
    root: str | None = None
    frame: str | None = None
    track: str | None = None
    spots: dict[int, tuple[int, float, float, float]] = field(default_factory=dict)
    """by id: frame, y, x in the file's unit, label of the track or -1"""
    invisible: set[int] = field(default_factory=set)
    """ids of spots that did not pass the filters"""
    links: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    shown: set[str] | None = None
    """ids of tracks that passed the filters; None if the file lists no filtered tracks"""
    depth: float | None = None
    commas: int = 0
    """number of spots with a decimal comma in their position"""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.root is None:
            self.root = tag
            if tag not in ("TrackMate", "Tracks"):
                raise UserError(f"{self.path}: is XML of {tag:.60}, not of TrackMate; give a file that TrackMate saved")
        if self.root == "Tracks":
            self._exported(tag, attributes)
        elif tag == "Model":
            self.unit = attributes.get("spatialunits")
        elif tag == "ImageData":
            self.pixel = attributes.get("pixelwidth", ""), attributes.get("pixelheight", "")
        elif tag == "SpotsInFrame":
            self.frame = attributes["frame"]
        elif tag == "Spot":
            spot, frame = _whole(attributes, "ID"), attributes.get("FRAME") or self.frame or ""
            if float(attributes.get("VISIBILITY", 1)) == 0:
                self.invisible.add(spot)
            self._add(
                spot, frame, attributes, "POSITION_", _decimal(attributes.get("TRACK_LABEL", "-1"), "TRACK_LABEL")
            )
        elif tag == "Track":
            self.track = attributes["TRACK_ID"]
            self.links.setdefault(self.track, [])
        elif tag == "Edge":
            if self.track is None:
                raise ValueError("an Edge is outside of every Track")
            self.links[self.track].append((_whole(attributes, "SPOT_SOURCE_ID"), _whole(attributes, "SPOT_TARGET_ID")))
        elif tag == "FilteredTracks":
            self.shown = set()
        elif tag == "TrackID":
            self.shown = (self.shown or set()) | {attributes["TRACK_ID"]}

    def _exported(self, tag: str, attributes: dict[str, str]) -> None:
        """Read an element of TrackMate's export of tracks only: particles and their detections in the order of time."""
        if tag == "Tracks":
            self.unit = attributes.get("spaceUnits")
        elif tag == "particle":
            self.track = str(len(self.links))
            self.links[self.track] = []
            self.frame = None
        elif tag == "detection":
            if self.track is None:
                raise ValueError("a detection is outside of every particle")
            spot = len(self.spots)
            self._add(spot, attributes["t"], attributes, "", -1.0)
            if self.frame is not None:
                if self.spots[spot][0] <= self.spots[spot - 1][0]:
                    raise UserError(
                        f"{self.path}: a track is in frame {self.spots[spot][0]} twice (do cells divide?), which this "
                        "export cannot tell; give the .xml that TrackMate's Save button writes"
                    )
                self.links[self.track].append((spot - 1, spot))
            self.frame = attributes["t"]

    def _add(self, spot: int, when: str, attributes: dict[str, str], prefix: str, label: float) -> None:
        x, y, z = (f"{prefix}{axis}" if prefix else axis.lower() for axis in "XYZ")
        frame = _decimal(when, "frame")
        if not (frame.is_integer() and 0 <= frame < 2**31):
            raise ValueError(f"the frame of a spot is {when!r:.40}")
        if spot in self.spots:
            raise ValueError(f"two spots have the ID {spot}")
        if not abs(label) < 2**31:
            raise ValueError(f"TRACK_LABEL is {attributes['TRACK_LABEL']!r:.40}")
        self.commas += any("," in attributes.get(name, "") for name in (x, y, z))
        depth = _decimal(attributes.get(z, "0"), z)
        self.depth = depth if self.depth is None else self.depth
        if depth != self.depth:
            raise UserError(f"{self.path}: has spots at several depths, but masks are flat; track a projection instead")
        self.spots[spot] = int(frame), _decimal(attributes[y], y), _decimal(attributes[x], x), label


def _whole(attributes: Mapping[str, str], name: str) -> int:
    text = attributes[name]
    if not text.removeprefix("-").isdecimal() or len(text) > MAX_DIGITS:
        raise ValueError(f"{name} is {text[:40]!r}, no whole number of at most {MAX_DIGITS} digits")
    return int(text)


def _decimal(text: str, name: str) -> float:
    """Parse a number that may have a decimal comma, as in some locales; raises ValueError for anything else."""
    try:
        return float(text.replace(",", ".", 1) if "." not in text else text)
    except ValueError:
        raise ValueError(f"{name} is {text!r:.40}, no number") from None


def read_trackmate(path: Path, calibration: Calibration) -> Spots:
    """Read the filtered tracks of a TrackMate file, and its visible spots without links as tracks of one frame.

    All spots of a filtered track are read, visible or not, as in TrackMate's own exports. TrackMate's export of tracks
    only, with particles and detections, is read too. If spots have a `TRACK_LABEL`, as `write_trackmate` gives them,
    tracks end where it changes.

    Positions are divided by the pixel size in the file, or by that of `calibration` if the file has none. The XML is
    parsed as a stream. A DOCTYPE, which could refer to other files or expand without bounds, and tags of more than
    MAX_TAG bytes are refused.

    Raises:
        UserError: for incomplete XML or XML of another program, for links to missing spots, for several depths, when no
            track passed the filters, and as `tracks.linked`.
    """
    check_readable(path, "give a file that TrackMate saved")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: is larger than {MAX_BYTES / 2**30:.0f} GiB; cut the movie in parts")
    found = _Found(path)

    def refuse(*_: object) -> None:
        raise UserError(f"{path}: has a DOCTYPE, which TrackMate never writes; save it anew from TrackMate")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = found.start
    fed = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                parser.Parse(chunk, False)
                fed += len(chunk)
                # the parser scans an incomplete tag again with every chunk, so its length is limited
                if fed - max(parser.CurrentByteIndex, 0) > MAX_TAG:
                    raise UserError(
                        f"{path}, line {parser.CurrentLineNumber}: has a tag or comment of more than "
                        f"{MAX_TAG // 2**20} MiB, which TrackMate never writes; save it anew from TrackMate"
                    )
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise UserError(f"{path}: is no whole XML ({error}); save it anew from TrackMate") from error
    except KeyError as error:
        raise UserError(
            f"{path}, line {parser.CurrentLineNumber}: lacks or mistells {error}; save it anew from TrackMate"
        ) from error
    except LookupError as error:
        raise UserError(f"{path}: is no XML that can be read ({error}); save it anew from TrackMate") from error
    except ValueError as error:
        raise UserError(f"{path}, line {parser.CurrentLineNumber}: {error}; save it anew from TrackMate") from error
    return _linked(path, found, calibration)


def _linked(path: Path, found: _Found, calibration: Calibration) -> Spots:
    shown = set(found.links) if found.shown is None else found.shown
    notes = []
    if any(found.links.values()) and not any(found.links.get(track) for track in shown):
        raise UserError(
            f"{path}: none of its {counted(len(found.links), 'track')} passed the filters of TrackMate; widen the "
            "filters of tracks there and save it anew"
        )
    if found.shown is None and found.root == "TrackMate" and found.links:
        notes.append("tells of no filters of tracks, all were taken")
    if found.commas:
        notes.append(f"{counted(found.commas, 'spot')} with a decimal comma in its position, read as a decimal point")
    hidden = {spot for track, links in found.links.items() if track not in shown for link in links for spot in link}
    within = {spot for track in shown for link in found.links.get(track, ()) for spot in link}
    if taken := len(found.invisible & within & found.spots.keys()):
        notes.append(f"{counted(taken, 'spot')} that TrackMate hides, but has in a track that it shows, taken along")
    kept = {spot: place for spot, place in found.spots.items() if spot not in (hidden | found.invisible) - within}
    index = {spot: k for k, spot in enumerate(kept)}
    links = list(_links(path, found, shown, index))
    places = np.array(list(kept.values()), np.float64).reshape(-1, 4)
    frame = places[:, 0].astype(np.int64)
    # links of TrackMate have no direction
    ordered = [link if frame[link[0]] <= frame[link[1]] else link[::-1] for link in links]
    track = places[:, 3].astype(np.int64)
    position = places[:, 1:3] / _pixels(path, found, calibration)[::-1]
    spots = linked(path, frame, position, np.array(ordered, np.int64).reshape(-1, 2), track)
    return replace(spots, notes=tuple(notes))


def _pixels(path: Path, found: _Found, calibration: Calibration) -> tuple[float, float]:
    """Return width and height of a pixel in the file's unit, from its image if valid, else from `calibration`."""
    try:
        width, height = (_decimal(text, "a pixel") for text in found.pixel or ())
        if 0 < width < math.inf and 0 < height < math.inf:
            return width, height
    except ValueError:
        pass
    size = calibration.pixel_in(found.unit, path)
    return size, size


def _links(path: Path, found: _Found, shown: set[str], index: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    for track, links in found.links.items():
        for source, target in links if track in shown else ():
            for spot in (source, target):
                if spot not in index:
                    raise UserError(
                        f"{path}: a link leads to spot {spot}, which is not there; open the file in TrackMate and save "
                        "it anew"
                    )
            yield index[source], index[target]
