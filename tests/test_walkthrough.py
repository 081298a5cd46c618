"""What the documentation says can be done, can be done: its commands and Python are run, its names and links exist."""

import doctest
import importlib
import json
import re
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import roifile
import tifffile
import torch

from cytoforge import cli
from cytoforge import settings as config
from cytoforge.cli import COMMANDS, find_command, main
from cytoforge.data.images import write_image, write_labels
from cytoforge.networks.segmentation import UNet
from cytoforge.simulation.phantom import phantom

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cytoforge"
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")), *sorted(ROOT.glob("docs/*.md"))]
GENERATED = {"results.md"}  # names flags of the benchmarks

# All that is done otherwise than written, so that a training takes a second instead of ten minutes.
SUBSTITUTIONS = {
    "--minutes 10": "--preset tiny --steps 2 --threads 1",
    "--minutes 5": "--preset tiny --minutes 0.005 --threads 1",  # studies know no steps
    "minutes=10": 'preset="tiny", steps=2, threads=1',
}
# A block is left out only under a comment <!-- not run: REASON --> with one of these reasons.
REASONS = {
    "make",
    "network",
    "takes minutes",
    "takes hours",
    "pretrained weights",
    "several processes",
    "napari",
    "stays open",
}
RUNNABLE = {"console", "python"}
SHOWN = {"text", "json", "{toctree}", "{eval-rst}"}

FENCE = re.compile(r"(?:^<!-- not run: ([^>]*) -->\n+)?^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
NAME = re.compile(r"`((?:[a-z_]+\.)+\w+)\(\)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: language, content, line of the page, and why it is not run."""

    language: str
    content: str
    line: int
    reason: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(found[2], found[3], text.count("\n", 0, found.start(3)) + 1, found[1]) for found in FENCE.finditer(text)
    ]


def substituted(text: str) -> str:
    for written, run in SUBSTITUTIONS.items():
        text = text.replace(written, run)
    return text


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Commands with the output shown for each. Without prompts ($) every line is a command and no output is shown."""
    if not re.search(r"^\$ ", block, re.MULTILINE):
        yield from ((line, "") for line in block.splitlines() if line.strip())
        return
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield line, shown


def run_command(line: str, shown: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run one command; where an error is shown it must end with status 2 and that sentence, else with success."""
    words = shlex.split(substituted(line))
    assert words[0] == "cytoforge", f"{where}: {line!r} is no command of cytoforge"
    capsys.readouterr()
    status = main(words[1:])
    printed = capsys.readouterr()
    fails = shown.startswith("cytoforge: ")
    assert status == (2 if fails else 0), f"{where}: {line}: status {status}\n{printed.err}"
    got = printed.err if fails else printed.out
    same = doctest.OutputChecker().check_output(shown, got, doctest.ELLIPSIS)
    assert same or not shown, f"{where}: {line} printed\n{got}\nand not\n{shown}"


def lay_out(folder: Path) -> None:
    """Write what the pages take for granted: folders of annotated images, stacks of a movie, a published checkpoint."""
    for name, seeds in {"my-cells": range(4), "new-cells": range(100, 102)}.items():
        for seed in seeds:
            image, labels = phantom(seed, (96, 96), 10)
            write_image(folder / name / "images" / f"dish{seed}.png", image[None])
            write_labels(folder / name / "masks" / f"dish{seed}.png", labels)
    image, labels = phantom(7, (96, 96), 10)
    for name, still in {"frames": image, "tracked": labels.astype(np.uint16)}.items():
        moving = np.stack([np.roll(still, t, axis=1) for t in range(4)])
        tifffile.imwrite(folder / f"{name}.tif", moving, photometric="minisblack", metadata={"axes": "TYX"})
    torch.save(UNet(width=4, depth=2).state_dict(), folder / "Seg.pth")
    lay_out_foreign(folder)


def lay_out_foreign(folder: Path) -> None:
    """Write what other programs would have made of the images `new-cells`: masks of Cellpose, regions of StarDist."""
    for seed in (100, 101):
        image, labels = phantom(seed, (96, 96), 10)
        write_image(folder / "cellpose-images" / f"dish{seed}.png", image[None])
        saved = {"masks": labels.astype(np.uint16), "outlines": labels * 0, "filename": f"dish{seed}.png", "flows": []}
        np.save(folder / "cellpose-images" / f"dish{seed}_seg.npy", saved, allow_pickle=True)
        write_image(folder / "stardist-images" / f"dish{seed}.tif", image[None])
        with zipfile.ZipFile(folder / "stardist-images" / f"dish{seed}_rois.zip", "w") as packed:
            for cell in range(1, labels.max() + 1):
                y, x = (round(middle) for middle in np.argwhere(labels == cell).mean(axis=0))
                rays = np.linspace(0, 2 * np.pi, 32, endpoint=False)
                corners = np.stack([x + 0.5 + 4 * np.cos(rays), y + 0.5 + 4 * np.sin(rays)], axis=1)
                region = roifile.ImagejRoi.frompoints(corners.astype(np.float32))
                packed.writestr(f"001_{cell:03d}.roi", region.tobytes())


def undescribed(folder: Path, described: str) -> set[str]:
    """Keys of the JSON files and columns of the tables under a folder that formats.md does not name."""
    keys: set[str] = set()
    for file in folder.rglob("*.json"):
        keys |= json.loads(file.read_text()).keys()
    for file in folder.rglob("metrics.csv"):
        keys |= set(file.read_text().partition("\n")[0].split(","))
    return {key for key in keys if f"`{key}`" not in described}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_page_says_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if any(block.language in RUNNABLE for block in blocks(page)):
        lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CYTOFORGE_WEIGHTS", raising=False)
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.reason is not None:
            assert block.reason in REASONS, f"{where}: {block.reason!r} is no reason to leave a block out"
        elif block.language == "python":
            exec(compile(substituted(block.content), where, "exec"), namespace)
        elif block.language == "console":
            for line, shown in commands(block.content):
                run_command(line, shown, where, capsys)
        else:
            assert block.language in SHOWN, f"{where}: a block of {block.language!r} is neither run nor marked"
    assert undescribed(tmp_path, (ROOT / "docs" / "formats.md").read_text()) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert broken == []


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("benchmarks/**/*.md"))], ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: page.name)
def test_flags_and_functions_exist(page: Path) -> None:
    text = FENCE.sub(own_lines, page.read_text())
    kinds = [getattr(config, kind) for kind, _, _ in COMMANDS.values()]
    known = {flag(kind, entry.name) for kind in kinds for entry in fields(kind)}
    known |= {f"no-{flag(kind, entry.name)}" for kind in kinds for entry in fields(kind) if entry.type is bool}
    foreign = {"help", "help-all", "extra-index-url", "userns"}
    assert set(FLAG.findall(text)) - known - foreign == set()
    assert [name for name in NAME.findall(text) if not resolves(name)] == []


