"""The page and what it asks for, over HTTP: images as tiles, edits, the queue, results. Starlette; no science."""

import re
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from cytoforge.data.formats import SUFFIXES, image_files, image_name
from cytoforge.data.images import RowReader, strips
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.places import BASE
from cytoforge.progress import tell_once
from cytoforge.studio import outcomes
from cytoforge.studio.answers import REPORT_POLICY, Refused, get, numeric, post, told, zipped
from cytoforge.studio.drafts import Draft
from cytoforge.studio.journal import Outdated, call_all
from cytoforge.studio.movie_server import movie_routes
from cytoforge.studio.pictures import COLOURS, Channel, label_tile
from cytoforge.studio.results import plain
from cytoforge.studio.tasks import Tasks, findings, suggestions
from cytoforge.studio.workspace import HIDDEN, Workspace

PAGE = Path(__file__).parent / "page"
LARGEST = 4 * 2**30  # bytes of an image that is brought in
MAX_CHANNELS = 16
SAMPLE = re.compile(r"step-\d{6,}\.png")


class Studio:
    """Answers what the page asks for, for one workspace."""

    def __init__(self, workspace: Workspace, tasks: Tasks) -> None:
        self.workspace, self.tasks = workspace, tasks

    # what there is

    def state(self) -> dict[str, Any]:
        """Return the folder, its images and runs, and the queue."""
        space = self.workspace
        images = []
        for name in space.names():
            channels, height, width = space.picture(name).shape
            size = {"channels": channels, "height": height, "width": width}
            cells, revision = space.known(name)
            images.append({"name": name, **size, "status": space.status(name), "cells": cells, "revision": revision})
        return {
            "folder": str(space.path.resolve()),
            "source": str(space.source),
            "images": images,
            "runs": [self._run(path) for path in space.runs()],
            "painted": [path.name for path in space.painted()],
            "base": BASE.is_dir(),
            "foreign": space.foreign,
            "notes": [*space.notes, *self.tasks.queue.notes, *space.troubles(), *self.tasks.movies.notes],
            "jobs": self.tasks.queue.jobs(),
            "movies": self.tasks.movies.listed(),
            "frames": len(self.tasks.movies.offered()),
        }

    def _run(self, path: Path) -> dict[str, Any]:
        try:
            facts = Run.open(path).provenance
        except UserError as error:
            return {"name": path.name, "finished": False, "verdict": str(error)}
        judged = facts.get("judgement") or {}
        return {"name": path.name, "finished": "finished" in facts, "verdict": facts.get("verdict"), "judged": judged}

    def image(self, name: str) -> dict[str, Any]:
        """Return how an image is laid out in tiles, its channels and the state of its mask."""
        layout = self.workspace.pyramid(name).layout()
        return {"name": name, **layout, **self._mask(name, self.workspace.draft(name))}

    def _mask(self, name: str, draft: Draft) -> dict[str, Any]:
        undo, redo = draft.undoable
        state = {"revision": draft.revision, "cells": draft.cells, "undo": undo, "redo": redo}
        return {**state, "status": self.workspace.status(name)}

    def run(self, name: str) -> dict[str, Any]:
        """Return the curves, samples and verdict of a run, finished or not."""
        path = self._run_folder(name)
        run = Run.open(path)
        samples = sorted(file.name for file in (path / "samples").glob("step-*.png"))
        report = (path / "report.html").is_file()
        metrics = [{key: plain(value) for key, value in row.items()} for row in run.metrics()]
        return {**self._run(path), "metrics": metrics, "samples": samples, "report": report}

    def _run_folder(self, name: str) -> Path:
        found = next((path for path in self.workspace.runs() if path.name == name), None)
        if found is None:
            raise Refused(404, "There is no such run.")
        return found

    # pictures

    def tile(self, name: str, level: int, column: int, row: int, channels: str) -> bytes:
        """Return a tile of an image; `channels` are number:low:high:colour, with commas between them."""
        pyramid = self.workspace.pyramid(name)
        return pyramid.tile(level, column, row, _channels(channels) if channels else pyramid.defaults())

    def cells(self, name: str, kind: str, level: int, column: int, row: int) -> bytes:
        """Return a tile of the outlines or fills of the cells."""
        draft, levels = self.workspace.draft(name), len(self.workspace.pyramid(name).levels)
        with draft.lock:
            return label_tile(draft.labels, levels, level, column, row, filled=kind == "fills")

    # changes

    def edit(self, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make, undo or redo an edit; return the new state of the mask and the box that has changed."""
        draft = self.workspace.draft(name)
        revision = numeric(wanted.get("revision"))
        with draft.lock:
            if wanted.get("tool") == "undo":
                change = draft.undo(revision)
            elif wanted.get("tool") == "redo":
                change = draft.redo(revision)
            else:
                change = draft.edit(wanted, revision)
            box = None
            if change is not None:
                height, width = change.after.shape
                box = [change.left, change.top, change.left + width, change.top + height]
            return {**self._mask(name, draft), "box": box}

    def mark(self, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Say that a mask is right, or take it back to work."""
        self.workspace.mark(name, done=wanted.get("done") is True)
        return self._mask(name, self.workspace.draft(name))

    def work(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Queue a piece of work."""
        kind, model = wanted.get("kind"), str(wanted.get("model", "base"))
        tasks = self.tasks
        diameter = None if wanted.get("diameter") is None else numeric(wanted.get("diameter"))
        if kind == "segment":
            names = wanted.get("images")
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("images is a list of names")
            job = tasks.segment(names, model, diameter, replace=wanted.get("replace") is True)
        elif kind == "train":
            painted = wanted.get("painted")
            job = tasks.train(numeric(wanted.get("minutes")), model, None if painted is None else str(painted))
        elif kind == "suggest":
            job = tasks.suggest(model)
        elif kind == "import":
            job = tasks.bring_in()
        elif kind == "check":
            job = tasks.check()
        elif kind == "track":
            cells = wanted.get("cells")
            found_by = None if cells == "drawn" else model
            job = tasks.track(str(wanted.get("movie")), str(wanted.get("tracker")), found_by, diameter)
        else:
            raise ValueError(f"there is no work {kind!r:.40}")
        return {"number": job.number}

    def job(self, number: int, what: str) -> dict[str, Any]:
        """Stop a piece of work, let it go on, or return what it found."""
        queue = self.tasks.queue
        job = queue.get(number)
        if what == "stop":
            queue.stop(number)
        elif what == "go-on":
            queue.go_on(number)
        folder = queue.folder(number)
        if job.kind == "suggest" and job.state == "done":
            return {"suggestions": suggestions(folder)}
        return {"findings": findings(folder)} if job.kind == "check" and job.state == "done" else {}

    def masks(self) -> Response:
        """Return a zip file of all finished masks, with the images' names."""
        self.workspace.save()
        files = (mask for mask in image_files(self.workspace.path / "masks") if mask.is_file())
        title = f"{self.workspace.path.resolve().name}-masks.zip"
        return zipped(title, ((mask, f"masks/{mask.name}") for mask in files))


def application(workspace: Workspace, tasks: Tasks) -> Starlette:
    """Return the application of a studio, which has still to be guarded (`guard.Guard`)."""
    studio = Studio(workspace, tasks)

    def tile(request: Request) -> Response:
        place = request.path_params
        where = place["level"], place["column"], place["row"]
        if place["kind"] == "tiles":
            shown = request.query_params.get("channels", "")
            return Response(studio.tile(place["name"], *where, shown), media_type="image/jpeg")
        if place["kind"] not in ("outlines", "fills"):
            raise Refused(404, "There is no such picture.")
        return Response(studio.cells(place["name"], place["kind"], *where), media_type="image/png")

    def sample(request: Request) -> Response:
        name = request.path_params["sample"]
        path = studio._run_folder(request.path_params["run"]) / "samples" / name
        if not SAMPLE.fullmatch(name) or not path.is_file():
            raise Refused(404, "There is no such picture.")
        return FileResponse(path)

    def report(request: Request) -> Response:
        path = studio._run_folder(request.path_params["run"]) / "report.html"
        if not path.is_file():
            raise Refused(404, "The report is written at the end of the training.")
        return FileResponse(path, headers={"Content-Security-Policy": REPORT_POLICY})

    async def upload(request: Request) -> Response:
        return JSONResponse(await _upload(request, workspace))

    name = "/api/images/{name}"
    routes = [
        Route("/", lambda request: FileResponse(PAGE / "index.html")),
        Route("/api/state", get(lambda request: studio.state())),
        Route("/api/images", upload, methods=["POST"]),
        Route(name, get(lambda request: studio.image(request.path_params["name"]))),
        Route(f"{name}/{{kind}}/{{level:int}}/{{column:int}}/{{row:int}}", get(tile)),
        Route(f"{name}/edits", post(lambda r, wanted: studio.edit(r.path_params["name"], wanted)), methods=["POST"]),
        Route(f"{name}/mark", post(lambda r, wanted: studio.mark(r.path_params["name"], wanted)), methods=["POST"]),
        Route("/api/jobs", post(lambda r, wanted: studio.work(wanted)), methods=["POST"]),
        Route("/api/jobs/{number:int}", get(lambda r: studio.job(r.path_params["number"], ""))),
        Route(
            "/api/jobs/{number:int}/{what}",
            post(lambda r, wanted: studio.job(r.path_params["number"], r.path_params["what"])),
            methods=["POST"],
        ),
        Route("/api/runs/{run}", get(lambda r: studio.run(r.path_params["run"]))),
        Route("/api/runs/{run}/samples/{sample}", get(sample)),
        Route("/api/runs/{run}/report", get(report)),
        Route("/api/masks.zip", get(lambda request: studio.masks())),
        *movie_routes(tasks.movies),
        *outcomes.routes(tasks),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield
        await run_in_threadpool(tasks.queue.close)
        try:
            await run_in_threadpool(call_all, [workspace.save, tasks.movies.save])
        except (UserError, OSError) as error:
            tell_once(f"{error}; what was drawn and corrected is kept, and written at the next opening")

    handlers: dict[Any, Any] = {
        Refused: lambda request, error: told(error.status, str(error)),
        Outdated: lambda request, error: told(409, str(error)),
        KeyError: lambda request, error: told(404, "There is nothing of this name."),
        IndexError: lambda request, error: told(404, "There is no such tile."),
        ValueError: lambda request, error: told(400, str(error)),
        UserError: lambda request, error: told(422, str(error)),
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


async def _upload(request: Request, workspace: Workspace) -> dict[str, Any]:
    """Take an image that is sent as the body of a request under the name that it asks for; its type is checked."""
    given = Path(request.query_params.get("name", "").replace("\\", "/")).name
    suffix = Path(given).suffix.lower()
    if suffix not in SUFFIXES or suffix == ".zarr":
        kinds = "PNG, TIFF, JPEG, BMP, WebP and NPY images"
        raise Refused(415, f"{given[:80]}: {kinds} can be brought in this way; convert it to one of these.")
    incoming = workspace.path / HIDDEN / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=incoming) as folder:
        path, size = Path(folder, f"image{suffix}"), 0
        with path.open("wb") as file:
            async for part in request.stream():
                size += len(part)
                if size > LARGEST:
                    raise Refused(413, f"{given[:80]}: is larger than {LARGEST / 2**30:.0f} GiB; crop it.")
                await run_in_threadpool(file.write, part)
        try:
            await run_in_threadpool(_decode, path)
            add = workspace.add_mask if request.query_params.get("part") == "masks" else workspace.add
            picture = await run_in_threadpool(add, path, image_name(Path(given)))
        except UserError as error:
            raise Refused(422, str(error).replace(str(path), given)) from error
    return {"name": picture.name}


def _decode(path: Path) -> None:
    """Raise UserError when pixels of an image cannot be read."""
    with RowReader(path) as reader:
        for _ in strips(reader):
            pass


def _channels(text: str) -> list[Channel]:
    """Return the channels that a query names; raises ValueError when it names none rightly."""
    found = []
    for part in text.split(",")[:MAX_CHANNELS]:
        number, low, high, colour = part.split(":")
        if colour not in COLOURS:
            raise ValueError(f"there is no colour {colour!r:.40}")
        found.append(Channel(int(number), float(low), float(high), colour))
    return found
