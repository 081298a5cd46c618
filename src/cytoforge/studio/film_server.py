"""What the page asks for about movies, over HTTP: their frames, tracks, outlines and corrections."""

import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from cytoforge.report import id_colours
from cytoforge.studio.answers import get, numeric, post
from cytoforge.studio.films import Film, Films
from cytoforge.studio.following import is_drawn
from cytoforge.studio.pictures import COLOURS, TILE


def film_routes(films: Films) -> list[Route]:
    """Return the routes of the movies of a studio."""

    def film_of(request: Request) -> Film:
        return films.film(request.path_params["film"])

    def whole(request: Request) -> dict[str, Any]:
        film = film_of(request)
        return {**_layout(films, film), **_tracks(film)}

    def places(request: Request) -> Response:
        return FileResponse(film_of(request).places(), media_type="application/json")

    def outlines(request: Request) -> list[Any]:
        return film_of(request).outlines(request.path_params["frame"])

    def correct(request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        film = film_of(request)
        with film.lock:
            film.correct(wanted, numeric(wanted.get("revision")))
            return _tracks(film)

    def packed(request: Request) -> Response:
        film = film_of(request)
        path = _packed(film)
        name = f"{films.workspace.path.resolve().name}-{film.name}-tracks.zip"
        return FileResponse(path, filename=name, background=BackgroundTask(path.unlink, missing_ok=True))

    name = "/api/films/{film}"
    return [
        Route(name, get(whole)),
        Route(f"{name}/places", get(places)),
        Route(f"{name}/outlines/{{frame:int}}", get(outlines)),
        Route(f"{name}/corrections", post(correct), methods=["POST"]),
        Route(f"{name}/tracks.zip", get(packed)),
    ]


def _layout(films: Films, film: Film) -> dict[str, Any]:
    """Return the frames of a film, their size and how they are shown."""
    frames = [{"number": number, "image": films.picture(film.name, number)} for number in film.frames]
    first = films.workspace.pyramid(str(frames[0]["image"]))
    channels, height, width = first.shape
    return {
        "name": film.name,
        "frames": frames,
        "height": height,
        "width": width,
        "levels": len(first.levels),
        "tile": TILE,
        "extremes": first.extremes[:channels],
        "colours": list(COLOURS),
        "channels": [asdict(channel) for channel in first.defaults()],
        "drawn": is_drawn(films, film.name),
        "folder": str(films.path.resolve()),
    }


def _tracks(film: Film) -> dict[str, Any]:
    """Return the tracks as rows label, begin, end, parent, colour, and which cells have another label in the masks."""
    with film.lock:
        labels = np.array([0, *film.tracks], np.int64)
        colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in id_colours(labels)[1:].tolist()]
        undo, redo = film.undoable
        return {
            "tracked": film.number,
            "revision": film.revision,
            "tracks": [[*track, colour] for track, colour in zip(film.tracks.values(), colours, strict=True)],
            "renamed": film.renamed(),
            "corrections": film.corrections,
            "undo": undo,
            "redo": redo,
        }


def _packed(film: Film) -> Path:
    """Return a zip file of the masks and the track file of a film; the caller removes it. Raises KeyError without."""
    with film.lock:
        film.save()
        files = film.written()
        with tempfile.NamedTemporaryFile(prefix="cytoforge-", suffix=".zip", delete=False) as file:
            path = Path(file.name)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for one in files:
                archive.write(one, f"{one.parent.name}/{one.name}")
    return path
