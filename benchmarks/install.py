"""What installing cytoforge takes: packages and MB of the core and of each extra, and what parts of the core add.

    python benchmarks/install.py

Each set is installed by uv into a fresh environment, with the versions of constraints.txt; cytoforge itself is left
out. What a package adds is what is there no more when the core is installed without it. Seconds are of the processor,
for an import after torch. Files that Python compiles are not counted. Writes install.json beside this file.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = {
    name: packages for name, packages in PROJECT["optional-dependencies"].items() if name != "all"
}
IMPORTS = {
    "kornia": "kornia.enhance, kornia.filters",
    "lightning-fabric": "lightning_fabric",
    "matplotlib": "matplotlib.figure",
    "zarr": "zarr",
}
TIMED = "import time, torch; began = time.process_time(); import {}; print(time.process_time() - began)"


def installed(requirements: list[str]) -> dict[str, int]:
    """Install requirements into a fresh environment; return the number of packages and their MB."""
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        python = Path(folder) / "bin" / "python"
        line = [uv, "pip", "install", "--quiet", "--python", python, "-c", ROOT / "constraints.txt", *requirements]
        subprocess.run(line, check=True)
        (site,) = Path(folder).glob("lib/python*/site-packages")
        files = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        size = sum(path.stat().st_size for path in files)
        return {"packages": len(list(site.glob("*.dist-info"))), "mb": round(size / 1e6)}


def seconds(module: str) -> float:
    """Processor time of an import, the median of three."""
    line = [sys.executable, "-c", TIMED.format(module)]
    times = [float(subprocess.run(line, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    return round(sorted(times)[1], 2)


def less(whole: dict[str, int], part: dict[str, int]) -> dict[str, int]:
    return {key: whole[key] - part[key] for key in whole}


def name(requirement: str) -> str:
    return requirement.partition(">")[0]


if __name__ == "__main__":
    core = installed(CORE)
    extras = {extra: less(installed(CORE + packages), core) for extra, packages in EXTRAS.items()}
    every = installed([*CORE, *(one for packages in EXTRAS.values() for one in packages)])
    parts = {
        name(one): less(core, installed([other for other in CORE if other != one]))
        for one in CORE
        if name(one) != "torch"  # others bring it
    }
    result = {
        "command": "python benchmarks/install.py",
        "cytoforge": version("cytoforge"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "torch": version("torch"),
        "core": core,
        "torch_alone": installed([CORE[0]]),
        "extras_add": extras,
        "all": every,
        "core_parts_add": dict(sorted(parts.items(), key=lambda part: -part[1]["mb"])),
        "import_s": {package: seconds(module) for package, module in IMPORTS.items()},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
