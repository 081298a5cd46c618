"""QuPath's GeoJSON: objects with polygons, in a file named like its image."""

import json
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import Labels
from cytoforge.cells.outlines import NOTHING, Piece, Region, outlined, united
from cytoforge.data.files import load_json, utf8
from cytoforge.data.formats import MAX_BYTES
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    drawn,
    filled,
    ring_of,
    stem,
    told,
)
from cytoforge.data.interchange.coco import mentions
from cytoforge.errors import UserError
from cytoforge.progress import counted

CELLS = ("detection", "cell", "tile")
OLD = {"PathDetectionObject": "detection", "PathCellObject": "cell", "PathAnnotationObject": "annotation"}
COORDINATES = rb'"coordinates"|"features"\s*:\s*\[\s*\]'  # or an image without cells
AREAS = {"Polygon": 1, "MultiPolygon": 2}


def _files(source: Source) -> list[Path]:
    files = source.having(".geojson", ".json")
    return [file for file in files if mentions(file, b'"Feature', COORDINATES)]


def _open(source: Source) -> Found:
    """Find the image of each file: NAME of NAME.geojson or NAME.tif.geojson, or the only image of the folder."""
    items, lone = [], []
    seen: dict[Path, Path] = {}
    notes: list[str] = []
    files = _files(source)
    for file in files:
        name = file.name.rsplit(".", 1)[0]
        only = source.images_in(file.parent)
        image = source.beside(file, name, stem(name)) or (only[0] if len(only) == 1 else None)
        if image is None:
            lone.append(source.relative(file))
            continue
        if image in seen:
            raise UserError(f"{file}: annotates {image}, as {seen[image].name} does; remove one of them")
        seen[image] = file
        features = _features(file)
        if regions := len(features) - len(_cells_among(features)):
            notes.append(f"{file.name}: {counted(regions, 'annotation')} around detections, left out")
        items.append(Annotated(source.relative(image.with_suffix("")), partial(_draw, file), image))
    notes += told("annotation", lone, "without image, left out")
    notes += source.unannotated(seen)
    notes += source.unread(files, ".geojson", ".json")
    return Found(tuple(items), tuple(notes))


def _features(file: Path) -> list[dict[str, Any]]:
    content = load_json(file, MAX_BYTES)
    if isinstance(content, dict):
        content = content.get("features", [content])
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise UserError(f"{file}: holds no list of GeoJSON features; export it anew from QuPath")
    return content


def _kind(feature: dict[str, Any]) -> str:
    properties = feature.get("properties")
    kind = properties.get("objectType") if isinstance(properties, dict) else None
    return str(kind or OLD.get(str(feature.get("id")), "annotation"))


def _cells_among(features: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the features that are cells: detections and cells if there are any, else annotations."""
    return [feature for feature in features if _kind(feature) in CELLS] or features


def _draw(file: Path, size: Size | None) -> Drawn:
    size = agreed(file, "it", None, size)
    return drawn(_cells(file, size), size)


def _cells(file: Path, size: Size) -> Iterator[Region]:
    for feature in _cells_among(_features(file)):
        geometry = feature.get("geometry")
        geometry = geometry if isinstance(geometry, dict) else {}
        depth = AREAS.get(str(geometry.get("type")))
        polygons = geometry.get("coordinates")
        if depth is None:
            yield NOTHING
            continue
        polygons = [polygons] if depth == 1 else polygons
        if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
            raise UserError(f"{file}: the coordinates {polygons!r:.60} are no polygons; export it anew from QuPath")
        yield united([filled(_rings(file, polygon), size, file) for polygon in polygons] or [NOTHING])


def _rings(file: Path, polygon: list[Any]) -> list[NDArray[np.float64]]:
    return [ring_of(ring, file) for ring in polygon]


QUPATH = Format("QuPath GeoJSON", lambda source: bool(_files(source)), _open)


def features(labels: Labels, name: str) -> bytes:
    """Return the cells of labels (H, W) as a GeoJSON file: detections, which QuPath's File > Import objects reads.

    A cell is named by its id, and is a polygon along the edges of pixels, with holes, or several of these. Its UUID
    follows from the `name` of the image, its id and its outline.
    """
    lines = ",\n".join(json.dumps(_feature(name, number, pieces)) for number, pieces in outlined(labels))
    return utf8(f'{{"type": "FeatureCollection", "features": [{lines and chr(10)}{lines}]}}\n')


def _feature(name: str, number: int, pieces: list[Piece]) -> dict[str, Any]:
    polygons = [[_closed(ring) for ring in (piece.shell, *piece.holes)] for piece in pieces]
    geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": polygons}
    if len(polygons) == 1:
        geometry = {"type": "Polygon", "coordinates": polygons[0]}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name!a}/{number}/{json.dumps(polygons)}")),
        "geometry": geometry,
        "properties": {"objectType": "detection", "name": str(number), "classification": {"name": "Cell"}},
    }


def _closed(ring: NDArray[np.int64]) -> list[list[int]]:
    """Return a ring (K, 2) of y, x as points [x, y], the first repeated at the end."""
    points: list[list[int]] = np.concatenate([ring, ring[:1]])[:, ::-1].tolist()
    return points
