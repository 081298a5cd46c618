"""The studies of docs/results.md: `cytoforge study ...` on real images, their results beside this file.

    python benchmarks/studies.py limited-data-usiigaci
    python benchmarks/studies.py                       # all of them, one after the other
    python benchmarks/results.py                       # writes docs/results.md from the JSON

Data are found through CYTOFORGE_DATA (default ../shared/data), feature networks through CYTOFORGE_WEIGHTS. Work lies in
scratch/studies; an interrupted study goes on. Minutes are those of one thread's processor time: the machine has other
work, and all ways shall get equally much. Learning curves take five ways x six amounts of labels x three seeds x six
minutes, some ten hours of one core. Their crops are as large as 176 px at a third of the resolution.
"""

import argparse
import importlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from cytoforge.cli import COMMANDS
from cytoforge.data.files import read_json, write_json

HERE = Path(__file__).parent
DATA = Path(os.environ.get("CYTOFORGE_DATA", HERE.parent.parent / "shared" / "data")).resolve()
WORK = HERE.parent / "scratch" / "studies"
THIRD = {"scale": 0.333}  # of Usiigaci's resolution
U373 = {"sequence": ("01",), "test_sequence": ("02",)}
NO_PICTURES = ("u373", "hela")  # whose conditions do not allow to hand frames on
PAPER = {"target": "semantic", "augmentation": "paper", "protocol": ("paper", "instances"), "warm_start": False}
CONVERGED = {"steps": 4000, "until_converged": True, "networks": ("unet",), **PAPER}
OURS = {"steps": 4000, "until_converged": True, "networks": ("unet",), "target": "depth"}
STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "limited-data-usiigaci": ("limited-data", {"minutes": 6.0, "crop": 228}),
    "limited-data-usiigaci.crops": (
        "limited-data",
        {"minutes": 2.0, "crops": (1, 2, 4, 8), "images": (), "methods": ("scratch", "two-stage"), **THIRD},
    ),
    "dense-usiigaci": ("dense", {"minutes": 2.0, "images": 5, **THIRD}),
    "dense-dsb256": ("dense", {"minutes": 1.0, "images": 5}),
    "ablation-usiigaci": ("ablation", {"minutes": 3.0, "images": 5, "seeds": 1, **THIRD}),
    "ablation-dsb256": ("ablation", {"minutes": 1.0, "images": 5, "seeds": 1}),
    "training-usiigaci": ("training", {"minutes": 1.0, "images": 5, "seeds": 1, **THIRD}),
    "training-usiigaci.converged-5": ("training", {"images": 5, "seeds": 3, **CONVERGED, **THIRD}),
    "training-usiigaci.converged-25": ("training", {"images": 25, "seeds": 3, **CONVERGED, **THIRD}),
    "training-usiigaci.unlabelled-5": (
        "training",
        {
            "images": 5,
            "seeds": 3,
            **CONVERGED,
            **THIRD,
            "ways": ("cyclegan-unlabelled", "cyclegan-simulated", "mean-teacher"),
        },
    ),
    "training-usiigaci.ours-5": ("training", {"images": 5, "seeds": 3, **OURS, **THIRD}),
    "training-dsb256.converged-5": ("training", {"images": 5, "seeds": 3, **CONVERGED}),
    "training-dsb256.ours-5": ("training", {"images": 5, "seeds": 3, **OURS}),
    "versatility-usiigaci-dsb256": ("versatility", {"minutes": 2.0, "images": 5, "seeds": 1, "scale": 0.5}),
    "extrapolation-usiigaci": ("extrapolation", {"minutes": 4.0, "images": 5, "seeds": 1, **THIRD}),
    "movie-usiigaci_movie": (
        "movie",
        {"minutes": 1.0, "seeds": 1, "frames": 30, "densities": (0.3,), "max_steps": 300, "stage": "both", **THIRD},
    ),
    "movie-u373": ("movie", {"minutes": 2.0, "seeds": 1, "max_steps": 600, **THIRD, **U373, "frames": 300}),
    "movie-hela": ("movie", {"minutes": 2.0, "seeds": 1, "max_steps": 600, "scale": 0.5, "frames": 30}),
    "tracking-u373": ("tracking", {"minutes": 2.0, "seeds": 1, **THIRD, **U373, "frames": (10, 30)}),
    "tracking-hela": ("tracking", {"minutes": 2.0, "seeds": 2, "scale": 0.5, "frames": (5,)}),
    "tracking-hela.global": (
        "tracking",
        {"minutes": 2.0, "seeds": 1, "scale": 0.5, "frames": (5,), "learners": ("global",)},
    ),
}


def named(folder: Path, name: str) -> Path:
    """Link a folder under another name: studies call data sets by the names of their folders."""
    link = WORK / "data" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return link


def run(name: str) -> None:
    kind, own = STUDIES[name]
    datasets = name.removeprefix(f"{kind}-").partition(".")[0].split("-")
    config, place, _ = COMMANDS[f"study {kind}"]
    module, function = place.split(":")
    settings = getattr(importlib.import_module("cytoforge.settings"), config)
    out = WORK / name
    films = not (DATA / datasets[0] / "train").is_dir()
    part = "" if films else "train"
    data = tuple(named(DATA / dataset / part, dataset) for dataset in datasets)
    common = {"data": data, "clock": "processor", "threads": 1}
    if len(data) == 1 and not films:
        common["test"] = DATA / datasets[0] / "test"
    getattr(importlib.import_module(f"cytoforge.{module}"), function)(settings(out=out, **{**common, **own}))
    found = read_json(out / "results.json")
    found["settings"]["data"] = ", ".join(f"{dataset}/{part}".rstrip("/") for dataset in datasets)
    if "test" in common:
        found["settings"]["test"] = f"{datasets[0]}/test"
    found |= {"command": f"python benchmarks/studies.py {name}", "torch": version("torch")}
    write_json(HERE / "studies" / f"{name}.json", found)
    for picture in () if datasets[0] in NO_PICTURES else (out / "pictures").glob("*.png"):
        small = Image.open(picture).quantize(128)  # a third of the bytes, and no difference to the eye
        small.save(HERE.parent / "docs" / "images" / f"{name}-{picture.stem}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="all without any")
    for name in parser.parse_args().studies or STUDIES:
        run(name)


if __name__ == "__main__":
    main()
