"""Fill docs/papers.md: its text is benchmarks/papers.md, its measurements come from the JSON files beside this script.

    python benchmarks/results.py          # writes both pages

Slots in the text, where NAME is benchmarks/studies/NAME.json or few_labels/DATASET and WHERE is KEY=VALUE; ...

- {{NAME}}: the terms on which it was measured;
- {{NAME :: COLUMN :: WHERE}}: the cell of that column in the one row with these values;
- {{NAME :: COLUMN :: WHERE :: KEY}}: the terms, and the cell of every such row after its value of KEY;
- {{verdict NAME :: COLUMN :: WHERE}}: "better", "worse" or "same" as the interval of a difference lies above, below or
  around 0;
- {{verdict NAME :: COLUMN :: WHERE :: WHERE}}: the same as the first interval lies above, below or over the second;
- {{FILE.json :: PATH}}: the number at a path of keys.

All of these say so where nothing has been measured yet.
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
    study = found(name.removeprefix("verdict "))
    if study is None:
        return ABSENT
    if not rest:
        return terms(study)
    column, where, other = [*rest, "", ""][:3]
    if name.startswith("verdict "):
        beside = cell(study, column, other) if other else {"low": 0.0, "high": 0.0}
        return verdict(cell(study, column, where), beside)
    if other:
        each = ", ".join(f"{row[other]} {shown(row[column])}" for row in fitting(study, column, where))
        return f"{terms(study)}: {each}"
    return shown(cell(study, column, where))


def fitting(study: dict[str, Any], column: str, where: str) -> list[dict[str, Any]]:
    """The rows that have a column and certain values; of several protocols that of instances is meant unless told."""
    wanted = dict(part.split("=", 1) for part in where.split("; ")) if where else {}

    def fits(row: dict[str, Any]) -> bool:
        every = {**({"protocol": "instances"} if "protocol" in row else {}), **wanted}
        return column in row and all(str(row.get(key)) == text for key, text in every.items())

    return [row for row in study["rows"] if fits(row)]


def cell(study: dict[str, Any], column: str, where: str) -> Any:
    rows = fitting(study, column, where)
    if len(rows) != 1:
        raise ValueError(f"{column} where {where}: {len(rows)} rows")
    return rows[0][column]


def verdict(one: dict[str, float], other: dict[str, float]) -> str:
    """Judge by intervals."""
    return "better" if one["low"] > other["high"] else "worse" if one["high"] < other["low"] else "same"


def number(file: str, path: str) -> str:
    """The number at a path of keys, such as results.0.cells, in a JSON file."""
    content: Any = next(iter(load(file)), None)
    for key in path.split(".") if content is not None else ():
        content = content[int(key)] if key.isdigit() else content[key]
    if content is None:
        return ABSENT
    return f"{content:,}" if isinstance(content, int) else f"{content:.3g}"


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
            "steps": round(sum(one["steps"] for one in own) / len(own)),
            **{f"against {other}": interval(per_image(own) - per_image(trained[other])) for other in trained},
        }
        for way, own in trained.items()
    ]
    first = next(iter(trained.values()))
    settings = {**first[0]["provenance"], "data": dataset, "seeds": len(first), "preset": "small"}
    return {"settings": {**settings, "images": settings["limit"]}, "rows": rows}


def terms(study: dict[str, Any]) -> str:
    settings = study["settings"]
    images = settings.get("images") or settings.get("few") or settings.get("limit")
    data = "-".join(part.split("/")[0] for part in settings["data"].split(", "))
    told = [data, *([f"{images} images"] if images else []), budget(settings), f"preset {settings['preset']}"]
    return ", ".join([*told, number_of_seeds(settings["seeds"])])
