"""The process of one piece of work: `python -m cytoforge.studio.worker FOLDER` runs the command that a studio queued.

It stops, with everything saved, when its standard input ends: because somebody has asked for that, or because the
studio is gone, however that came about. FOLDER/status holds the exit status of a command that has come to an end.
"""

import _thread
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

from cytoforge.data.files import locked, read_json, write_bytes

STATUS = "status"
LOCK = "lock"


def work(folder: Path) -> int:
    """Run the command in FOLDER/job.json, unless it has ended before, and note its exit status; return it."""
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    with locked(folder / LOCK):
        ended = ended_with(folder)
        if ended is not None:
            return ended
        status = _status_of(read_json(folder / "job.json")["command"])
        if status != 130:
            write_bytes(folder / STATUS, str(status).encode())
    return status


def ended_with(folder: Path) -> int | None:
    """Return the exit status that a command has left in its folder; None where it has not ended, or left no number."""
    try:
        return int((folder / STATUS).read_text())
    except (OSError, ValueError):
        return None


def _status_of(command: list[str]) -> int:
    """Run a command line in this process and return its exit status."""
    sys.argv = ["cytoforge", *command]
    try:
        runpy.run_module("cytoforge", run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _stop_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not the buffered stream, whose lock would be held when Python ends
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:  # Windows
        _thread.interrupt_main(signal.SIGINT)


if __name__ == "__main__":
    try:
        sys.exit(work(Path(sys.argv[1])))
    except KeyboardInterrupt:  # before the command or after it
        sys.exit(130)
