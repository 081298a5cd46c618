import ast
import contextlib
import errno
import gc
import importlib
import itertools
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from pydantic.fields import FieldInfo

from cytoforge import cli
from cytoforge import settings as config
from cytoforge.data.files import write_json
from cytoforge.errors import UserError
from cytoforge.settings.base import BASIC, RARE, _declared


def test_every_command_of_the_table_exists() -> None:
    for kind, function, line in cli.COMMANDS.values():
        assert hasattr(config, kind)
        module, name = function.split(":")
        assert callable(getattr(importlib.import_module(f"cytoforge.{module}"), name))
        assert line and not line.endswith(".")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {words} " in shown for words in cli.COMMANDS)


@pytest.mark.parametrize("words", cli.COMMANDS)
def test_help_of_a_command_documents_every_flag(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([*words.split(), "--help-all"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    usage = shown.partition("\n\n")[0]
    for entry in fields(getattr(config, cli.COMMANDS[words][0])):
        flag = "--" + entry.name.replace("_", "-")
        assert flag in shown or re.search(rf" {entry.name.upper()}\b", usage), flag


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("trian segmentation x", "there is no command 'trian'; perhaps cytoforge train segmentation is meant"),
        ("train segmentatoin x", "perhaps cytoforge train segmentation is meant"),
        ("score a b", "cytoforge score needs a second word: segmentation, generation, movie, tracking\n"),
        ("score trackin b", "movie, tracking; perhaps cytoforge score tracking is meant"),
        (
            "import datset x --out y",
            "datset: there is no such file, and no such second word of cytoforge import",
        ),
        ("segmnt run images", "there is no command 'segmnt'; perhaps cytoforge segment is meant"),
        ("help scroe", "there is no command 'scroe'; perhaps cytoforge score is meant"),
        ("frobnicate", "there is no command 'frobnicate'; there are demo, studio, check, train,"),
        ("train", "cytoforge train needs a second word: segmentation"),
        ("train segmentation x --out y --minutes -1", "--minutes -1: must be above 0, such as 10"),
        ("generate images r m --out y --keep 50", "--keep 50: must be above 0 and at most 1, such as 0.75"),
        ("train generator x --out y --fold 3", "--fold 3: must be written like 2/5 for the second of five"),
        ("study extrapolation x --out y --densities 0.1 7", "--densities 7: must be at least 0 and at most 1, such as"),
        ("study training x --out y --networks", "--networks: name at least one"),
        ("segment r i --out y --tile 8", "--tile 8: must be at least 32, such as 256"),
        ("train segmentation x --out y --steps 5 --minutes 1", "give one of --minutes, --steps and --epochs"),
        ("train segmentation x --out y --p-vanilla 0.5", "--p-vanilla belongs to --augmentation paper"),
        ("train segmentation x --out y --warm-start", "--warm-start belongs to --method cyclegan"),
        ("train generator x --out y --epochs 5 --minutes 1", "give one of --minutes, --steps and --epochs"),
        ("train generator x --out y --epochs 0", "--epochs 0: must be at least 1"),
        ("train generator x --out y --patience 5 --until-converged", "give --patience or --until-converged, not both"),
        ("train segmentation x --out y --resize 512", "--resize 512: must be written like 512x768"),
        ("train segmentation x --out y --resize 0x768", "--resize 0x768: must be written like 512x768"),
        ("train generator x --out y --resize 8x8 --scale 2", "give --scale or --resize, not both"),
        (
            "train segmentation x --out y --recipe cgan-seg --resize 512x768 --scale 2",
            "give --scale or --resize, not both",
        ),
        (
            "train segmentation x --out y --recipe cgan-seg --epochs 2500 --minutes 9",
            "give one of --minutes, --steps and --epochs",
        ),
        ("train segmentation x --out y --p-vanilla 2", "--p-vanilla 2: must be at least 0 and at most 1"),
        ("train segmentation x --out y --unlabelled z", "--unlabelled belongs to --method cyclegan or mean-teacher"),
        (
            "train segmentation x --out y --unlabelled z --method two-stage",
            "--unlabelled belongs to --method cyclegan or mean-teacher",
        ),
        ("train segmentation x --out y --method mean-teacher", "--method mean-teacher needs --unlabelled IMAGES"),
        (
            "train segmentation x --out y --method mean-teacher --unlabelled z --with w",
            "--with belongs to --method conventional, not mean-teacher",
        ),
        (
            "train segmentation x --out y --method mean-teacher --unlabelled z --condition mask",
            "--condition belongs to --method cyclegan or two-stage",
        ),
        ("train segmentation x --out y --generator unet", "--generator belongs to --method cyclegan"),
        ("study dense x --out y --epochs 2 --steps 3", "give --epochs or --steps, not both"),
        ("study dense x --out y --resize 48x64 --scale 2", "give --scale or --resize, not both"),
        ("study dense x --out y --protocol", "--protocol: name at least one"),
        ("study dense x --out y --protocol paper paper", "--protocol: paper is named twice; name each once"),
        ("train segmentation x --out y --fold 6/5", "--fold 6/5 names no part"),
        ("train segmentation x --out y --fold 1/2 --validation z", "give --fold or --validation, not both"),
        ("train segmentation no/such/folder --out y", "no/such/folder"),
        ("segment no/run images --out y", "no/run"),
        ("score segmentation no/prediction no/truth", "no/prediction"),
        ("check no/data", "no/data"),
        ("train tracker x --out y --scale 2", "--scale: is no option of cytoforge train tracker"),
        ("train tracker --scale=2 x --out y", "--scale: is no option of cytoforge train tracker"),
        ("segment --tilee 5", "--tilee: is no option of cytoforge segment; perhaps --tile is meant"),
        ("train movie x --out y --limit 5", "--limit: is no option of cytoforge train movie"),
        (
            "segment r i --out y --overwite",
            "--overwite: is no option of cytoforge segment; perhaps --overwrite is meant",
        ),
        ("segment r i j --out y", "j: is one argument too many for cytoforge segment"),
        ("import no.pth --network unet --out y", "no.pth"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["train", "study", "simulate", "generate", "score", "weights"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_family_lists_its_commands(family: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([family, flag]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert said.err == "" and lines[0] == cli.USAGE
    expected = {words: line for words, (_, _, line) in cli.COMMANDS.items() if words.startswith(f"{family} ")}
    assert {tuple(re.split("  +", line.strip())) for line in lines[1:] if line} == set(expected.items())
    assert len(expected) > 1


@pytest.mark.parametrize("line", ["help train", "help train segmentation", "help", "help import"])
def test_help_as_a_word_says_what_the_flag_says(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for arguments in (line.split(), [*line.split()[1:], "--help"]):
        with contextlib.suppress(SystemExit):
            assert cli.main(arguments) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].startswith("usage: cytoforge ")


def test_help_as_a_second_word_lists_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "help"]) == 0
    assert capsys.readouterr().out == f"{cli.overview('train')}\n"


def test_help_shows_the_flags_that_most_need_and_tells_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "segmentation", "--help"])
    shown = capsys.readouterr().out
    flags = set(re.findall(r"^\W (--[a-z][a-z-]+)", shown, re.MULTILINE))
    assert stop.value.code == 0 and " DATA " in shown
    assert flags == {f"--{name}" for name in BASIC - {"data"}}
    hidden = len(fields(config.TrainSegmentation)) - len(BASIC)
    assert f"{hidden} more options: cytoforge train segmentation --help-all" in shown


@pytest.mark.parametrize(
    ("words", "first", "rest"),
    [
        ("segment", "--out", "6 more options"),
        ("track", "--out", "3 more options"),
        ("suggest", "--out", "1 more option:"),
    ],
)
def test_help_of_a_smaller_command_begins_with_its_own_flags_and_leaves_the_rare_ones_to_help_all(
    words: str, first: str, rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([words, "--help"])
    shown = capsys.readouterr().out
    flags = re.findall(r"^\W (--[a-z][a-z-]+)", shown, re.MULTILINE)
    assert flags[0] == first and "--channel" in flags and not {f"--{name}" for name in RARE} & set(flags)
    assert f"{rest}" in shown


def test_every_family_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for family in cli.FAMILIES:
        with contextlib.suppress(SystemExit):
            assert cli.main([family, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(f"  {words} " in shown for words in cli.COMMANDS if words.split()[0] == family)
    assert {"train", "study", "simulate", "generate", "score", "weights", "import"} <= cli.FAMILIES


def test_help_of_import_names_the_other_imports(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["import", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "--network" in said
    assert all(words in said for words in cli.COMMANDS if words.startswith("import "))


def test_help_of_a_recipe_shows_its_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    def defaults(*words: str) -> dict[str, str]:
        with pytest.raises(SystemExit):
            cli.main(["train", "segmentation", *words, "--help-all"])
        shown = " ".join(re.sub("[│─]", " ", capsys.readouterr().out).split())
        found = {
            name: re.search(rf"--{name} [{{A-Z](?:(?! --[a-z-]+(?:,| [{{A-Z])).)*?\(default: ([^)]*)\)", shown)
            for name in names
        }
        return {name: match[1] for name, match in found.items() if match}

    names = ("recipe", "method", "preset", "target", "augmentation", "resize", "epochs", "patience", "network")
    assert (
        defaults("--recipe", "cgan-seg")
        == defaults("--recipe=cgan-seg")
        == {
            "recipe": "cgan-seg",
            "method": "cyclegan",
            "preset": "paper",
            "target": "semantic",
            "augmentation": "paper",
            "resize": "512x768",
            "epochs": "2500",
            "patience": "4",
            "network": "unet",
        }
    )
    instead = defaults("--recipe", "cgan-seg", "--scale=1", "--minutes", "10", "--until-converged")
    assert instead["preset"] == "paper" and not {"resize", "epochs", "patience"} & instead.keys()
    own = defaults()
    assert (own["recipe"], own["method"], own["preset"]) == ("own", "conventional", "small") and "resize" not in own


def test_help_shows_the_type_of_an_optional_value(capsys: pytest.CaptureFixture[str]) -> None:
    for words in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([*words.split(), "--help-all"])
        shown = capsys.readouterr().out
        assert "{None}" not in shown and "default: None" not in shown, words
        if words == "train segmentation":
            shown = " ".join(re.sub("[│─]", " ", shown).split())
            for flag in ("--steps INT", "--minutes FLOAT", "--validation PATH", "--fold STR", "--with PATH"):
                assert f" {flag} " in shown
            assert "--condition {mask,instances} what" in shown and "--resize STR" in shown


def test_every_flag_is_known_in_all_its_forms(capsys: pytest.CaptureFixture[str]) -> None:
    for words, (kind, _, _) in cli.COMMANDS.items():
        known = config.flags(getattr(config, kind))
        with pytest.raises(SystemExit):
            cli.main([*words.split(), "--help"])
        options = capsys.readouterr().out.partition("options")[2]
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", options)) <= {*known, "--out"}, words
        assert len(known) == len(set(known))
    assert {"--with", "--no-attention", "--test-share"} <= {
        *config.flags(config.TrainSegmentation),
        *config.flags(config.StudyDense),
    }
    assert "--data" not in config.flags(config.TrainSegmentation)


def test_configurations_name_all_their_problems_at_once() -> None:
    with pytest.raises(UserError, match=r"--seed -1.*; --limit 0"):
        config.TrainSegmentation(data=Path("x"), out=Path("y"), seed=-1, limit=0)


def test_configurations_are_frozen() -> None:
    settings = config.Check(data=Path("x"))
    with pytest.raises(AttributeError):
        settings.data = Path("y")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train generator nowhere --out y", "nowhere: does not exist; check the name"),
        ("train segmentation data --out y --with nowhere", "nowhere: does not exist; check the name"),
        ("train segmentation data --out y --start data", "data: is no run folder (config.json is missing); give"),
        ("train segmentation data --out trained", "trained: holds results already; choose another folder or give --ov"),
        ("generate images nowhere data --out y", "nowhere: is no run folder (config.json is missing); give the folder"),
        ("generate images trained data --out painted", "painted: holds results already; choose another folder or give"),
        ("study versatility data nowhere --out y", "nowhere: does not exist"),
        ("score generation data nowhere", "nowhere: does not exist; check the name"),
        ("score segmentation data data --json data/scores.json", "scores.json: exists already; choose another --json"),
    ],
)
def test_a_wrong_place_is_said_before_anything_is_loaded(
    line: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (
        ("data/scores.json", {}),
        ("trained/config.json", {}),
        ("trained/provenance.json", {"finished": "yesterday"}),
        ("painted/dataset.json", {"complete": True}),
        ("damaged/dataset.json", []),
    ):
        write_json(tmp_path / name, content)
    monkeypatch.chdir(tmp_path)

    def refuse(module: str) -> None:
        raise AssertionError(f"{module} is loaded")

    monkeypatch.setattr("importlib.import_module", refuse)
    assert cli.main(line.split()) == 2
    assert sentence in capsys.readouterr().err
    monkeypatch.setenv("CYTOFORGE_DEBUG", "1")  # a fault is raised
    if "results already" in sentence or "exists already" in sentence:
        with pytest.raises(AssertionError, match="is loaded"):
            cli.main([*line.split(), "--overwrite"])
    with pytest.raises(AssertionError, match="is loaded"):
        cli.main(["generate", "images", "trained", "data", "--out", "damaged"])


def test_an_interrupt_says_something(
    tiny_dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cytoforge.commands.check.check_command", interrupted)
    assert cli.main(["check", str(tiny_dataset)]) == 130
    assert capsys.readouterr().err == "cytoforge: interrupted; what is done is kept\n"


def raised(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command whose function raises; return the exit status."""

    def fail(settings: object) -> None:
        raise error

    monkeypatch.setattr("cytoforge.commands.check.check_command", fail)
    return cli.main(line.split())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), "a.png: may not be read or written by this user"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.png"), "a.png: does not exist; check the name"),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
            "a/b: cannot be there, as a part of its path",
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "a"),
            "a: is a folder where a file is expected; give",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "aaa"),
            "aaa: has a name that is too long for this disk; give",
        ),
        (OSError(errno.ELOOP, "Too many levels", "a"), "a: is a link that leads back to itself; mend the link"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: the disk failed; check the disk"),
        (OSError(errno.ENOSPC, "No space left", "a"), "a: the disk is full; make room"),
        (
            OSError(errno.EMFILE, "Too many open files", "a"),
            "a: too many files are open at once; raise the limit",
        ),
        (OSError(errno.EXDEV, "Cross-device link", "a", None, "b"), "a and b: Cross-device link; check the disk"),
        (OSError("strange"), "strange; check the disk and the path"),
        (MemoryError(), "there is not enough memory; close other programs, or give smaller images"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "there is not enough mem",
        ),
        (RecursionError("maximum recursion depth exceeded"), "what is read is nested too deeply; mend the file"),
        (
            UnicodeEncodeError("charmap", "zelle\u03b1", 5, 6, "no"),
            "'\\u03b1' cannot be written in charmap; set",
        ),
        (ValueError("embedded null byte"), "a path holds a null character, which no file name can; mend it"),
    ],
)
def test_what_the_system_refuses_is_one_sentence_and_status_2(
    error: Exception,
    sentence: str,
    tiny_dataset: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert raised(error, f"check {tiny_dataset}", monkeypatch) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"cytoforge: {sentence}") and said.err.count("\n") == 1 and said.out == ""
    monkeypatch.setenv("CYTOFORGE_DEBUG", "1")
    with pytest.raises(type(error)):
        raised(error, f"check {tiny_dataset}", monkeypatch)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("train segmentation DATA --out o --resize 20000x20000", "a smaller --resize or --preset"),
        ("train segmentation DATA --out o --recipe cgan-seg", "a smaller --resize or --preset"),
        ("train segmentation DATA --out o", "smaller images, or a smaller --preset"),
        ("train tracker DATA --out o", "smaller images, or a smaller --preset"),
        ("segment RUN DATA --out o", "smaller images, or a smaller --tile"),
        ("check DATA", "smaller images"),
    ],
)
def test_where_memory_is_short_flags_of_the_command_are_named(
    line: str,
    remedy: str,
    tiny_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(settings: object) -> None:
        raise MemoryError

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    words = [{"DATA": str(tiny_dataset), "RUN": str(tmp_path)}.get(word, word) for word in line.split()]
    module, function = cli.COMMANDS[" ".join(words[:2]) if words[0] == "train" else words[0]][1].split(":")
    monkeypatch.setattr(f"cytoforge.{module}.{function}", fail)
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said == f"cytoforge: there is not enough memory; close other programs, or give {remedy}\n"


@pytest.mark.parametrize("error", [ValueError("a\nb"), KeyError("tile"), RuntimeError("x" * 900), OverflowError("z")])
def test_a_fault_of_the_program_is_told_from_a_mistake(
    error: Exception, tiny_dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert raised(error, f"check {tiny_dataset}", monkeypatch) == 70
    said = capsys.readouterr().err
    assert f"this is a fault of cytoforge itself ({type(error).__name__}: " in said
    assert "what is done is kept; please report it" in said and "CYTOFORGE_DEBUG=1" in said
    assert said.count("\n") == 1 and len(said) < 500
    monkeypatch.setenv("CYTOFORGE_DEBUG", "1")
    with pytest.raises(type(error)):
        raised(error, f"check {tiny_dataset}", monkeypatch)


@pytest.mark.parametrize(
    "line",
    [
        "check LONG",
        "segment LONG DATA --out o",
        "segment RUN LONG --out o",
        "train segmentation DATA --out LONG --steps 1",
        "import LONG --network unet --out o",
        "import movie LONG --out o",
        "import tracks LONG --masks DATA --out o",
        "score segmentation DATA DATA --json LONG",
    ],
)
def test_names_that_are_too_long(
    line: str, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "run" / "config.json", {})
    line = line.replace("LONG", "b" * 300).replace("DATA", str(tiny_dataset)).replace("RUN", "run")
    assert cli.main(line.split()) == 2
    said = capsys.readouterr().err
    assert re.search(
        r"b{300}\S*: (has a name that is too long for this disk; |cannot be written \(File name too long)", said
    )
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["check", ""], "check: an argument is empty; give a name"),
        (["segment", "r", "i", "--out", ""], "--out: an argument is empty; give a name"),
        (["segment", "r", "i", "--out="], "--out: an argument is empty; give a name"),
    ],
)
def test_nothing_is_no_path(given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(given) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_output(tiny_dataset: Path) -> None:
    command = [sys.executable, "-m", "cytoforge", "check", str(tiny_dataset)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("the disk is full; make room or write to another disk")


def test_nobody_reads_on(tiny_dataset: Path) -> None:
    read, write = os.pipe()
    os.close(read)  # as `head` does once it has its lines
    with os.fdopen(write, "w") as closed:
        for line in ([], ["check", str(tiny_dataset)]):
            command = [sys.executable, "-m", "cytoforge", *line]
            done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
            assert done.returncode == 141 and b"Traceback" not in done.stderr and b"ignored" not in done.stderr


def test_every_pattern_has_an_example_that_fits_it() -> None:
    for kind, _, _ in cli.COMMANDS.values():
        for name, hint in get_type_hints(getattr(config, kind), include_extras=True).items():
            for declared in _declared(hint, FieldInfo):
                for pattern in (limit.pattern for limit in declared.metadata if getattr(limit, "pattern", None)):
                    assert declared.examples, f"{kind}.{name}"
                    assert re.match(pattern, re.split("[, ]", declared.examples[0])[0])


def test_every_field_is_told_in_one_line() -> None:
    """A line that is broken in the source is broken in --help, too, wherever that may be."""
    for source in Path(config.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            for field, told in itertools.pairwise(node.body if isinstance(node, ast.ClassDef) else []):
                if isinstance(field, ast.AnnAssign) and isinstance(told, ast.Expr):
                    assert "\n" not in ast.literal_eval(told.value), f"{source.name}, line {told.lineno}"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "utf-8:surrogateescape"])
def test_any_console_shows_any_name(encoding: str, tiny_dataset: Path) -> None:
    for name in ("\u03b6\u7d30\U0001f9eb", os.fsdecode(b"caf\xe9")):
        (tiny_dataset / "images" / f"{name}.png").write_bytes((tiny_dataset / "images" / "cell_0.png").read_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "cytoforge", "check", str(tiny_dataset)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert b"caf\\udce9.png: has no mask" in done.stdout
    shown = "\u03b6\u7d30\U0001f9eb".encode(encoding.partition(":")[0], "backslashreplace")
    assert shown + b".png: has no mask" in done.stdout


@pytest.mark.parametrize(
    "words",
    [words for words in cli.COMMANDS if words not in ("cite", "demo", "studio", "weights list", "weights verify")],
)
def test_without_arguments_a_command_says_what_it_lacks(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert cli.main(words.split()) == 2
    assert "fault of cytoforge" not in capsys.readouterr().err


def test_garbage_is_collected_while_a_command_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not while the command is imported, and what is there at the end is left to the system."""
    seen: list[object] = []
    monkeypatch.setattr("sys.argv", ["cytoforge", "cite"])
    monkeypatch.setattr("atexit.register", seen.append)
    monkeypatch.setattr(cli, "_parse", lambda words, rest: seen.append(gc.isenabled()))
    monkeypatch.setattr("cytoforge.commands.cite.cite", lambda settings: seen.append(gc.isenabled()))
    try:
        assert cli.main() == 0
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen == [gc.freeze, False, True]
