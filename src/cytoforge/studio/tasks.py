"""What a studio has done for it, as commands of the queue: proposals, trainings, suggestions, imports."""

import csv
import json
from pathlib import Path
from typing import Any

from cytoforge.data.files import make_folder, read_json
from cytoforge.data.formats import image_files
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.progress import counted
from cytoforge.studio.films import Films
from cytoforge.studio.following import follow, followed
from cytoforge.studio.queue import Job, Queue
from cytoforge.studio.workspace import HIDDEN, Workspace, link

LONGEST = 24 * 60  # minutes of a training


class Tasks:
    """The work of a studio: what is asked for becomes a command in the queue, and its result goes into the workspace.

    All raise UserError for what cannot be done, and KeyError for images that there are none of.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.films = Films(workspace)
        self.queue = Queue(workspace.path / HIDDEN / "jobs", self._finish)

    def segment(self, names: list[str], model: str, diameter: float | None, *, replace: bool) -> Job:
        """Find the cells of images with the base model or a run, as a first proposal.

        Images with a finished mask are left alone, and drafts with cells, too, unless told to `replace` these.
        """
        left = [name for name in names if self.workspace.status(name) != "done"]
        if not left:
            raise UserError("all of these images are finished; take one back to work to find its cells anew")
        run = self._model(model)
        given = [] if diameter is None or model != "base" else ["--diameter", f"{diameter:g}"]

        def command(folder: Path) -> list[str]:
            self._put(folder / "in", left)
            return ["segment", str(run), str(folder / "in"), "--out", str(folder / "out"), *given]

        return self.queue.add("segment", command, {"images": left, "model": model, "replace": replace})

    def train(self, minutes: float, start: str) -> Job:
        """Train a segmenter on the finished images, from the base model or a run."""
        names = self.workspace.done()
        if not names:
            raise UserError("no image is finished yet; correct the cells of one and say that it is right")
        if not 0 < minutes <= LONGEST:
            raise UserError(f"a training takes up to {LONGEST} minutes")
        begin, run = self._model(start), self.workspace.next_run()
        make_folder(run)  # so that the next training gets another name

        def command(folder: Path) -> list[str]:
            self.workspace.snapshot(folder / "in", names, masks=True)
            options = ["--minutes", f"{minutes:g}", "--start", str(begin)]
            return ["train", "segmentation", str(folder / "in"), "--out", str(run), *options]

        asked = {"run": run.name, "minutes": minutes, "images": names, "start": start}
        return self.queue.add("train", command, {**asked, "as_found": self.workspace.as_found(names)})

    def suggest(self, model: str) -> Job:
        """Find out which of the images that are not finished would teach most."""
        names = [name for name in self.workspace.names() if self.workspace.status(name) != "done"]
        if not names:
            raise UserError("all images are finished; add more images to go on")
        run = self._model(model)

        def command(folder: Path) -> list[str]:
            self._put(folder / "in", names)
            return ["suggest", str(run), str(folder / "in"), "--out", str(folder / "out"), "--count", "5"]

        return self.queue.add("suggest", command, {"model": model, "images": names})

    def bring_in(self) -> Job:
        """Bring in the annotations of another program that the folder of the studio holds."""
        source = self.workspace.source
        if not self.workspace.foreign:
            raise UserError(f"{source}: holds no annotations of another program")
        return self.queue.add(
            "import", lambda folder: ["import", "dataset", str(source), "--out", str(folder / "out")], {}
        )

    def check(self) -> Job:
        """Look through the finished images for what would spoil training."""
        return self.queue.add("check", lambda folder: ["check", str(self.workspace.path), "--json"], {})

    def track(self, film: str, tracker: str, model: str | None) -> Job:
        """Follow the cells of a movie: those that are drawn in its frames, or that a model finds (`follow`)."""
        return follow(self.films, self.queue, film, tracker, None if model is None else self._model(model))

    def _put(self, folder: Path, names: list[str]) -> None:
        for name in names:
            path = self.workspace.picture(name).path
            link(path, folder / path.name)

    def _model(self, name: str) -> Path:
        """Return what a command takes for the name of a model on the page: base, or the name of a run."""
        if name in ("base", "scratch"):
            return Path(name)
        run = next((path for path in self.workspace.runs() if path.name == name), None)
        if run is None:
            raise UserError(f"there is no run {name!r:.60}")
        return run

    def _finish(self, job: Job, folder: Path) -> str:
        """Take the result of a command into the workspace; return a sentence for the user."""
        if job.kind == "segment":
            return self._propose(job, folder)
        if job.kind == "train":
            verdict = Run.open(self.workspace.path / job.asked["run"]).provenance.get("verdict", "Trained.")
            return f"{verdict}{_repeated(job.asked.get('as_found', 0), len(job.asked['images']))}"
        if job.kind == "suggest":
            best = suggestions(folder)
            return f"Label {best[0]['image']} next." if best else "Nothing is suggested."
        if job.kind == "import":
            self.workspace.foreign = None
            added = self.workspace.take(folder / "out")
            return f"{counted(added, 'image')} brought in."
        if job.kind == "track":
            return followed(self.films, job, folder)
        return "Looked through."

    def _propose(self, job: Job, folder: Path) -> str:
        masks = {path.stem: path for path in image_files(folder / "out" / "masks")}
        replace = bool(job.asked.get("replace"))
        taken = [name for name in job.asked["images"] if self._proposed(name, masks, replace=replace)]
        cells = sum(entry["cells"] for entry in read_json(folder / "out" / "segment.json")["masks"].values())
        kept = len(job.asked["images"]) - len(taken)
        left = f"; {counted(kept, 'image')} kept the cells that you have drawn" if kept else ""
        return f"{counted(cells, 'cell')} found in {counted(len(job.asked['images']), 'image')}{left}."

    def _proposed(self, name: str, masks: dict[str, Path], *, replace: bool) -> bool:
        return name in masks and self.workspace.propose(name, masks[name], replace=replace)


def _repeated(found: int, images: int) -> str:
    """Return what to say of a training of which most masks are as a model found them."""
    if 2 * found <= images:
        return ""
    return (
        f" The cells of {found} of {counted(images, 'finished image')} are as a model found them; this score says how "
        "well it repeats them."
    )


def suggestions(folder: Path) -> list[dict[str, Any]]:
    """Return the windows that `suggest` ranked: image, y, x, height, width in pixels, disagreement; best first."""
    path = folder / "out" / "suggestions.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers = ("y", "x", "height", "width", "cells")
    return [
        {"image": row["image"], "disagreement": float(row["disagreement"]), **{key: int(row[key]) for key in numbers}}
        for row in rows
    ]


def findings(folder: Path) -> list[dict[str, str]]:
    """Return what `check` found, each with severity, file, what and remedy."""
    path = folder / "output.txt"
    found: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))["findings"] if path.exists() else []
    return found
