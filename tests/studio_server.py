"""A studio that runs in a thread of the tests, on a free port of this computer."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvicorn

from cytoforge.studio.guard import Guard, hosts_of
from cytoforge.studio.server import application
from cytoforge.studio.tasks import Tasks
from cytoforge.studio.workspace import Workspace

TOKEN = "secret"


class Opened(NamedTuple):
    """A running studio: a client that sends what its page sends, the folder, and its address."""

    client: httpx.Client
    space: Workspace
    address: str
    cookie: str


@contextlib.contextmanager
def studio(source: Path, port: int = 0) -> Iterator[Opened]:
    """Open a studio on a folder; it is closed as by Ctrl-C when the block ends."""
    space = Workspace(source)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        port = listening.getsockname()[1]
        cookie, address = f"cytoforge-{port}", f"http://127.0.0.1:{port}"
        app = Guard(application(space, Tasks(space)), hosts_of("127.0.0.1", port), TOKEN, cookie)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        listening.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        headers = {"origin": address, "x-cytoforge": "studio"}
        try:
            with httpx.Client(base_url=address, headers=headers, cookies={cookie: TOKEN}, timeout=60) as client:
                yield Opened(client, space, address, cookie)
        finally:
            server.should_exit = True
            thread.join()


def wait(client: httpx.Client, number: int = 1) -> dict[str, Any]:
    """Wait until a piece of work has ended, and return it."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        job = next((job for job in client.get("/api/state").json()["jobs"] if job["number"] == number), None)
        if job and job["state"] not in ("waiting", "running"):
            return dict(job)
        time.sleep(0.05)
    raise AssertionError(f"piece of work {number} does not end")
