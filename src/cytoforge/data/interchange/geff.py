"""GEFF, the graph exchange file format: a zarr folder with cells as nodes and links between them as edges."""

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from geff import GeffMetadata, GeffReader
from geff.core_io import write_arrays
from geff_spec import RelatedObject
from numpy.typing import NDArray

from cytoforge.data.files import atomic, read_json
from cytoforge.data.formats import MAX_BYTES, reading
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.tracks import Calibration, Spots, linked
from cytoforge.errors import UserError
from cytoforge.metrics.cells import Cells, Labels, gathered

AXES = {"t": ("frame", "time"), "y": ("point_y", "space"), "x": ("point_x", "space")}
OWNER = "export"  # command name under which the files of a graph are listed in its manifest
METADATA = (".zattrs", "zarr.json")
TRACK = "track_label"
PROPERTIES = {  # cytoforge's feature: name in GEFF, unit, description
    "label": (TRACK, None, "id of the cell in the masks, and of its track"),
    "cell": ("tracklet", None, "label of the first track of this cell"),
    "root": ("lineage", None, "label of the first track of the family"),
    "parent": ("parent", None, "label of the mother, or of the same cell before a gap; 0 without"),
    "generation": ("generation", None, "divisions since the root"),
    "age": ("age", "frame", "since the first frame of the cell"),
    "y": ("centroid_y", "pixel", None),
    "x": ("centroid_x", "pixel", None),
    "area": ("area", "pixel^2", None),
    "perimeter": ("perimeter", "pixel", None),
    "major_axis": ("major_axis", "pixel", "of the ellipse with the same second moments"),
    "minor_axis": ("minor_axis", "pixel", "of the ellipse with the same second moments"),
    "eccentricity": ("eccentricity", None, "of the ellipse with the same second moments"),
    "solidity": ("solidity", None, "area by that of the convex hull"),
    "speed": ("speed", "pixel/frame", "from where the cell was seen last"),
}
RADIUS = "radius"
MASKS = "masks"
"""array of label images (T, H, W) inside of the graph"""


def write_geff(
    path: Path, frames: Iterable[tuple[int, Labels, Cells]], images: tuple[int, int, int], calibration: Calibration
) -> None:
    """Write the cells of all frames (`metrics.cells.follow`) and their links as a directed graph, and their masks.

    `images` are the number of frames, height and width. The masks, a zarr array of this shape inside of the graph, have
    the ids of the tracks, and the graph names them as its related object. The axes are t in frames, y and x in pixels,
    with the calibration as their scale. The structure is validated during writing. A graph that this function wrote
    is replaced. Raises UserError when `path` is anything else or also holds other files, or when the disk is full.
    """
    former = _former(path)
    with atomic(path) as temporary:
        masks = temporary.with_name(f"{temporary.name}-{MASKS}")  # geff begins with a folder that is not there
        for folder in (temporary, masks):
            shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
        try:
            _write_graph(temporary, gathered(_kept(masks, frames, images)), calibration)
            masks.rename(temporary / MASKS)
        except BaseException:
            for folder in (temporary, masks):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        OutputFolder(temporary, OWNER).adopt()
        if former is not None:
            former.remove_all(former.survey())


def _kept(
    path: Path, frames: Iterable[tuple[int, Labels, Cells]], images: tuple[int, int, int]
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the cells of each frame, and write the labels of all to a zarr array, a frame a chunk."""
    masks = zarr.create_array(path, shape=images, chunks=(1, *images[1:]), dtype=np.int32, fill_value=0, zarr_format=2)
    for number, labels, cells in frames:
        masks[number] = labels
        yield cells


def _write_graph(path: Path, cells: Cells, calibration: Calibration) -> None:
    names = {name: entry for name, entry in PROPERTIES.items() if name in cells}
    names |= {name: (name, None, "grey value") for name in cells if name.startswith(("mean_", "sd_"))}
    values = {axis: cells[name] for axis, (name, _) in AXES.items()}
    values |= {there: cells[name] for name, (there, *_) in names.items()}
    values[RADIUS] = np.sqrt(cells["area"] / np.pi)
    described = {there: (unit, what) for there, unit, what in names.values()}
    described |= {"t": ("frame", None), "y": ("pixel", None), "x": ("pixel", None)}
    described[RADIUS] = ("pixel", "of the disc with the cell's area")
    metadata = GeffMetadata(
        directed=True,
        axes=[_axis(axis, kind, calibration) for axis, (_, kind) in AXES.items()],
        node_props_metadata={
            name: {"identifier": name, "dtype": values[name].dtype, "unit": unit, "description": what}
            for name, (unit, what) in described.items()
        },
        edge_props_metadata={},
        sphere=RADIUS,
        track_node_props={"tracklet": "tracklet", "lineage": "lineage"},
        related_objects=[RelatedObject(type="labels", path=MASKS, node_prop=TRACK)],
    )
    links = np.stack([cells["before"], cells["spot"]], axis=1)[cells["before"] >= 0]
    write_arrays(
        path,
        cells["spot"].astype(np.uint64),
        {name: _property(column) for name, column in values.items()},
        links.astype(np.uint64),
        {},
        metadata,
    )


def _former(path: Path) -> OutputFolder | None:
    """Return the folder of a graph that may be replaced, None if there is none; raises UserError for other files."""
    if not os.path.lexists(path):
        return None
    folder = OutputFolder(path, OWNER)
    if path.is_symlink() or not path.is_dir():
        raise UserError(f"{path}: is there and no mere GEFF; choose another name")
    if is_geff(path):
        folder.require()
    found = folder.survey()
    if found.kept or found.changed or not folder.known:
        what = (
            f" but holds {', '.join((*found.changed, *found.kept)[:3])}, which export did not write"
            if folder.known
            else ""
        )
        raise UserError(f"{path}: is there and no mere GEFF{what}; choose another name")
    return folder


def is_geff(path: Path) -> bool:
    """Tell whether a folder is a zarr group with GEFF's metadata."""
    for file in (path / name for name in METADATA if (path / name).is_file()):
        stored = read_json(file)
        attributes = stored.get("attributes")
        if "geff" in stored or (isinstance(attributes, dict) and "geff" in attributes):
            return True
    return False


def _axis(name: str, kind: Any, calibration: Calibration) -> dict[str, Any]:
    scale = calibration.frame_interval if kind == "time" else calibration.pixel_size
    unit, scaled = ("frame", "minute") if kind == "time" else ("pixel", "micrometer")
    return {"name": name, "type": kind, "unit": unit, "scale": scale, "scaled_unit": scaled if scale else None}


def _property(column: NDArray[Any]) -> Any:
    missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)
    return {"values": np.where(missing, 0, column), "missing": missing if missing.any() else None}


