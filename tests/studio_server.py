"""A studio that runs in a thread of the tests, on a free port of this computer."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