def test_commands_of_the_tables_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "check_places", lambda settings: None)
    found = re.findall(r"`cytoforge ([^`]+)`", (ROOT / "docs" / "papers.md").read_text())
    assert len(found) > 30
    for line in found:
        command = find_command(shlex.split(line))
        assert command is not None, f"cytoforge {line}: is no command"
        assert cli._parse(*command), line


def own_lines(block: re.Match[str]) -> str:
    """A block, and of one that other programs start or need a network the lines of cytoforge alone."""
    lines, foreign = block[0].splitlines(), block[1] in ("network", "several processes")
    return "\n".join(line for line in lines if not foreign or line.startswith("cytoforge "))


def flag(kind: type, field: str) -> str:
    """Return the flag of a field: its name, unless it is given another because its own is a word of Python."""
    extras = getattr(get_type_hints(kind, include_extras=True)[field], "__metadata__", ())
    named = [extra.name for extra in extras if isinstance(getattr(extra, "name", None), str)]
    return named[0] if named else field.replace("_", "-")


def resolves(name: str) -> bool:
    """Tell whether a dotted name, such as data.images.read_image, exists in the package."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = PACKAGE.joinpath(*parts[:cut])
        if module.with_suffix(".py").is_file():
            found: object = importlib.import_module(".".join(["cytoforge", *parts[:cut]]))
            for part in parts[cut:]:
                found = getattr(found, part, None)
            return found is not None
    return False


def test_the_python_interface_names_modules_that_exist() -> None:
    named = re.findall(r"automodule:: (\S+)", (ROOT / "docs" / "api.md").read_text())
    assert named and len(named) == len(set(named))
    paths = [PACKAGE.parent.joinpath(*name.split(".")) for name in named]
    assert [path for path in paths if not (path.with_suffix(".py").is_file() or path.is_dir())] == []


def test_the_map_names_every_file_and_no_other() -> None:
    map_ = (ROOT / "docs" / "architecture.md").read_text().partition("## Packages")[2].partition("## One image")[0]
    rows = re.findall(r"^\| `([a-z_/]+)/` \| [^|?]+ \| ([^|]*) \|$", map_, re.MULTILINE)
    named = [
        f"{package}/{file}.py" if package != "cytoforge" else f"{file}.py"
        for package, files in rows
        for file in re.findall(r"`(\w+)`", files)
    ]
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert len(named) == len(set(named)) and set(named) == files


def test_blocks_are_found_and_cannot_hide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n\n<!-- not run: make -->\n```console\nmake\n```\n\n```python\nx = 1\n```\n\n```sh\nls\n```\n")
    assert [(b.language, b.content, b.line, b.reason) for b in blocks(page)] == [
        ("console", "make\n", 5, "make"),
        ("python", "x = 1\n", 9, None),
        ("sh", "ls\n", 13, None),
    ]
    assert list(commands("a b\nc\n")) == [("a b", ""), ("c", "")]
    assert list(commands("$ a b\nout\n$ c\n")) == [("a b", "out\n"), ("c", "")]
    run_command("cytoforge nonsense", "cytoforge: there is no command 'nonsense'; there are ...\n", "here", capsys)
    with pytest.raises(AssertionError, match="status 2"):
        run_command("cytoforge nonsense", "", "here", capsys)
    with pytest.raises(AssertionError, match=r"and not\s+another"):
        run_command("cytoforge --version", "another\n", "here", capsys)
    with pytest.raises(AssertionError, match="no command of cytoforge"):
        run_command("rm file", "", "here", capsys)
    assert resolves("data.images.read_image") and resolves("training.loop.Trainer.update")
    assert not resolves("data.images.read_imago") and not resolves("nowhere.at_all")


def test_keys_without_a_description_are_found(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"known": 1, "unknown": 2}')
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n")
    assert undescribed(tmp_path, "`known` and `step`") == {"unknown", "loss"}
