"""What the page asks for about results: the table of cells, files, scores, and simulated masks, over HTTP."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from cytoforge.studio.answers import REPORT_POLICY, Endpoint, Refused, get, numeric, post
from cytoforge.studio.queue import Job
from cytoforge.studio.results import CHART, PACKED, REPORT, SUMMARY, TABLE, read_table
from cytoforge.studio.scores import read_scores
from cytoforge.studio.simulator import Chosen, Simulator, scale_of
from cytoforge.studio.tasks import Tasks

SHOWN = (CHART, REPORT)  # the others are saved by the browser
ROWS = 100


def routes(tasks: Tasks) -> list[Route]:
    """Return the routes of results for the page of a studio."""
    workspace, queue = tasks.workspace, tasks.queue
    simulator = Simulator(workspace)

    def done(request: Request, *kinds: str) -> Job:
        job = queue.get(request.path_params["number"])
        if job.kind not in kinds or job.state != "done":
            raise Refused(404, "There is nothing of this kind.")
        return job

    def changed(request: Request) -> dict[str, Any]:
        """Say whether the masks have changed since, and how many images were finished since."""
        job = done(request, "measure", "export", "score")
        later = [name for name in workspace.done() if name not in job.asked["images"]]
        return {"changed": not workspace.is_unchanged(queue.folder(job.number) / "in"), "later": len(later)}

    def table(request: Request) -> dict[str, Any]:
        job, given = done(request, "measure"), request.query_params
        first, sort, down = int(given.get("first", "0")), given.get("sort", ""), given.get("down") == "1"
        return read_table(queue.folder(job.number) / TABLE).rows(sort, first, ROWS, down=down)

    def file(request: Request) -> Response:
        job, name = done(request, "measure", "export"), request.path_params["file"]
        path = queue.folder(job.number) / name
        if name not in (TABLE, SUMMARY, CHART, REPORT, PACKED) or not path.is_file():
            raise Refused(404, "There is no such file.")
        if name in SHOWN:
            return FileResponse(path, headers={"Content-Security-Policy": REPORT_POLICY} if name == REPORT else {})
        title = f"{job.asked['format']}{path.suffix}" if name == PACKED else name
        return FileResponse(path, filename=f"{workspace.path.resolve().name}-{title}")

    def cell(request: Request) -> dict[str, int]:
        box = workspace.cell(request.path_params["name"], request.path_params["cell"])
        return dict(zip(("x", "y", "width", "height"), box, strict=True))

    def scores(request: Request) -> dict[str, Any]:
        job = done(request, "score")
        return {"model": job.asked["model"], **read_scores(queue.folder(job.number))}

    def measure(wanted: dict[str, Any]) -> Job:
        size = wanted.get("pixel_size")
        return tasks.measure(None if size is None else numeric(size), drafts=wanted.get("drafts") is True)

    def chosen(wanted: dict[str, Any]) -> tuple[Chosen, str | None]:
        painter = wanted.get("painter")
        painter = None if painter is None else str(painter)
        return Chosen.of(wanted, scale_of(workspace, painter)), painter

    def painting(request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        sliders, painter = chosen(wanted)
        return simulator.painting(sliders, str(painter))

    def simulate(wanted: dict[str, Any]) -> Job:
        sliders, painter = chosen(wanted)
        return tasks.simulate(sliders, int(numeric(wanted.get("count"))), painter)

    def asked(work: Callable[[dict[str, Any]], Job]) -> Endpoint:
        return post(lambda request, wanted: {"number": work(wanted).number})

    job = "/api/jobs/{number:int}"
    return [
        Route("/api/images/{name}/cells/{cell:int}", get(cell)),
        Route(f"{job}/changed", get(changed)),
        Route(f"{job}/table", get(table)),
        Route(f"{job}/files/{{file}}", get(file)),
        Route(f"{job}/scores", get(scores)),
        Route("/api/measure", asked(measure), methods=["POST"]),
        Route("/api/export", asked(lambda wanted: tasks.export(str(wanted.get("format")))), methods=["POST"]),
        Route("/api/score", asked(lambda wanted: tasks.score(str(wanted.get("model")))), methods=["POST"]),
        Route("/api/simulator", get(lambda r: simulator.facts())),
        Route("/api/simulator/mask", post(lambda r, wanted: simulator.mask(chosen(wanted)[0])), methods=["POST"]),
        Route("/api/simulator/painting", post(painting), methods=["POST"]),
        Route("/api/simulate", asked(simulate), methods=["POST"]),
        Route("/api/painter", asked(lambda w: tasks.train_painter(numeric(w.get("minutes")))), methods=["POST"]),
    ]
