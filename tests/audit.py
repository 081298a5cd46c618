"""What cytoforge brings along, looked through: `make audit` runs python tests/audit.py dist.

Known weaknesses of the pinned packages (pip-audit, which asks PyPI), licences of all packages that cytoforge needs when
it runs, against a list of those that permit to pass it on, and DIST/sbom.json, which lists these packages in CycloneDX.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NAME = "cytoforge"
EXTRAS = ("movies", "tracking", "studio", "export", "napari")  # as TESTED in the Makefile
ALLOWED = re.compile(
    r"0BSD|(3-Clause )?BSD([- ][23][- ]Clause)?( License)?|Apache(-2\.0| License(,? Version)? 2\.0| Software License)|"
    r"BSL-1\.0|CC0-1\.0|HPND|ISC( License ISCL)?|MIT( License|-CMU)?|MPL-2\.0|Mozilla Public License 2\.0 MPL 2\.0|"
    r"PSF-2\.0|Python Software Foundation License|Unlicense|Zlib"
)
"""licences that permit to pass a package on with programs of any licence, as metadata write them, without brackets"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, help="folder for sbom.json")
    parser.add_argument("--offline", action="store_true", help="ask nobody about weaknesses")
    given = parser.parse_args()
    packages = [
        Package(NAME, distribution(NAME).version, "BSD-3-Clause", "pypi", needs()),
        *closure(needs()),
        *bundled(),
    ]
    given.dist.mkdir(exist_ok=True)
    (given.dist / "sbom.json").write_text(json.dumps(sbom(packages), indent=1) + "\n")
    for package in packages:
        remark = "" if is_allowed(package.licence) else "   <- is not among those allowed"
        print(f"{package.name:<28} {package.version:<16} {package.licence}{remark}")
    refused = [package.name for package in packages if not is_allowed(package.licence)]
    print(
        f"{len(packages)} packages, {len(refused)} with another licence than those allowed; {given.dist / 'sbom.json'}"
    )
    asked = not given.offline and weak()
    return int(bool(refused) or asked)


@dataclass(frozen=True)
class Package:
    """A package that is passed on with cytoforge or fetched for it."""

    name: str
    version: str
    licence: str
    registry: str
    needs: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Its address as a package URL."""
        return f"pkg:{self.registry}/{self.name}@{self.version.partition('+')[0]}"


def needs() -> tuple[str, ...]:
    """Return what pyproject.toml asks for: the core, and the extras that can be installed everywhere."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return (*project["dependencies"], *(each for extra in EXTRAS for each in extras[extra]))


def weak() -> bool:
    """Print which pinned packages have known weaknesses; tell whether there are any, or nobody could be asked."""
    line = [sys.executable, "-m", "pip_audit", "--requirement", "constraints.txt", "--no-deps", "--disable-pip"]
    asked = subprocess.run([*line, "--format", "json"], check=False, cwd=ROOT, capture_output=True, text=True)
    try:
        found = json.loads(asked.stdout)["dependencies"]
    except ValueError:
        print(f"pip-audit failed: {asked.stderr.strip()[-500:]}")
        return True
    known = [each for each in found if "skip_reason" not in each]
    weaknesses = [(each["name"], each["version"], one["id"]) for each in known for one in each["vulns"]]
    print("".join(f"{' '.join(weakness)}\n" for weakness in weaknesses), end="")
    print(f"{len(known)} of {len(found)} pinned packages are known to PyPI, with {len(weaknesses)} known weaknesses")
    return bool(weaknesses) or not known


def closure(wanted: Iterable[str]) -> list[Package]:
    """Return the installed packages that requirements lead to on this system, in the order of their names."""
    found: dict[str, set[str]] = {}
    waiting, seen = [Requirement(text) for text in wanted], set[str]()
    while waiting:
        each = waiting.pop()
        name = canonicalize_name(each.name)
        key = f"{name}[{','.join(sorted(each.extras))}]"
        if key in seen or (each.marker and not each.marker.evaluate({"extra": ""})):
            continue
        seen.add(key)
        further = [
            need
            for need in map(Requirement, distribution(name).requires or [])
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *each.extras))
        ]
        found.setdefault(name, set()).update(need.name for need in further)
        waiting += [Requirement(str(need).partition(";")[0]) for need in further]
    return [
        Package(name, distribution(name).version, licences_of(distribution(name)), "pypi", tuple(sorted(further)))
        for name, further in sorted(found.items())
    ]


def bundled() -> list[Package]:
    """Return the packages that the page of the studio is built of."""
    locked = json.loads((ROOT / "studio" / "package-lock.json").read_text())["packages"]
    return [
        Package(place.removeprefix("node_modules/"), entry["version"], entry["license"], "npm")
        for place, entry in locked.items()
        if place and not entry.get("dev")
    ]


def licences_of(package: Distribution) -> str:
    """Return the licences that a package states: an expression, classifiers, or the first line of a text."""
    told = package.metadata
    if expression := told.get("License-Expression"):
        return expression
    classifiers = [
        entry.rpartition(" :: ")[2] for entry in told.get_all("Classifier") or [] if entry.startswith("License")
    ]
    text = next((line.strip() for line in (told.get("License") or "").splitlines() if line.strip()), "")
    return " AND ".join(classifiers) or text or "unknown"


def is_allowed(licences: str) -> bool:
    """Tell whether an expression of licences permits to pass a package on: all joined by AND, one of those by OR."""
    flat = " ".join(re.sub(r" WITH [\w.-]+|[()]", " ", licences).split())
    return all(
        any(ALLOWED.fullmatch(choice.strip()) for choice in re.split(r"\bOR\b", part))
        for part in re.split(r"\bAND\b|;", flat)
    )


def sbom(packages: Iterable[Package]) -> dict[str, Any]:
    """Return a CycloneDX document: cytoforge, which comes first, what it needs, and what these need."""
    own, *others = [
        {
            "type": "application" if package.name == NAME else "library",
            "bom-ref": package.address,
            "name": package.name,
            "version": package.version,
            "purl": package.address,
            "licenses": [{"license": {"name": package.licence}}],
        }
        for package in packages
    ]
    addresses = {package.name: package.address for package in packages}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": others,
        "dependencies": [
            {
                "ref": package.address,
                "dependsOn": sorted({addresses[canonicalize_name(Requirement(need).name)] for need in package.needs}),
            }
            for package in packages
            if package.registry == "pypi"
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
