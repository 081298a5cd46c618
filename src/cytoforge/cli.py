"""The command line: a table from words to (settings, function). Parses, calls, prints; imports no torch."""

import atexit
import difflib
import gc
import importlib
import inspect
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from cytoforge.errors import Interrupted, UserError, explain

COMMANDS: dict[str, tuple[str, str, str]] = {
    # words: (settings class, function, one line of help)
    "demo": ("Demo", "commands.demo:demo", "few-label training in several ways on phantom cells, scored and shown"),
    "studio": ("Studio", "commands.studio:studio", "the local page: look, correct cells, train, go on"),
    "check": ("Check", "commands.check:check_command", "lint a dataset or movie and say what to do"),
    "train segmentation": ("TrainSegmentation", "commands.train:train_segmentation", "annotated images to a segmenter"),
    "train generator": ("TrainGenerator", "commands.train:train_generator", "annotated images to an image generator"),
    "train movie": ("TrainMovie", "commands.train:train_movie", "an annotated movie to a movie generator"),
    "train tracker": ("TrainTracker", "commands.train:train_tracker", "a tracked movie to a tracker"),
    "segment": ("Segment", "commands.segment:segment", "images to masks with a trained run"),
    "measure": ("Measure", "commands.measure:measure", "images and masks to a table of cells, by group"),
    "suggest": ("Suggest", "commands.suggest:suggest", "which unlabelled images to label next, as crops to annotate"),
    "generate images": ("GenerateImages", "commands.generate:generate", "masks to images, with a trained generator"),
    "generate movie": (
        "GenerateMovie",
        "commands.generate:generate_movie",
        "masks of a movie to its frames, with a trained movie generator",
    ),
    "track": ("Track", "commands.track:track", "masks of a movie, or its frames, to tracks and lineages"),
    "score segmentation": ("ScoreSegmentation", "commands.score:score_command", "masks against true masks"),
    "simulate masks": ("SimulateMasks", "commands.simulate:simulate_masks", "label images of cells shaped like yours"),
    "simulate movie": (
        "SimulateMovie",
        "commands.simulate:simulate_movie",
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
        "commands.study:study_training",
        "few images against all, by network",
    ),
    "study dense": ("StudyDense", "commands.study:study_dense", "with and without dense synthetic images"),
    "study limited-data": (
        "StudyLimitedData",
        "commands.study:study_limited_data",
        "scores by number of labels, and label efficiency",
    ),
    "study ablation": ("StudyAblation", "commands.study:study_ablation", "parts of the image generator"),
    "study versatility": (
        "StudyVersatility",
        "commands.study:study_versatility",
        "a generator for each of several data sets",
    ),
    "study extrapolation": (
        "StudyExtrapolation",
        "commands.study:study_extrapolation",
        "denser cells than the generator has seen",
    ),
    "study movie": ("StudyMovie", "commands.study:study_movie", "movies of tGAN and vid2vid: Table 1, Fig. 3-5"),
    "study tracking": (
        "StudyTracking",
        "commands.study:study_tracking",
        "trackers on real and painted movies, and trained on them",
    ),
    "import": ("ImportCheckpoint", "commands.import_checkpoint:import_checkpoint", "a published checkpoint to a run"),
    "import dataset": (
        "ImportDataset",
        "commands.import_dataset:import_dataset",
        "annotated images of other programs to a dataset folder",
    ),
    "import movie": ("ImportMovie", "commands.import_movie:import_movie", "a stack of frames to a movie folder"),
    "import tracks": (
        "ImportTracks",
        "commands.import_tracks:import_tracks",
        "tracks of TrackMate, GEFF or napari to a movie folder",
    ),
    "weights list": (
        "WeightsList",
        "commands.weights:list_weights",
        "pretrained networks, and which are here",
    ),
    "weights fetch": (
        "WeightsFetch",
        "commands.weights:fetch_weights",
        "their published weights, from the internet",
    ),
    "weights verify": (
        "WeightsVerify",
        "commands.weights:verify_weights",
        "whether those that are here are right",
    ),
    "weights convert": (
        "WeightsConvert",
        "commands.weights:convert_weights",
        "a published file of weights to one that scores and trainings read",
    ),
    "cite": ("Cite", "commands.cite:cite", "how to cite cytoforge and the papers that it implements"),
    "export": ("Export", "commands.export:export", "cells, tracks and features to formats of other tools"),
    "export-model": (
        "ExportModel",
        "commands.export_model:export_model",
        "a trained segmenter to ONNX, TorchScript or bioimage.io",
    ),
}

