"""What noise, contrasts and textures of the training movie do for painted movies, as an expert would look.

    python benchmarks/movie_realism.py hela
    python benchmarks/movie_realism.py usiigaci_movie

A movie generator (`train movie`, preset small, minutes of one thread's processor time) learns from the first frames of
a movie and paints the masks of the last ones. What it paints is recorded as before, then in the grey values of the
movie, with the noise of its camera, with the contrasts of its cells, and with their textures; `score movie
--classifier` compares each with the real frames. Beside them stand what the classifier says of real frames against
earlier real ones, and against themselves spoiled a little: below the first nothing can be told, and the second says how
hard it looks. Segmenters that learn for a minute, from random weights, from the real frames or from as many simulated
and painted ones, with textures or without, are scored on the last frames, with three seeds. Data are found through
CYTOFORGE_DATA (default ../shared/data); work lies in scratch/movie_realism, where a finished training is used again.
Writes movie_realism.json beside this file.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cli import main
from cytoforge.commands.score import score_segmentation
from cytoforge.data.files import read_json, write_json
from cytoforge.data.images import read_image
from cytoforge.data.movie import read_sequences
from cytoforge.data.run import Run
from cytoforge.evaluation.comparison import MovieComparison
from cytoforge.evaluation.movie import score_sides
from cytoforge.evaluation.movie_sides import Sides, TrackedMovie
from cytoforge.inference.generate_movie import Look, film_masks, maskful
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.metrics.two_sample import TwoSample, cut_crops, tell_apart
from cytoforge.settings import ScoreSegmentation
from cytoforge.studies.frames import Part, copy_movie
from measuring import provenance

HERE = Path(__file__).parent
DATA = Path(os.environ.get("CYTOFORGE_DATA", HERE.parent.parent / "shared" / "data")).resolve()
WORK = HERE.parent / "scratch" / "movie_realism"
JSON = Path(__file__).with_suffix(".json")
Frame = NDArray[np.floating[Any]]


class Movie(NamedTuple):
    """A movie, how many of its frames are learned from, the scale, and minutes."""

    learned: int
    frames: int
    scale: float
    minutes: float


SEEDS = (0, 1, 2)
MOVIES = {"hela": Movie(30, 46, 0.5, 3.0), "usiigaci_movie": Movie(24, 37, 0.333, 2.0)}
SPOILED: dict[str, Callable[[Frame, int], Frame]] = {
    "blurred by 0.7 px": lambda frame, _: ndimage.gaussian_filter(frame, (0, 0.7, 0.7)),
    "noise of 0.005": lambda frame, t: frame + np.random.default_rng(t).normal(0, 0.005, frame.shape),
}


def arms(generator: MovieGenerator) -> dict[str, tuple[MovieGenerator, Look]]:
    """Ways to record what a generator paints."""
    untold = generator.settings.model_copy(update={"pixels": None, "noise": []})
    bare = Look(noise=False, contrast=False, texture=False)
    return {
        "as before": (replace(generator, settings=untold), bare),
        "grey values": (generator, bare),
        "grey values, noise": (generator, replace(bare, noise=True)),
        "grey values, contrasts": (generator, replace(bare, contrast=True)),
        "all three": (generator, Look()),
        "all three, textures": (generator, Look(texture=True)),
    }


def scores(painted: Path, real: Path) -> dict[str, Any]:
    comparison = MovieComparison(prediction=painted, truth=real, classifier=True, threads=1)
    found = score_sides(comparison, Sides.open(comparison))
    assert found.classifier is not None and found.clips is not None
    return {
        "classifier": told(found.classifier),
        **{f"{name} ratio": round(value, 4) for name, value in found.ratios.items()},
        "warping error": [side.coherence.warping_error for side in (found.generated, found.real)],
        "clips": found.clips.distance,
        "clips, real halves": None if np.isnan(found.clips.halves) else found.clips.halves,
        "grey values, percentiles 1, 50, 99": grey_values(painted),
        "those of the real frames": grey_values(real),
    }


def told(found: TwoSample) -> dict[str, Any]:
    return {
        "accuracy": found.accuracy.value,
        "interval": [found.accuracy.low, found.accuracy.high],
        "real": found.real,
        "painted": found.painted,
    }


def grey_values(path: Path) -> dict[str, Any]:
    images = [read_image(file) for sequence in read_sequences(path) for file in sequence.frames.values()]
    return {"type": str(images[0].dtype), "values": np.percentile(images, (1, 50, 99)).round(2).tolist()}


def limits_of_the_classifier(learned: Path, tested: Path) -> dict[str, Any]:
    """What the classifier says of real frames against others, and against themselves spoiled."""
    comparison = MovieComparison(prediction=learned, truth=tested)
    sides = Sides.open(comparison)

    def crops(movie: TrackedMovie, seed: int, change: Callable[[Frame, int], Frame] = lambda f, _: f) -> Any:
        frames = ((change(image, t), labels) for t, (image, labels) in enumerate(movie.labelled()))
        return cut_crops(frames, np.random.default_rng(seed))

    (theirs,), (ours,) = sides.real, sides.generated
    others = {"earlier real frames": crops(ours, 1)}
    others |= {name: crops(theirs, 1, change) for name, change in SPOILED.items()}
    real = crops(theirs, 0)
    return {name: told(tell_apart(real, other, np.random.default_rng(0))) for name, other in others.items()}


def measure(name: str) -> dict[str, Any]:
    movie, work = MOVIES[name], WORK / name
    parts = {"train": (0.0, movie.learned / movie.frames), "test": (movie.learned / movie.frames, 1.0)}
    for part, span in parts.items():
        if not (work / part / "dataset.json").exists():
            copy_movie(Part(DATA / name, ["01"], span), work / part, movie.scale)
    if not (work / "run" / "config.json").exists() or not Run.open(work / "run").finished:
        line = ["train", "movie", str(work / "train"), "--out", str(work / "run"), "--minutes", str(movie.minutes)]
        call(*line, "--clock", "processor", "--threads", "1")
    generator = MovieGenerator.load(work / "run", threads=1)
    found = {}
    for arm, (way, look) in arms(generator).items():
        out = work / arm.replace(" ", "-").replace(",", "")
        film_masks(way, work / "test", maskful(work / "test", (), out), out, look, overwrite=out.exists())
        found[arm] = scores(out, work / "test")
    return {
        "learned": movie.learned,
        "tested": movie.frames - movie.learned,
        "scale": movie.scale,
        "minutes": movie.minutes,
        "steps": Run.open(work / "run").provenance["steps"],
        "camera": [one.model_dump() for one in generator.settings.noise],
        "classifier, real frames against": limits_of_the_classifier(work / "train", work / "test"),
        "painted": found,
        "segmenters": {str(seed): segmenters(work, movie, seed) for seed in SEEDS},
    }


def segmenters(work: Path, movie: Movie, seed: int) -> dict[str, dict[str, float]]:
    """Return mean F on the test frames of segmenters that learn from real or from painted frames."""
    masks, films = work / f"masks-{seed}", {"real frames": work / "train"}
    again = ["--seed", str(seed), "--overwrite"]
    like = ["--like", str(work / "train"), "--frames", str(movie.learned)]
    call("simulate", "movie", *like, "--out", str(masks), *again)
    for arm, flags in {"painted": [], "painted, textures": ["--texture"]}.items():
        films[arm] = work / f"{arm.replace(', ', '-')}-{seed}"
        call(
            "generate",
            "movie",
            str(work / "run"),
            str(masks),
            "--out",
            str(films[arm]),
            "--threads",
            "1",
            *again,
            *flags,
        )
    found = {}
    for arm, film in films.items():
        run, out = work / f"segmenter-{seed}", work / f"found-{seed}"
        learn = ["--start", "scratch", "--minutes", "1", "--clock", "processor", "--threads", "1"]
        call("train", "segmentation", str(film), "--out", str(run), *learn, *again)
        call("segment", str(run), str(work / "test"), "--out", str(out), "--threads", "1", "--overwrite")
        images = score_segmentation(ScoreSegmentation(prediction=out, truth=work / "test")).images.values()
        scored = [image.f_score for image in images if image.f_score is not None]
        found[arm] = {
            f"F at IoU {iou}": float(np.mean(scored, axis=0)[place]) for iou, place in (("0.5", 0), ("0.7", 2))
        }
    return found


def call(*line: str) -> None:
    """Run a command of cytoforge; ends the benchmark where it fails."""
    if main(list(line)):
        raise SystemExit(1)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("movies", nargs="*", choices=[*MOVIES, []], help="all without any")
    torch.set_num_threads(1)
    for name in parser.parse_args().movies or MOVIES:
        found = measure(name)
        kept = read_json(JSON)["movies"] if JSON.exists() else {}
        told = provenance("python benchmarks/movie_realism.py")
        write_json(JSON, {"provenance": told, "movies": dict(sorted((kept | {name: found}).items()))})


if __name__ == "__main__":
    run()
