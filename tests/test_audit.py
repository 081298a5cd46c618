"""The list of packages and their licences: every package that is needed is in it, and other licences are refused."""

import importlib
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
audit = importlib.import_module("audit")


@pytest.mark.parametrize(
    ("licences", "allowed"),
    [
        ("MIT", True),
        ("Apache Software License", True),
        ("Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND (MIT OR GPL-3.0)", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GPL-3.0-only", False),
        ("MIT AND LGPL-2.1", False),
        ("MIT-like", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_licences(licences: str, allowed: bool) -> None:
    assert audit.is_allowed(licences) is allowed


def test_what_is_needed_is_listed_and_nothing_is_needed_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["audit.py", str(tmp_path), "--offline"])
    assert audit.main() == 0
    listed = json.loads((tmp_path / "sbom.json").read_text())
    assert listed["bomFormat"] == "CycloneDX" and listed["metadata"]["component"]["name"] == "cytoforge"
    names = {each["name"] for each in listed["components"]}
    assert {"torch", "numpy", "zarr", "starlette", "av", "openseadragon"} <= names
    assert not names & {"pytest", "sphinx", "monai", "cytoforge"}
    refs = {each["bom-ref"] for each in (*listed["components"], listed["metadata"]["component"])}
    assert len(refs) == len(listed["components"]) + 1
    graph = {each["ref"]: each["dependsOn"] for each in listed["dependencies"]}
    assert graph.keys() | {ref for ref in refs if ref.startswith("pkg:npm")} == refs
    assert {need for needs in graph.values() for need in needs} <= refs
    assert (
        next(ref for ref in refs if ref.startswith("pkg:pypi/torch@"))
        in graph[listed["metadata"]["component"]["bom-ref"]]
    )
