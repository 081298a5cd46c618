"""The command line: a table from words to (config, function). Parses, calls, prints; no science, no torch at import."""

import importlib
import inspect
import os
import sys
from collections.abc import Sequence

COMMANDS: dict[str, tuple[str, str, str]] = {
    # words: (config class, function, one line of help)
    "demo": ("Demo", "commands.demo:demo", "few-label training in several ways on phantom cells, scored and shown"),
    "check": ("Check", "commands.check:check_command", "lint a dataset or movie and say what to do"),
    "train segmentation": ("TrainSegmentation", "commands.train:train_segmentation", "annotated images to a segmenter"),
    "train generator": ("TrainGenerator", "commands.train:train_generator", "annotated images to an image generator"),
    "train movie": ("TrainMovie", "commands.train:train_movie", "an annotated movie to a movie generator"),
    "train tracker": ("TrainTracker", "commands.train:train_tracker", "a tracked movie to a tracker"),
    "segment": ("Segment", "inference.segment:segment", "images to masks with a trained run"),
    "generate images": ("GenerateImages", "inference.generate:generate", "masks to images, with a trained generator"),
    "generate movie": (
        "GenerateMovie",
        "inference.generate_movie:generate_movie",
        "masks of a movie to its frames, with a trained movie generator",
    ),
    "track": ("Track", "inference.track:track", "masks of a movie, or its frames, to tracks and lineages"),
    "score segmentation": ("ScoreSegmentation", "commands.score:score_command", "masks against true masks"),
    "simulate masks": ("SimulateMasks", "commands.simulate:simulate_masks", "label images of cells shaped like yours"),
    "simulate movie": (
        "SimulateMovie",
        "commands.simulate_movie:simulate_movie",
        "movies of cells that move and divide like yours",
    ),
    "score generation": (
        "ScoreGeneration",
        "commands.score_generation:score_generation_command",
        "generated images against real ones",
    ),
    "score movie": ("ScoreMovie", "commands.score_movie:score_movie_command", "a generated movie against a real one"),
    "score tracking": (
        "ScoreTracking",
        "commands.score_tracking:score_tracking_command",
        "predicted tracks and divisions against true ones",
    ),
    "study training": (
        "StudyTraining",
        "commands.study.segmenters:study_training",
        "few images against all, by network",
    ),
    "study dense": ("StudyDense", "commands.study.segmenters:study_dense", "with and without dense synthetic images"),
    "study limited-data": (
        "StudyLimitedData",
        "commands.study.segmenters:study_limited_data",
        "what a few labelled crops are worth",
    ),
    "study ablation": ("StudyAblation", "commands.study.generators:study_ablation", "parts of the image generator"),
    "study versatility": (
        "StudyVersatility",
        "commands.study.generators:study_versatility",
        "a generator for each of several data sets",
    ),
    "study extrapolation": (
        "StudyExtrapolation",
        "commands.study.generators:study_extrapolation",
        "denser cells than the generator has seen",
    ),
    "study movie": ("StudyMovie", "commands.study.movies:study_movie", "movies of tGAN and vid2vid: Table 1, Fig. 3-5"),
    "study tracking": (
        "StudyTracking",
        "commands.study.trackers:study_tracking",
        "trackers on real and painted movies, and trained on them",
    ),
    "import": ("ImportCheckpoint", "commands.import_checkpoint:import_checkpoint", "a published checkpoint to a run"),
    "import movie": ("ImportMovie", "commands.import_movie:import_movie", "a stack of frames to a movie folder"),
    "import tracks": (
        "ImportTracks",
        "commands.import_tracks:import_tracks",
        "tracks of TrackMate, GEFF or napari to a movie folder",
    ),
    "export": ("Export", "commands.export:export", "tracks and features of cells to formats of other tools"),
}

USAGE = "usage: cytoforge COMMAND ... (cytoforge COMMAND --help tells the rest)"


def overview() -> str:
    """Return the text of `cytoforge --help`: one line per command that works."""
    width = max(map(len, COMMANDS))
    lines = [USAGE, "", "From a few annotated microscopy images to a cell segmenter.", ""]
    lines += [f"  {words:<{width}}  {line}" for words, (_, _, line) in COMMANDS.items()]
    return "\n".join(lines)


def find_command(arguments: Sequence[str]) -> tuple[str, list[str]] | None:
    """Split the command line into the words of a command and the rest, or return None when there is no such command."""
    for count in (2, 1):
        words = " ".join(arguments[:count])
        if len(arguments) >= count and words in COMMANDS:
            return words, list(arguments[count:])
    return None


def _unknown(arguments: Sequence[str]) -> str:
    asked = arguments[0]
    family = [words for words in COMMANDS if words.split()[0] == asked]
    if family:
        return f"cytoforge {asked} needs a second word: {', '.join(words.split()[1] for words in family)}"
    return f"there is no command {asked!r}; there are {', '.join(COMMANDS)}"


def _parse(words: str, rest: list[str]) -> object:
    import tyro

    from cytoforge import config

    kind = getattr(config, COMMANDS[words][0])
    settings = tyro.cli(kind, args=rest, prog=f"cytoforge {words}", description=inspect.cleandoc(kind.__doc__))
    config.check_places(settings)
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit status.

    0 done, 1 done with findings, 2 user's mistake, 130 interrupted, 141 nobody reads what is printed any more.
    """
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # as with `cytoforge score ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python itself writes what is left at its end
        return 141
    return status


def _run(given: list[str]) -> int:
    if not given or given[0] in {"-h", "--help"}:
        print(overview())
        return 0 if given else 2
    if given == ["--version"]:
        from importlib.metadata import version

        print(version("cytoforge"))
        return 0
    found = find_command(given)
    if found is None:
        print(f"cytoforge: {_unknown(given)}", file=sys.stderr)
        return 2
    from cytoforge.errors import Interrupted, UserError

    words, rest = found
    debug = bool(os.environ.get("CYTOFORGE_DEBUG"))
    try:
        settings = _parse(words, rest)
        module, function = COMMANDS[words][1].split(":")
        status = getattr(importlib.import_module(f"cytoforge.{module}"), function)(settings)
    except UserError as error:
        if debug:
            raise
        print(f"cytoforge: {error}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"cytoforge: {str(error) or 'interrupted; what is done is kept'}", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