def read_geff(path: Path, calibration: Calibration) -> Spots:
    """Read positions and links.

    If nodes have a `track_label`, as `write_geff` gives them, tracks end where it changes. Times and positions in units
    other than frames and pixels are divided by the frame interval and pixel size of `calibration`. Links of an
    undirected graph are taken as forward in time.

    Raises UserError for an invalid GEFF, for axes other than one of time and y, x of space (a constant z is ignored),
    for times between frames, and as `tracks.linked`.
    """
    if not is_geff(path):
        raise UserError(f"{path}: is no GEFF; give the zarr folder that holds nodes and edges")
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # geff warns about units that it does not recommend
        reader = GeffReader(path)
        axes = {axis.name: axis for axis in reader.metadata.axes or ()}
        if max(array.nbytes for array in (reader.nodes, reader.edges)) > MAX_BYTES:
            raise UserError(f"{path}: is larger than {MAX_BYTES / 2**30:.0f} GiB; cut the movie in parts")
        reader.read_node_props([*axes, *({TRACK} & set(reader.node_prop_names))])
        graph = reader.build()
        values = {name: np.asarray(graph["node_props"][name]["values"], np.float64) for name in axes}
    clock, *plane = _axes(path, axes, values)
    time = values[clock.name] / calibration.frame_in(clock.unit, path)
    if not ((np.abs(time - np.round(time)) < 0.01) & (np.abs(time) < 2**31)).all():
        raise UserError(f"{path}: has times between frames, in {clock.unit or 'frames'}; is the interval right?")
    frame = np.round(time).astype(np.int64)
    position = np.stack([values[axis.name] / calibration.pixel_in(axis.unit, path) for axis in plane], axis=1)
    links = _links(path, np.asarray(graph["node_ids"]), np.asarray(graph["edge_ids"]).reshape(-1, 2))
    if not reader.metadata.directed:
        links = np.where((frame[links[:, 0]] > frame[links[:, 1]])[:, None], links[:, ::-1], links)
    labels = np.asarray(graph["node_props"][TRACK]["values"] if TRACK in graph["node_props"] else "")
    return linked(path, frame, position, links, labels.astype(np.int64) if labels.dtype.kind in "iu" else None)


def _axes(path: Path, axes: Mapping[str, Any], values: Mapping[str, NDArray[np.float64]]) -> tuple[Any, Any, Any]:
    """Return the axes of time, y and x: y and x by the last letter of their names, else the last two of space."""
    times = [axis for axis in axes.values() if axis.type == "time"]
    spaces = [axis for axis in axes.values() if axis.type == "space"]
    letters = {axis.name.lower()[-1]: axis for axis in spaces}
    plane = [letters["y"], letters["x"]] if {"y", "x"} <= letters.keys() else spaces[-2:]
    deep = any(np.unique(values[axis.name]).size > 1 for axis in spaces if axis not in plane)
    if len(times) != 1 or len(plane) != 2 or deep:
        raise UserError(
            f"{path}: its axes are {', '.join(axes) or 'none'}, but tracks have one of time, y and x, and no depth; "
            "save them so"
        )
    return times[0], plane[0], plane[1]


def _links(path: Path, nodes: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.int64]:
    """Return edges between node ids as pairs of node indices (L, 2); raises UserError for repeated or missing nodes."""
    index = {node: k for k, node in enumerate(nodes.tolist())}
    if len(index) < len(nodes) or not index.keys() >= set(edges.ravel().tolist()):
        raise UserError(f"{path}: has a node twice, or an edge to a node that is not there; save it anew")
    return np.array([[index[node] for node in edge] for edge in edges.tolist()], np.int64).reshape(-1, 2)
