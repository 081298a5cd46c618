"""What the scores share that can be divided: where they are written, and what is said of an unfinished one."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cytoforge.commands.narrowed import engine_of
from cytoforge.data.files import write_json
from cytoforge.evaluation.division import ScoreFolder, Scoring, scored_into
from cytoforge.places import ABSENT
from cytoforge.progress import counted
from cytoforge.settings import DividedScore

Item = TypeVar("Item")
Results = TypeVar("Results")
Content = Mapping[str, Any]


def scored(
    settings: DividedScore,
    scoring: Scoring[Item, Results],
    head: Callable[[], Content],
    content: Callable[[Results], Content],
) -> Results | int:
    """Score all items, or those of a part; write JSON, `head` and the `content` of the results, if asked to.

    Returns how many items no part has scored yet, as long as there are such. Raises UserError where there are results
    already.
    """
    engine = engine_of(settings)
    if settings.out is not None:
        return scored_into(ScoreFolder(settings.out, head(), overwrite=settings.overwrite), scoring, engine, content)
    if settings.json is not None:
        ABSENT.check(settings.json, overwrite=settings.overwrite)
    results = scoring.joined(scoring.rows(scoring.items, engine))
    if settings.json is not None:
        write_json(settings.json, {**head(), **content(results)})
    return results


def still_to_come(settings: DividedScore, missing: int, noun: str) -> str:
    """Return what is said where other parts have not scored their items yet."""
    return f"{settings.out}: {counted(missing, noun)} of other parts still to come"
