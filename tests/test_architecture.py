"""The house stands: arrows point down only, science opens no file, starting up stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "cytoforge"
SCIENCE = {
    "crops",
    "linking_deepsea",
    "networks",
    "losses",
    "metrics",
    "simulation",
    "augment",
    "instances",
    "labels",
    "backgrounds",
    "linking",
    "matching",
}
FLOORS: list[set[str]] = [  # from the top; a room may import from lower floors and its own
    {"cli", "__main__"},
    {"commands"},
    {"training"},
    {"inference"},
    {"report"},
    {"data"},
    SCIENCE,
    {"config", "progress"},
    {"errors"},
]
FILE_OPENERS = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "imread", "imwrite", "load_file"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


def rooms_imported(source: str, module: str) -> set[str]:
    return {name.split(".")[1] for name in imports(source, module) if name.startswith("cytoforge.")}


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def departures(source: str, module: str) -> set[str]:
    """Rooms that a module may not import: those above it; science must not know config and errors either."""
    here = module.split(".")[1]
    wrong = {other for other in rooms_imported(source, module) if floor(other) < floor(here)}
    if here in SCIENCE:
        wrong |= rooms_imported(source, module) & {"config", "progress", "errors"}
    return wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down_only(path: Path) -> None:
    module = "cytoforge." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    assert departures(path.read_text(), module) == set()


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in SCIENCE], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_science_opens_no_file(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
    assert names & FILE_OPENERS == set()


def test_the_rule_finds_what_it_forbids() -> None:
    assert departures("from cytoforge.data.images import read_image", "cytoforge.losses") == {"data"}
    assert departures("from ..training import fit", "cytoforge.networks.layers") == {"training"}
    assert departures("def f():\n    import cytoforge.commands.check", "cytoforge.data.run") == {"commands"}
    assert departures("from cytoforge.config import PRESETS", "cytoforge.metrics.segmentation") == {"config"}
    assert departures("from cytoforge.errors import UserError", "cytoforge.data.images") == set()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("cytoforge", {"torch", "numpy", "tyro"}),
        ("cytoforge.cli", {"torch", "numpy", "tyro", "pydantic", "rich"}),
        ("cytoforge.config", {"torch", "numpy"}),
        ("cytoforge.networks.registry", {"torch", "numpy"}),
        ("cytoforge.inference.segment", {"lightning_fabric", "kornia", "monai", "matplotlib"}),
        ("cytoforge.commands.score", {"torch", "matplotlib"}),
        ("cytoforge.commands.check", {"torch", "matplotlib"}),
        ("cytoforge.commands.export", {"torch", "matplotlib", "geff"}),
        ("cytoforge.metrics.copying", {"torchmetrics", "matplotlib"}),
    ],
)
def test_start_up_stays_light(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {forbidden!r}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []
