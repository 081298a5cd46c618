"""Fill the tables of docs/reliability.md from the JSON files in benchmarks/faults/.

    python benchmarks/reliability.py

Each table stands between two comments that name it. Several files of one kind, such as kills-1.json and kills-2.json,
are counted together.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import measured
from measured import DOCS, table

PAGE = DOCS / "reliability.md"
SLOT = re.compile(r"(<!-- (\w+): from benchmarks/faults -->\n).*?(<!-- end -->)", re.DOTALL)
MENDED = ", once mended"  # end of the name of a command that was counted anew
Counts = dict[str, Any]


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text()))


def filled(page: str) -> str:
    """Replace what stands between the comments of every table."""
    return SLOT.sub(lambda slot: f"{slot[1]}\n{chr(10).join(TABLES[slot[2]]())}\n{slot[3]}", page)


def records(kind: str) -> Iterable[tuple[str, Any]]:
    """Yield names and what is told of them, from all files of a kind."""
    for one in measured.load(f"faults/{kind}*.json"):
        yield from one.items()


def fuzz() -> list[str]:
    rows = [
        [name, *(f"{counts[key]:,}" for key in ("files", "read", "refused", "faults"))]
        for name, counts in records("fuzz")
    ]
    total = [f"{sum(counts[key] for _, counts in records('fuzz')):,}" for key in ("files", "read", "refused", "faults")]
    return table(["reader", "files", "read", "refused", "faults"], [*rows, ["all", *total]])


def kills() -> list[str]:
    return _by_command("kills", ["kills", "in time", "results"], "differences", "lost")


def damage() -> list[str]:
    return _by_command("damage", ["tries", "mended", "told", "refused"], "unnoticed", "unnoticed")


def _by_command(kind: str, columns: list[str], wrong: str, title: str) -> list[str]:
    """Counts by command, of all files of a kind together, and their sum; `wrong` is a list of what went wrong."""
    found: dict[str, Counter[str]] = {}
    for name, counts in records(kind):
        own = found.setdefault(name, Counter())
        own.update({key: counts.get(key, 0) for key in columns} | {wrong: len(counts[wrong])})
    found["all"] = sum(found.values(), Counter())
    return table(
        ["command", *columns, title],
        [[name, *(str(own[key]) for key in (*columns, wrong))] for name, own in found.items()],
    )


def faults() -> list[str]:
    rows: dict[str, Counter[str]] = {}
    commands: dict[str, set[str]] = {}
    for fault, by_command in records("faults"):
        for command, counts in by_command.items():
            row = fault + MENDED * command.endswith(MENDED)
            commands.setdefault(row, set()).add(command)
            rows.setdefault(row, Counter()).update(
                {"tries": counts["tries"], "ended": counts["ended"], "differences": len(counts["differences"])}
            )
    told = ["fault", "commands", "tries", "ended by it", "lost or not told"]
    columns = ("tries", "ended", "differences")
    return table(
        told, [[fault, str(len(commands[fault])), *(str(own[key]) for key in columns)] for fault, own in rows.items()]
    )


def repeats() -> list[str]:
    ways = ["again", "another order of sets", "2 threads"]
    rows = [[name, *(_same(found.get(way)) for way in ways)] for name, found in records("repeats")]
    return table(["command", *ways], rows)


def _same(differ: list[str] | None) -> str:
    if differ is None:
        return "-"
    return f"{len(differ)} files differ" if differ else "same bytes"


def soak() -> list[str]:
    (counts,) = measured.load("faults/soak.json")
    columns = [*counts["last quarter"]]
    rows = [[when, *(f"{counts[when][name]:g}" for name in columns)] for when in ("second quarter", "last quarter")]
    told = f"{counts['rounds']} rounds in {counts['minutes']} minutes; files that differ from the first round's: "
    return [told + str(len(counts["different"])), "", *table(["median of the", *columns], rows)]


TABLES: dict[str, Callable[[], list[str]]] = {
    "fuzz": fuzz,
    "kills": kills,
    "faults": faults,
    "damage": damage,
    "repeats": repeats,
    "soak": soak,
}


if __name__ == "__main__":
    main()
