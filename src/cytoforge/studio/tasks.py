"""What a studio has done for it, as commands of the queue, on images, masks, movies, models and simulated masks."""

import csv
import json
from pathlib import Path
from typing import Any

from cytoforge.data.files import make_folder, read_json
from cytoforge.data.formats import image_files
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.progress import counted
from cytoforge.studio.following import follow, followed
from cytoforge.studio.movies import Movies
from cytoforge.studio.queue import Job, Queue
from cytoforge.studio.results import CELL_FILES, TABLE, pack, told_of_table, told_of_training
from cytoforge.studio.scores import write_scores
from cytoforge.studio.simulator import MOST, Chosen, painter_of
from cytoforge.studio.workspace import HIDDEN, Workspace, link

LONGEST = 24 * 60  # minutes of a training


class Tasks:
    """The work of a studio: what is asked for becomes a command in the queue, and its result goes into the workspace.

    All raise UserError for what cannot be done, and KeyError for images that there are none of.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.movies = Movies(workspace)
        self.queue = Queue(workspace.path / HIDDEN / "jobs", self._finish)

    def segment(self, names: list[str], model: str, diameter: float | None, *, replace: bool) -> Job:
        """Find the cells of images with the base model or a run, as a first proposal.

        Images with a finished mask are left alone, and drafts with cells, too, unless told to `replace` these.
        """
        left = [name for name in names if self.workspace.status(name) != "done"]
        if not left:
            raise UserError("all of these images are finished; take one back to work to find its cells anew")
        run = self._model(model)

        def command(folder: Path) -> list[str]:
            self._put(folder / "in", left)
            flags = size_flags(model, diameter)
            return ["segment", str(run), str(folder / "in"), "--out", str(folder / "out"), *flags]

        return self.queue.add("segment", command, {"images": left, "model": model, "replace": replace})

    def train(self, minutes: float, start: str, painted: str | None = None) -> Job:
        """Train a segmenter on the finished images, and on `painted` ones, from the base model or a run."""
        names = self._finished(minutes)
        also = [] if painted is None else ["--with", str(self._painted(painted))]
        begin, run = self._model(start), self.workspace.next_folder("run")
        make_folder(run)  # so that the next training gets another name

        def command(folder: Path) -> list[str]:
            options = ["--minutes", f"{minutes:g}", "--start", str(begin), *also]
            return ["train", "segmentation", self._snapshot(folder, names), "--out", str(run), *options]

        asked = {"run": run.name, "minutes": minutes, "images": names, "start": start, "painted": painted}
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

    def track(self, movie: str, tracker: str, model: str | None, diameter: float | None = None) -> Job:
        """Follow the cells of a movie: those that are drawn in its frames, or that a model finds (`follow`)."""
        run = None if model is None else self._model(model)
        return follow(self.movies, self.queue, movie, tracker, run, size_flags(model, diameter))

    def measure(self, pixel_size: float | None, *, drafts: bool) -> Job:
        """Measure the cells of the finished images, with `drafts` of all that have cells; `pixel_size` in um."""
        names = self.workspace.with_cells() if drafts else self._finished()
        if pixel_size is not None and not 1e-6 <= pixel_size <= 1e6:
            raise UserError(f"a pixel is 1e-6 to 1e6 micrometers wide, not {pixel_size:g}")
        size = [] if pixel_size is None else ["--pixel-size", f"{pixel_size:g}"]

        def command(folder: Path) -> list[str]:
            data = self._snapshot(folder, names)
            return ["measure", data, data, "--out", str(folder / TABLE), "--overwrite", *size]

        return self.queue.add("measure", command, {"images": names, "drafts": drafts, "pixel_size": pixel_size})

    def export(self, kind: str) -> Job:
        """Write the cells as another program takes them: a name in `results.CELL_FILES`."""
        names = self._finished()
        if kind not in CELL_FILES:
            raise UserError(f"there is no format {kind!r:.40}; take one of {', '.join(CELL_FILES)}")

        def command(folder: Path) -> list[str]:
            data = self._snapshot(folder, names)
            return ["export", data, "--format", kind, "--out", str(folder / "out"), "--overwrite"]

        return self.queue.add("export", command, {"images": names, "format": kind})

    def score(self, model: str) -> Job:
        """Compare what a model finds in the finished images with their masks."""
        names = self._finished()
        run = self._model(model)

        def command(folder: Path) -> list[str]:
            return ["segment", str(run), self._snapshot(folder, names), "--out", str(folder / "out")]

        return self.queue.add("score", command, {"images": names, "model": model, "learned": self._learned(model)})

    def train_painter(self, minutes: float) -> Job:
        """Train an image generator on the finished images, which paints on masks."""
        names = self._finished(minutes)
        run = self.workspace.next_folder("painter")
        make_folder(run)

        def command(folder: Path) -> list[str]:
            options = ["--condition", "instances", "--scale", "auto", "--minutes", f"{minutes:g}"]
            return ["train", "generator", self._snapshot(folder, names), "--out", str(run), *options]

        return self.queue.add("train-painter", command, {"run": run.name, "minutes": minutes, "images": names})

    def simulate(self, chosen: Chosen, count: int, painter: str | None) -> Job:
        """Simulate masks as chosen on the page; `painter` paints them then, each step a command of its own."""
        names = self._finished()
        if not 1 <= count <= MOST:
            raise UserError(f"1 to {MOST} masks can be simulated at once")
        if painter is not None:
            painter_of(self.workspace, painter)
        out = self.workspace.next_folder("simulated")
        make_folder(out)

        def command(folder: Path) -> list[str]:
            data = self._snapshot(folder, names)
            return ["simulate", "masks", "--like", data, "--out", str(out), "--count", str(count), *chosen.flags()]

        return self.queue.add("simulate", command, {"out": out.name, "painter": painter, "seed": chosen.seed})

    def _paint(self, simulated: Job) -> None:
        """Have simulated masks painted, unless that was asked for before."""
        masks, painter = str(simulated.asked["out"]), str(simulated.asked["painter"])
        out = masks.replace("simulated", "painted", 1)
        if any(job["kind"] == "paint" and job["asked"]["out"] == out for job in self.queue.jobs()):
            return
        run, seed = painter_of(self.workspace, painter), str(simulated.asked["seed"])
        paths = str(run), str(self.workspace.path / masks), "--out", str(self.workspace.path / out)
        self.queue.add("paint", lambda folder: ["generate", "images", *paths, "--seed", seed], {"out": out})

    def _finished(self, minutes: float = 1) -> list[str]:
        """Return the finished images; raises UserError when there are none, or for minutes that no training takes."""
        names = self.workspace.done()
        if not names:
            raise UserError("no image is finished yet; correct the cells of one and say that it is right")
        if not 0 < minutes <= LONGEST:
            raise UserError(f"a training takes up to {LONGEST} minutes")
        return names

    def _snapshot(self, folder: Path, names: list[str]) -> str:
        self.workspace.snapshot(folder / "in", names)
        return str(folder / "in")

    def _painted(self, name: str) -> Path:
        found = next((path for path in self.workspace.painted() if path.name == name), None)
        if found is None:
            raise UserError(f"there are no painted images {name!r:.60}")
        return found

    def _learned(self, model: str) -> list[str]:
        """Return the images that a model, or one that it began from, has learned from or was chosen by."""
        if model == "base":
            return []
        settings = Run.open(self._model(model)).settings
        asked = (job["asked"] for job in self.queue.jobs())
        start = next((str(one.get("start")) for one in asked if one.get("run") == model), "scratch")
        before = self._learned(start) if start.startswith("run-") else []
        return sorted({*settings.training_images, *settings.validation_images, *before})

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
            learned = told_of_training(Run.open(self.workspace.path / job.asked["run"]))
            return f"{learned}{_repeated(job.asked.get('as_found', 0), len(job.asked['images']))}"
        if job.kind == "suggest":
            best = suggestions(folder)
            return f"Label {best[0]['image']} next." if best else "Nothing is suggested."
        if job.kind == "import":
            self.workspace.foreign = None
            added = self.workspace.take(folder / "out")
            return f"{counted(added, 'image')} brought in."
        if job.kind == "track":
            return followed(self.movies, job, folder)
        if job.kind == "measure":
            return told_of_table(folder / TABLE)
        if job.kind == "export":
            return pack(folder, str(job.asked["format"]))
        if job.kind == "score":
            return write_scores(self.workspace, folder, job.asked["learned"])
        if job.kind == "train-painter":
            return told_of_training(Run.open(self.workspace.path / job.asked["run"]))
        if job.kind == "simulate" and job.asked["painter"]:
            self._paint(job)
        if job.kind in ("simulate", "paint"):
            made, out = ("mask", "simulated") if job.kind == "simulate" else ("image", "painted"), job.asked["out"]
            return f"{counted(len(image_files(self.workspace.path / out / 'masks')), made[0])} {made[1]} in {out}."
        return "Looked through."

    def _propose(self, job: Job, folder: Path) -> str:
        masks = {path.stem: path for path in image_files(folder / "out" / "masks")}
        replace = bool(job.asked.get("replace"))
        taken = [name for name in job.asked["images"] if self._proposed(name, masks, replace=replace)]
        record = read_json(folder / "out" / "segment.json")
        cells = sum(entry["cells"] for entry in record["masks"].values())
        kept = len(job.asked["images"]) - len(taken)
        left = f"; {counted(kept, 'image')} kept the cells that you have drawn" if kept else ""
        known = Run.open(self._model(job.asked["model"])).settings.diameter
        taken_to_be = "" if known is None else f" Cells were taken to be {known / record['scale']:.0f} px across."
        return f"{counted(cells, 'cell')} found in {counted(len(job.asked['images']), 'image')}{left}.{taken_to_be}"

    def _proposed(self, name: str, masks: dict[str, Path], *, replace: bool) -> bool:
        return name in masks and self.workspace.propose(name, masks[name], replace=replace)


def size_flags(model: str | None, diameter: float | None) -> list[str]:
    """Return the flags that tell the base model how many pixels cells are across; runs need none."""
    return [] if diameter is None or model != "base" else ["--diameter", f"{diameter:g}"]


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
