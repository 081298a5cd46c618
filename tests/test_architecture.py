"""Imports point down only and make no circles, science opens no file, starting up stays light."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "cytoforge"
SCIENCE = {"networks", "losses", "metrics", "simulation", "cells", "tracking"}
LAYERS: list[set[str]] = [  # from the top; a package may import from lower layers and its own
    {"cli", "__main__", "napari"},
    {"commands", "api"},
    {"studio"},
    {"studies"},
    {"training"},
    {"evaluation", "simulated"},
    {"inference"},
    {"report"},
    {"data"},
    SCIENCE,
    {"settings"},
    {"progress", "places", "processors", "extras", "engine"},
    {"errors"},
]
LEAVES = set().union(*LAYERS[LAYERS.index(SCIENCE) + 1 :])
SEE_SETTINGS = {"cli", "commands", "settings"}  # packages that may import the settings of a command line
TRAINING: dict[str, set[str]] = {  # package: those of training that it may import from, besides itself
    "tasks": {"recipes", "samplers", "loop", "data", "hyperparameters", "specification", "course"},
    "loop": {"recipes", "samplers", "specification", "course"},
    "recipes": {"samplers", "hyperparameters"},
    "data": {"samplers", "specification"},
    "samplers": set(),
    "hyperparameters": set(),
    "specification": set(),
    "course": set(),
}
FILE_OPENERS = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "imread", "imwrite", "load_file"}
WALL_CLOCKS = {"time", "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    """Full name of a module; of a package that of its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str) -> set[str]:
    """Full names that a module imports, relative ones resolved, deferred ones included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [base])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def packages_imported(source: str, module: str) -> set[str]:
    return {name.split(".")[1] for name in imports(source, module) if name.startswith("cytoforge.")}


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def departures(source: str, module: str) -> set[str]:
    """Rooms that a module may not import: those above it; science must know none of the leaves below it either."""
    here = module.split(".")[1]
    wrong = {other for other in packages_imported(source, module) if layer(other) < layer(here)}
    if here in SCIENCE:
        wrong |= packages_imported(source, module) & LEAVES
    return wrong


def modules_imported(source: str, module: str, known: set[str]) -> set[str]:
    """The modules among `known` that a module imports: of `from a import b` a.b if that is one, or else a."""
    found = set()
    for name in imports(source, module):
        while name and name not in known:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", module}


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected parts of more than one node (Tarjan), of arrows from each node to others."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in arrows.get(node, set()):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            part = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(part)

    for node in arrows:
        if node not in order:
            visit(node)
    return found


@cache
def import_graph() -> dict[str, set[str]]:
    """The modules that each module imports, deferred imports included."""
    known = {name_of(path) for path in PACKAGE.rglob("*.py")}
    return {name_of(path): modules_imported(path.read_text(), name_of(path), known) for path in MODULES}


def training_arrows(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Pairs of different packages of training, of which the first imports from the second."""
    inside = [(one, other) for one, others in graph.items() for other in others]
    start = "cytoforge.training."
    packages = [
        (one.removeprefix(start).split(".")[0], other.removeprefix(start).split(".")[0])
        for one, other in inside
        if one.startswith(start) and other.startswith(start)
    ]
    return {(one, other) for one, other in packages if one != other}


