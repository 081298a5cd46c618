"""How a function becomes an endpoint: JSON in, JSON out, bounded; a refusal is a status and a sentence."""

import json
import tempfile
import zipfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from cytoforge.data.files import is_number

LONGEST = 2**21  # bytes of a request that holds JSON
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """A request that cannot be answered: an HTTP status, and a sentence for the user."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def get(answer: Callable[[Request], Any]) -> Endpoint:
    """Return an endpoint that answers in a thread, with a response or with what becomes JSON."""

    async def endpoint(request: Request) -> Response:
        found = await run_in_threadpool(answer, request)
        return found if isinstance(found, Response) else JSONResponse(found)

    return endpoint


def post(answer: Callable[[Request, dict[str, Any]], Any]) -> Endpoint:
    """Return an endpoint that is given the JSON object of a request, too, and answers in a thread with JSON."""

    async def endpoint(request: Request) -> Response:
        wanted = await body(request)
        return JSONResponse(await run_in_threadpool(answer, request, wanted))

    return endpoint


def told(status: int, sentence: str) -> Response:
    """Return an answer that says what is wrong."""
    return JSONResponse({"error": sentence}, status)


def zipped(title: str, files: Iterable[tuple[Path, str]]) -> Response:
    """Return an answer with files, each under a name of its own, in a zip file, which is removed once it is sent."""
    with tempfile.NamedTemporaryFile(prefix="cytoforge-", suffix=".zip", delete=False) as file:
        path = Path(file.name)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for one, name in files:
            archive.write(one, name)
    return FileResponse(path, filename=title, background=BackgroundTask(path.unlink, missing_ok=True))


async def body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; raises Refused when it is none or too long."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LONGEST:
            raise Refused(413, "This is more than the page ever sends.")
    try:
        wanted = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The request is no JSON.") from error
    if not isinstance(wanted, dict):
        raise Refused(400, "The request is no JSON object.")
    return wanted


def numeric(value: Any) -> Any:
    """Return a number as it is; raises ValueError for anything else."""
    if not is_number(value):
        raise ValueError("a number is missing")
    return value
