"""Fill docs/papers.md: its text is benchmarks/papers.md, its measurements come from the JSON files beside this script.

    python benchmarks/results.py          # writes both pages

In the text, {{NAME :: COLUMN :: KEY=VALUE; ...}} stands for the cell of that column in the one row of
benchmarks/studies/NAME.json that has these values. NAME may also be few_labels/DATASET, or FILE.json with a path of
keys in place of a column. {{NAME}} stands for the terms on which it was measured, and {{verdict NAME :: COLUMN :: ...}}
is "better", "worse" or "same" as the interval of a difference lies above, below or around 0. All of these say so where
nothing has been measured yet.
"""

import re
from typing import Any

from measured import HERE, budget, interval, load, number_of_seeds, per_image, shown, ways

TEXT = HERE / "papers.md"
SLOT = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
ABSENT = "not measured yet"


def page() -> str:
    """The whole of docs/papers.md."""
    return filled(TEXT.read_text())


def filled(text: str) -> str:
    """Replace every slot of the text."""
    return SLOT.sub(lambda slot: value(" ".join(slot[1].split())), text)


def value(slot: str) -> str:
    """What stands for a slot; ValueError if its file lacks the column or has no single such row."""
    name, *rest = (part.strip() for part in slot.split(" :: "))
    if name.endswith(".json"):
        return number(name, rest[0])
    judged = name.startswith("verdict ")
    study = found(name.removeprefix("verdict "))
    if study is None:
        return ABSENT
    if not rest:
        return terms(study)
    column, conditions = rest[0], dict(part.split("=", 1) for part in rest[1].split("; ")) if rest[1:] else {}
    rows = [row for row in study["rows"] if column in row and fits(row, conditions)]
    if len(rows) != 1:
        raise ValueError(f"{slot}: {len(rows)} rows have these values")
    return verdict(rows[0][column]) if judged else shown(rows[0][column])


def number(file: str, path: str) -> str:
    """The number at a path of keys, such as results.0.cells, in a JSON file."""
    content: Any = next(iter(load(file)), None)
    for key in path.split(".") if content is not None else ():
        content = content[int(key)] if key.isdigit() else content[key]
    return ABSENT if content is None else f"{content:.3g}"


def found(name: str) -> dict[str, Any] | None:
    """Settings and rows of a measurement; None if there is none."""
    if not name.startswith("few_labels/"):
        return next(iter(load(f"studies/{name}.json")), None)
    dataset = name.removeprefix("few_labels/")
    trainings = ways(dataset)
    if not trainings:
        return None
    trained = {way: own for way, own in trainings.items() if way != "otsu"}
    rows = [
        {
            "training": way,
            "F at IoU 0.5": interval(per_image(own)),
            **{f"against {other}": interval(per_image(own) - per_image(trained[other])) for other in trained},
        }
        for way, own in trained.items()
    ]
    first = next(iter(trained.values()))
    settings = {**first[0]["provenance"], "data": dataset, "seeds": len(first), "preset": "small"}
    return {"settings": {**settings, "images": settings["limit"]}, "rows": rows}


def fits(row: dict[str, Any], conditions: dict[str, str]) -> bool:
    """Whether a row has the values asked for; where rows differ by protocol, that of instances is meant unless told."""
    wanted = {**({"protocol": "instances"} if "protocol" in row else {}), **conditions}
    return all(str(row.get(key)) == wanted_value for key, wanted_value in wanted.items())


def terms(study: dict[str, Any]) -> str:
    settings = study["settings"]
    images = settings.get("images") or settings.get("few") or settings.get("limit")
    data = "-".join(part.split("/")[0] for part in settings["data"].split(", "))
    told = [data, *([f"{images} images"] if images else []), budget(settings), f"preset {settings['preset']}"]
    return ", ".join([*told, number_of_seeds(settings["seeds"])])


def verdict(difference: dict[str, float]) -> str:
    """Judge a difference by its interval."""
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "same"
