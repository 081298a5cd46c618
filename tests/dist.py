"""What is published, tried: `make dist` builds it, and runs python tests/dist.py dist.

Wheel and sdist hold what they should and nothing else, install into fresh environments, and work there without extras.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

TESTS = Path(__file__).parent
BESIDE = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "NOTICE",
    "PKG-INFO",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
}
KINDS = {
    ".py",
    ".typed",
    ".md",
    ".json",
    ".safetensors",
    ".txt",
    ".svg",
    ".html",
    ".css",
    ".js",
    ".mjs",
    ".ts",
    ".tsx",
    ".yaml",
}
NEEDED = {"py.typed", "base/weights/segmenter.safetensors", "studio/page/index.html", "templates/report.html", "cli.py"}


def refuse(archive: Path, unexpected: Iterable[str], lacking: Iterable[str]) -> None:
    """End with a sentence if an archive holds what it should not, or lacks what it should hold."""
    for what, names in (("holds", sorted(unexpected)), ("lacks", sorted(lacking))):
        if names:
            raise SystemExit(f"{archive}: {what} {', '.join(names[:5])}")


def look_through_wheel(wheel: Path) -> None:
    """Only the package, by kinds of files that are known, and what describes it."""
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name.removeprefix("cytoforge/") for name in names if name.startswith("cytoforge/")}
    beside = [name for name in names if not name.startswith("cytoforge/") and ".dist-info/" not in name]
    refuse(wheel, [*beside, *(name for name in inside if PurePosixPath(name).suffix not in KINDS)], NEEDED - inside)


def look_through_sdist(sdist: Path) -> None:
    """Only the package, the source of the studio's page, and the files beside them; nothing built, no pictures."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    expected = {name for name in names if name.startswith(("src/cytoforge/", "studio/")) and "node_modules" not in name}
    needed = {f"src/cytoforge/{name}" for name in NEEDED} | {"studio/package-lock.json"} | BESIDE
    strange = {name for name in expected if PurePosixPath(name).suffix not in KINDS} - {"studio/.npmrc"}
    refuse(sdist, names - expected - BESIDE - {".gitignore"} | strange, needed - names)


def install_and_use(archive: Path, folder: Path) -> None:
    """Install into a fresh environment and run `tests/core.py` there; raises CalledProcessError where that fails."""
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv" / "bin" / "python"
    own = {
        "PYTHONPATH",
        "UV_COMPILE_BYTECODE",
    }  # the checkout must not be seen, and little of what is installed is used
    clean = {name: value for name, value in os.environ.items() if name not in own}
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    constraints = TESTS.parent / "constraints.txt"
    line = [uv, "pip", "install", "--quiet", "--python", python, "-c", constraints, archive.resolve()]
    subprocess.run(line, check=True, env=clean)
    for command in ([python.with_name("cytoforge"), "--version"], [python, TESTS / "core.py", folder / "used"]):
        subprocess.run(command, check=True, cwd=folder, env=clean)


def main(dist: Path) -> None:
    """Try the one wheel and the one sdist of a folder."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    look_through_wheel(wheel)
    look_through_sdist(sdist)
    for archive in (wheel, sdist):
        with tempfile.TemporaryDirectory() as folder:
            install_and_use(archive, Path(folder))
        print(f"{archive}: installs and works, {archive.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