def readers_of_settings(graph: dict[str, set[str]]) -> set[str]:
    """The modules that import the settings of a command line although their package may not."""
    return {
        module
        for module, others in graph.items()
        if any(other.split(".")[1:2] == ["settings"] for other in others) and module.split(".")[1] not in SEE_SETTINGS
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down_only(path: Path) -> None:
    module = "cytoforge." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    assert departures(path.read_text(), module) == set()


@pytest.mark.parametrize(
    "path", [p for p in MODULES if package(p) in SCIENCE], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_science_opens_no_file(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
    assert names & FILE_OPENERS == set()


def test_the_rule_finds_what_it_forbids() -> None:
    assert departures("from cytoforge.data.images import read_image", "cytoforge.losses") == {"data"}
    assert departures("from ..training import fit", "cytoforge.networks.layers") == {"training"}
    assert departures("def f():\n    import cytoforge.commands.check", "cytoforge.data.run") == {"commands"}
    assert departures("from cytoforge.settings import Segment", "cytoforge.metrics.segmentation") == {"settings"}
    assert departures("from cytoforge.places import RUN", "cytoforge.cells.labels") == {"places"}
    assert departures("from cytoforge.settings import Segment", "cytoforge.places") == {"settings"}
    assert departures("from cytoforge.api import train_segmenter", "cytoforge.training.loop") == {"api"}
    assert departures("from cytoforge.errors import UserError", "cytoforge.data.images") == set()


def test_packages_of_training_import_downwards_only() -> None:
    found = training_arrows(import_graph())
    allowed = {(one, other) for one, others in TRAINING.items() for other in others}
    assert found - allowed == set()
    assert {one for pair in found for one in pair} == set(TRAINING)  # it has no other packages
    assert len(found) <= 15


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(import_graph()) == []


def test_settings_of_the_command_line_are_read_by_the_commands() -> None:
    assert readers_of_settings(import_graph()) == set()


def test_the_graph_finds_what_it_forbids() -> None:
    known = {"p", "p.a", "p.b", "p.c", "p.c.d"}
    source = "import p.a\nfrom p import b\ndef f():\n    from .c.d import x\n    import os.path"
    assert modules_imported(source, "p.m", known) == {"p.a", "p.b", "p.c.d"}
    assert modules_imported("from p.c import d, e", "p.m", known) == {"p.c.d", "p.c"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a", "c"}}) == []
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": {"e"}, "e": {"d", "a"}, "f": {"a"}}) == [set("abcde")]
    assert sorted(map(sorted, circles({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}))) == [
        ["a", "b"],
        ["c", "d"],
    ]
    graph = {"cytoforge.training.loop": {"cytoforge.training.tasks.task", "cytoforge.training.recipes.recipe"}}
    assert training_arrows(graph) == {("loop", "tasks"), ("loop", "recipes")}
    assert training_arrows({"cytoforge.training.tasks.task": {"cytoforge.training.tasks.movie"}}) == set()
    settings = {"cytoforge.settings.base"}
    graph = {f"cytoforge.{module}": settings for module in ("inference.load", "commands.track", "api", "cli")}
    assert readers_of_settings(graph) == {"cytoforge.inference.load", "cytoforge.api"}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("cytoforge, cytoforge.cli, cytoforge.places", {"torch", "numpy", "tyro", "pydantic", "rich"}),
        ("cytoforge.settings, cytoforge.networks.registry", {"torch", "numpy"}),
        ("cytoforge.napari", {"torch", "numpy", "napari", "magicgui", "qtpy"}),
        ("cytoforge.napari.reader", {"torch", "matplotlib", "napari", "magicgui", "qtpy"}),
        (
            "cytoforge.commands.score, cytoforge.commands.check, cytoforge.commands.export, cytoforge.data.stack",
            {"torch", "matplotlib", "geff", "av"},
        ),
        (
            "cytoforge.commands.segment, cytoforge.metrics.copying",
            {"lightning_fabric", "kornia", "monai", "matplotlib", "torchmetrics"},
        ),
    ],
)
def test_start_up_stays_light(modules: str, forbidden: set[str]) -> None:
    code = f"import sys, {modules}; print(*sorted(set(sys.modules) & {forbidden!r}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []


def test_no_package_defines_the_name_of_one_of_its_modules() -> None:
    """Importing the module would put it in the place of the function."""
    for init in PACKAGE.rglob("__init__.py"):
        modules = {path.stem for path in init.parent.iterdir()}
        defined = {node.name for node in ast.parse(init.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert not defined & modules, init


def wall_clocks(source: str) -> set[str]:
    """Calls of clocks that may go back: time.time and the like, and datetime.now."""
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {call for call in calls if call in WALL_CLOCKS}


def test_no_duration_is_measured_by_the_wall_clock() -> None:
    allowed = {
        "data/run.py": {"datetime.now"},  # when a run was started and finished, to be read by people
        "studio/drafts.py": {"time.time_ns"},  # numbers that pages of former studios do not have
        "studio/movies.py": {"time.time_ns"},
    }
    for path in MODULES:
        assert wall_clocks(path.read_text()) <= allowed.get(path.relative_to(PACKAGE).as_posix(), set()), path
    found = wall_clocks("from time import time\nx = time()\ny = time.time_ns()\nz = datetime.now(UTC)")
    assert found == {"time", "time.time_ns", "datetime.now"}
