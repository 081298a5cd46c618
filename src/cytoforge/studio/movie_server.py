"""What the page asks for about movies, over HTTP: their frames, tracks, outlines and corrections."""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from cytoforge.report import id_colours
from cytoforge.studio.answers import get, numeric, post, zipped
from cytoforge.studio.following import is_drawn
from cytoforge.studio.movies import Movie, Movies


def movie_routes(movies: Movies) -> list[Route]:
    """Return the routes of the movies of a studio."""

    def movie_of(request: Request) -> Movie:
        return movies.movie(request.path_params["movie"])

    def whole(request: Request) -> dict[str, Any]:
        movie = movie_of(request)
        return {**_layout(movies, movie), **_tracks(movie)}

    def places(request: Request) -> Response:
        return FileResponse(movie_of(request).places(), media_type="application/json")

    def outlines(request: Request) -> list[Any]:
        return movie_of(request).outlines(request.path_params["frame"])

    def correct(request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        movie = movie_of(request)
        with movie.lock:
            movie.correct(wanted, numeric(wanted.get("revision")))
            return _tracks(movie)

    def packed(request: Request) -> Response:
        movie = movie_of(request)
        title = f"{movies.workspace.path.resolve().name}-{movie.name}-tracks.zip"
        with movie.lock:
            movie.save()
            return zipped(title, [(file, f"{file.parent.name}/{file.name}") for file in movie.written()])

    def open_images(request: Request, wanted: dict[str, Any]) -> list[Any]:
        movies.open_images()
        return movies.listed()

    name = "/api/movies/{movie}"
    return [
        Route("/api/movies", post(open_images), methods=["POST"]),
        Route(name, get(whole)),
        Route(f"{name}/places", get(places)),
        Route(f"{name}/outlines/{{frame:int}}", get(outlines)),
        Route(f"{name}/corrections", post(correct), methods=["POST"]),
        Route(f"{name}/tracks.zip", get(packed)),
    ]


def _layout(movies: Movies, movie: Movie) -> dict[str, Any]:
    """Return the frames of a movie, their size and how they are shown."""
    frames = [{"number": number, "image": movies.picture(movie.name, number)} for number in movie.frames]
    first = movies.workspace.pyramid(str(frames[0]["image"]))
    return {
        "name": movie.name,
        "frames": frames,
        **first.layout(),
        "drawn": is_drawn(movies, movie.name),
        "folder": str(movies.path.resolve()),
    }


def _tracks(movie: Movie) -> dict[str, Any]:
    """Return the tracks as rows label, begin, end, parent, colour, and which cells have another label in the masks."""
    with movie.lock:
        labels = np.array([0, *movie.tracks], np.int64)
        colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in id_colours(labels)[1:].tolist()]
        undo, redo = movie.undoable
        return {
            "tracked": movie.number,
            "revision": movie.revision,
            "tracks": [[*track, colour] for track, colour in zip(movie.tracks.values(), colours, strict=True)],
            "renamed": movie.renamed(),
            "corrections": movie.corrections,
            "undo": undo,
            "redo": redo,
        }
