"""What the page asks for about movies, over HTTP: their frames, tracks, outlines and corrections."""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from cytoforge.report import id_colours
from cytoforge.studio.answers import get, numeric, post, zipped
from cytoforge.studio.films import Film, Films
from cytoforge.studio.following import is_drawn


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
        title = f"{films.workspace.path.resolve().name}-{film.name}-tracks.zip"
        with film.lock:
            film.save()
            return zipped(title, [(file, f"{file.parent.name}/{file.name}") for file in film.written()])

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
    return {
        "name": film.name,
        "frames": frames,
        **first.layout(),
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
