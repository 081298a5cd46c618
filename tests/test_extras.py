"""cytoforge works without its extras, and what needs one that is absent names it in a sentence."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cytoforge.cli import main
from cytoforge.errors import UserError
from cytoforge.extras import EXTRAS, lacking, require

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def brought(wanted: Iterable[str]) -> set[str]:
    """The distributions that requirements bring, with all that these require themselves."""
    found: set[tuple[str, str]] = set()
    todo = [Requirement(each) for each in wanted]
    while todo:
        each = todo.pop()
        for extra in ("", *each.extras):
            key = (canonicalize_name(each.name), extra)
            if key in found or (each.marker and not each.marker.evaluate({"extra": ""})):
                continue
            found.add(key)
            inner = [Requirement(text) for text in requires(each.name) or ()]
            todo += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def absent() -> list[str]:
    """Packages that are installed here, and not where only cytoforge without extras is."""
    core = {"cytoforge", "pip", *brought(PROJECT["dependencies"])}
    here = packages_distributions().items()
    return sorted(name for name, owners in here if not core & {canonicalize_name(owner) for owner in owners})


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in EXTRAS:
        monkeypatch.setitem(sys.modules, package, None)


def test_the_table_of_extras_is_that_of_the_project() -> None:
    declared = {
        canonicalize_name(Requirement(package).name): extra
        for extra, packages in PROJECT["optional-dependencies"].items()
        for package in packages
        if extra != "all"
    }
    assert declared == {canonicalize_name(package): extra for package, extra in EXTRAS.items()}
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(everything).extras == set(EXTRAS.values())


def test_the_container_copies_what_a_build_reads() -> None:
    """Of the files that pyproject.toml names, all are copied; what it installs are extras that there are."""
    said = (ROOT / "Containerfile").read_text()
    copied = {file for line in re.findall(r"^COPY (.*) \S+$", said, re.MULTILINE) for file in line.split()}
    assert {"pyproject.toml", "constraints.txt", "src", PROJECT["readme"], *PROJECT["license-files"]} == copied
    assert all((ROOT / file).exists() for file in copied)
    (extras,) = re.findall(r'"\.\[(.*)\]"', said)
    assert set(extras.split(",")) <= set(EXTRAS.values())


@pytest.mark.slow
def test_the_core_works_where_nothing_else_is_installed(tmp_path: Path) -> None:
    """The commands of tests/core.py, in a process that cannot import anything that only extras and tests need."""
    hidden = absent()
    assert {"pytest", "monai", "pandas", "av", "laptrack", "onnx", "starlette"} <= set(hidden)
    assert not {"torch", "zarr", "numpy", "cytoforge"} & set(hidden)
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({hidden!r}))\n"
        f"sys.argv = ['core', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(ROOT / 'tests' / 'core.py')!r}, run_name='__main__')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]
    assert "painted: 1 image painted on 1 mask" in ran.stdout


def test_only_packages_that_the_project_names_are_imported() -> None:
    named = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    named |= set(map(canonicalize_name, EXTRAS))
    named |= {"pydantic-core", "geff-spec", "dask"}  # parts of pydantic, geff and distributed
    named |= {"onnxruntime", "napari"}  # of the script beside a model; where the plugin is used, it is there
    owners = packages_distributions()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"cytoforge"}:
                assert {canonicalize_name(owner) for owner in owners.get(name, [name])} & named, f"{path}: {name}"


@pytest.mark.parametrize(
    ("line", "what", "package", "otherwise"),
    [
        ("import movie film.mp4 --out out", "film.mp4", "av", ", or export the film as a TIFF stack"),
        ("segment base cells.nd2 --out out", "cells.nd2", "bioio", ", or export the file as TIFF (in Fiji: "),
        ("track laptrack movie --out out", "laptrack", "laptrack", ", or take overlap"),
        ("track btrack movie --out out", "btrack", "btrack", ", or take overlap"),
        (
            "export movie --format geff --sequence 01 --out out",
            "--format geff",
            "geff",
            ", or take trackmate or napari",
        ),
        ("import tracks graph --masks movie --sequence 01 --out out", "graph", "geff", ", or give TrackMate's .xml"),
        ("studio cells", "the studio", "starlette", ""),
        ("export-model base --format onnx --out out", "ONNX", "onnx", ", or take torchscript"),
        ("export-model base --format bioimageio --out out", "ONNX", "onnx", ", or take torchscript"),
    ],
)
@pytest.mark.usefixtures("lean")
def test_an_absent_extra_is_named(
    line: str,
    what: str,
    package: str,
    otherwise: str,
    tiny_movie: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_movie.rename(tmp_path / "movie")
    for file in ("film.mp4", "cells.nd2"):
        Path(file).write_bytes(b"x" * 100)
    for folder in ("graph", "cells"):
        Path(folder).mkdir()
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    sentence = f'{what}: needs the package {package}; run pip install "cytoforge[{EXTRAS[package]}]"{otherwise}'
    assert sentence in said and said.count("\n") == 1
    assert not Path("out").exists() and not Path("cells-studio").exists()


@pytest.mark.usefixtures("lean")
def test_tracks_are_shown_without_films_where_av_is_absent(
    tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["track", "overlap", str(tiny_movie), "--sequence", "02", "--out", str(out)]) == 0
    assert (
        f'{out}: the page has no films; writing them needs the package av; run pip install "cytoforge[movies]"'
        in capsys.readouterr().err
    )
    assert "<video" not in (out / "report.html").read_text() and not (out / "02.mp4").exists()


def test_the_sentence_names_the_first_package_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("starlette", "uvicorn"):
        monkeypatch.setitem(sys.modules, package, None)
    assert lacking("onnx", "onnxscript") is None and lacking() is None
    assert lacking("onnx", "uvicorn") == 'needs the package uvicorn; run pip install "cytoforge[studio]"'
    require("anything", "onnx")
    with pytest.raises(
        UserError, match=re.escape('x: needs the package starlette; run pip install "cytoforge[studio]"')
    ):
        require("x", "starlette", "uvicorn")
    with pytest.raises(UserError, match=r", or walk$"):
        require("x", "starlette", otherwise="walk")
