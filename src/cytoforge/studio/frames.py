"""Images of a studio that are the frames of a movie: numbered one after another, of one size."""

import re
from collections.abc import Sequence

from cytoforge.data.files import read_json, write_json
from cytoforge.studio.workspace import Workspace

SEQUENCE = "01"  # name of the movie that is made of images
RECORD = "frames.json"
NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


def in_sequence(names: Sequence[str]) -> bool:
    """Tell whether names, two or more, differ in one number only, the last in each, which counts up by one."""
    parts = [NUMBERED.fullmatch(name) for name in names]
    if len(parts) < 2 or None in parts:
        return False
    around = {(part[1], part[3]) for part in parts if part}
    numbers = [int(part[2]) for part in parts if part]
    return len(around) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def frames_among(workspace: Workspace) -> list[str]:
    """Return the names of all images of a studio in order, if they may be the frames of a movie; else none."""
    names = workspace.names()
    sizes = {workspace.picture(name).shape for name in names}
    return names if len(sizes) == 1 and in_sequence(names) else []


def chosen_frames(workspace: Workspace) -> list[str]:
    """Return the names of the images that were opened as a movie, in the order of their frames, from frame 0 on."""
    path = workspace.hidden / RECORD
    return [str(name) for name in read_json(path)["frames"]] if path.exists() else []


def keep_frames(workspace: Workspace, names: Sequence[str]) -> None:
    """Note which images are opened as a movie."""
    write_json(workspace.hidden / RECORD, {"frames": list(names)})