FAMILIES = {words.split()[0] for words in COMMANDS if " " in words}
"""first words of several commands"""
FAULT = 70  # exit status of an internal error, EX_SOFTWARE in sysexits.h
HELP = ("-h", "--help")
HELP_ALL = "--help-all"
HELP_SETTINGS = "--help-settings"
USAGE = "usage: cytoforge COMMAND ... (cytoforge COMMAND --help tells the rest)"


def overview(family: str = "") -> str:
    """Return the text of `cytoforge --help`, or of `cytoforge FAMILY --help`: one line per command that works."""
    told = {words: line for words, (_, _, line) in COMMANDS.items() if family in ("", words.split()[0])}
    width = max(map(len, told))
    lines = [USAGE, "", *([] if family else ["From a few annotated microscopy images to a cell segmenter.", ""])]
    lines += [f"  {words:<{width}}  {line}" for words, line in told.items()]
    lines += [] if family else ["", "cytoforge --version tells the version, cytoforge cite what to cite."]
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
    told = f"there is no command {asked!r}"
    if family:
        told = f"cytoforge {asked} needs a second word: {', '.join(words.split()[1] for words in family)}"
    firsts = list(dict.fromkeys(words.split()[0] for words in COMMANDS))
    second = [word for word in arguments[1:2] if not word.startswith("-")]
    if family:
        near = [f"{asked} {word}" for word in _near_seconds(asked, second)]
    else:
        near = difflib.get_close_matches(" ".join([asked, *second]), COMMANDS, 1) if second else []
    near = near or ([] if family else difflib.get_close_matches(asked, firsts, 1))
    if near:
        return f"{told}; perhaps cytoforge {near[0]} is meant"
    return told if family else f"{told}; there are {', '.join(firsts)}; cytoforge help lists them all"


def _near_seconds(first: str, second: Sequence[str]) -> list[str]:
    """Return the second word of a family that is like the given one, if there is one of each."""
    known = [words.split()[1] for words in COMMANDS if words.startswith(f"{first} ")]
    return difflib.get_close_matches(second[0], known, 1) if second else []


def _parse(words: str, rest: list[str]) -> object:
    import tyro

    from cytoforge import settings as config

    for before, argument in zip(["", *rest], rest, strict=False):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            where = argument or (before if before.startswith("--") else "")
            raise UserError(f"{where.rstrip('=') or words}: an argument is empty; give a name (is a variable unset?)")
    given = [argument[2:].partition("=")[0].replace("-", "_") for argument in rest if argument.startswith("--")]
    kind: Any = config.of_recipe(getattr(config, COMMANDS[words][0]), _value(rest, "--recipe"), given)
    known = config.flags(kind)
    for argument in rest:  # The parser could take the next word for DATA and report an error about that instead.
        if argument.startswith("--") and (flag := argument.partition("=")[0]).replace("_", "-") not in known:
            raise UserError(f"{flag}: is no option of cytoforge {words}{_perhaps(flag, known)}; see --help")
    rest = config.completed(kind, rest)
    told, hidden = HELP_SETTINGS in rest, 0
    if HELP_ALL in rest:
        rest = ["--help"]
    elif set(rest) & set(HELP):
        kind, hidden = config.brief(kind)
    try:
        settings, surplus = tyro.cli(
            config.without_paths(kind) if told else kind,
            args=rest,
            prog=f"cytoforge {words}",
            description=inspect.cleandoc(kind.__doc__),
            return_unknown_args=True,
        )
    except SystemExit:
        if hidden:
            print(f"{hidden} more option{'s' * (hidden > 1)}: cytoforge {words} {HELP_ALL}")
        raise
    if surplus:
        raise UserError(f"{surplus[0]}: is one argument too many for cytoforge {words}; see --help")
    if not told:
        config.check_places(settings)
    return settings


