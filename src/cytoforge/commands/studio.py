"""`cytoforge studio`: open the local page on a folder."""

import contextlib
import socket
import webbrowser
from pathlib import Path

from cytoforge.data.files import locked, make_folder
from cytoforge.errors import UserError
from cytoforge.extras import require
from cytoforge.progress import say
from cytoforge.settings import Studio

ATTEMPTS = 20  # ports that are tried from the one that is asked for


def studio(settings: Studio) -> Path:
    """Serve the page until it is interrupted; returns the folder in which the work is kept.

    Raises UserError when the extra is not installed, no port is free, or the folder is open in another studio.
    """
    require("the studio", "starlette", "uvicorn")
    import uvicorn

    from cytoforge.studio.guard import Guard, hosts_of, token_of
    from cytoforge.studio.server import application
    from cytoforge.studio.tasks import Tasks
    from cytoforge.studio.workspace import HIDDEN, Workspace, studio_of

    path = studio_of(settings.folder)
    make_folder(path / HIDDEN)
    listening = _listening(settings.host, settings.port)
    port = listening.getsockname()[1]
    try:
        with listening, locked(path / HIDDEN / "open", wait=False):
            workspace = Workspace(settings.folder)
            token = token_of(path / HIDDEN / "token")
            page = application(workspace, Tasks(workspace))
            app = Guard(page, hosts_of(settings.host, port), token, f"cytoforge-{port}")
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            address = f"http://{host}:{port}/?token={token}"
            print(f"{path}: the studio is open at {address}", flush=True)
            if not workspace.names() and not workspace.foreign:
                say([f"{settings.folder}: holds no images yet; drop them on the page"])
            say(["Close it with Ctrl-C; nothing is lost."])
            if settings.browser:
                webbrowser.open(address)
            config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=3)
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listening])
    except BlockingIOError as error:
        raise UserError(f"{path}: is open in another studio; close that one first") from error
    return path


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, or on the next free one."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"--host {host}: is no address of this computer; leave the flag out") from error
    for number in range(port, port + ATTEMPTS) if port else (0,):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address[0], number))
        except OSError as error:
            listening.close()
            refused = error
            continue
        listening.listen(128)
        return listening
    raise UserError(f"--port {port}: cannot be listened on ({refused.strerror}); give another one") from refused