def _value(arguments: Sequence[str], flag: str) -> str:
    """Return the value that is given to a flag, or "" without one."""
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, sign, value = argument.partition("=")
        if name == flag:
            return value if sign else following
    return ""


def _perhaps(flag: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(flag[2:], [other[2:] for other in known], 1)
    return f"; perhaps --{near[0]} is meant" if near else ""


def _fault(error: Exception) -> str:
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"this is a fault of cytoforge itself ({told:.200}); what is done is kept; please report it with what the same "
        "command prints after CYTOFORGE_DEBUG=1 is set"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit status.

    0: done; 1: done with findings; 2: an error of the user or the system; 70: an internal error of cytoforge;
    130: interrupted; 141: the reader of standard output has closed it.
    """
    for stream in {sys.__stdout__, sys.__stderr__} & {sys.stdout, sys.stderr}:
        if isinstance(stream, io.TextIOWrapper):  # \\u03b6 for what the console cannot show
            stream.reconfigure(errors="backslashreplace")
    if arguments is None:  # The process is this command, and keeps all that it imports: there is no garbage to find.
        gc.disable()
        atexit.register(gc.freeze)
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # This happens with `cytoforge score ... | head`.
        _drop_output()
        return 141
    except OSError as error:  # This happens when the disk is full with `cytoforge score ... > file`.
        if _debugging():
            raise
        _drop_output()
        print(f"cytoforge: what is printed cannot be written: {explain(error)}", file=sys.stderr)
        return 2
    return status


def _smaller(settings: object) -> str:
    """Say what to give to a command with these settings, so that it needs less memory."""
    resized = getattr(settings, "resize", None) is not None
    flags = ["--resize"] * resized + [f"--{name}" for name in ("tile", "preset") if hasattr(settings, name)]
    parts = ["smaller images"] * (not resized) + [f"a smaller {' or '.join(flags)}"] * bool(flags)
    return ", or ".join(parts)


def _debugging() -> bool:
    return bool(os.environ.get("CYTOFORGE_DEBUG"))


def _drop_output() -> None:
    """Redirect standard output to the null device, because Python flushes the rest of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: list[str]) -> int:
    if given[:1] == ["help"]:
        given = [*given[1:], "--help"]
    if len(given) == 2 and given[0] in FAMILIES and given[1] == "help":
        given = [given[0], "--help"]
    if not given or given[0] in HELP:
        print(overview())
        return 0 if given else 2
    if len(given) == 2 and given[1] in HELP and (family := given[0]) in FAMILIES:
        print(overview(family))
        if family not in COMMANDS:
            return 0
        print()
    if given == ["--version"]:
        from importlib.metadata import version

        print(version("cytoforge"))
        return 0
    found = find_command(given)
    if found is None:
        print(f"cytoforge: {_unknown(given)}", file=sys.stderr)
        return 2
    from cytoforge.progress import say

    words, rest = found
    second = [word for word in rest[:1] if not (word.startswith("-") or os.access(word, os.F_OK))]
    if words in FAMILIES and (near := _near_seconds(words, second)):
        lacking = f"{rest[0]}: there is no such file, and no such second word of cytoforge {words}"
        print(f"cytoforge: {lacking}; perhaps cytoforge {words} {near[0]} is meant", file=sys.stderr)
        return 2
    settings: object = None
    try:
        settings = _parse(words, rest)
        told = getattr(settings, "help_settings", False)
        module, function = ("commands.train:tell_settings" if told else COMMANDS[words][1]).split(":")
        command = getattr(importlib.import_module(f"cytoforge.{module}"), function)
        if not gc.isenabled():  # What is imported by now stays out of all collections to come.
            gc.freeze()
            gc.enable()
        status = command(settings)
    except (Interrupted, KeyboardInterrupt) as error:
        say([f"cytoforge: {str(error) or 'interrupted; what is done is kept'}"])
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if _debugging():
            raise
        sentence = str(error) if isinstance(error, UserError) else explain(error, _smaller(settings))
        say([f"cytoforge: {sentence or _fault(error)}"])
        return 2 if sentence else FAULT
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
