"""What a training came to, as provenance.json keeps it: a verdict, the scores that it rests on, and what to do."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from cytoforge.metrics.estimates import Estimate, to_json
from cytoforge.progress import Verdict

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Measured(BaseModel):
    """A value with its 95 % interval; `low` and `high` are None where there is too little to draw it from."""

    model_config = ConfigDict(frozen=True, strict=True)

    value: Finite
    low: Finite | None = None
    high: Finite | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> Self | None:
        """Return an estimate in this form; None where it is undefined."""
        plain = to_json(estimate)
        if plain["value"] is None:
            return None
        return cls(value=plain["value"], low=plain["low"], high=plain["high"])

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{interval}"


class Winner(BaseModel):
    """Which of two networks did better on validation, and by how much in the validation score."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    """the better one"""
    other: str
    score: Finite
    other_score: Finite
    difference: Measured
    """of the better one's score less the other's; an interval that holds 0 may be chance"""

    @property
    def sure(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.difference.low is not None and self.difference.low > 0

    def __str__(self) -> str:
        scores = f"validation score {self.score:.3f} against {self.other_score:.3f}, difference {self.difference}"
        chance = "" if self.sure else ", which may be chance"
        return f"{self.name} did better than {self.other} ({scores}{chance})"


class Judgement(BaseModel):
    """The verdict on a trained model. Scores are those of validation unless they say otherwise."""

    model_config = ConfigDict(frozen=True, strict=True)

    verdict: Verdict
    measure: str
    """what `score`, `baseline` and `training` are, such as F at IoU 0.5"""
    over: str
    """what the interval of the score is over, such as 7 images, or 143 cells"""
    score: Measured | None
    """None where validation shows nothing to score"""
    baseline: Measured | None = None
    """of a method without training, on the same images"""
    baseline_name: str = ""
    training: Measured | None = None
    """on data that the model learned from"""
    further: dict[str, Measured] = {}
    """other measures, by name"""
    winners: list[Winner] = []
    """the model against what it started from, and against other models of the same training"""
    reasons: list[str] = []
    """why the verdict is not better, a clause each"""
    remedies: list[str] = []
    """what to do about it, a clause each, the most promising first"""

    @property
    def scores(self) -> str:
        """The scores that the verdict rests on, in one line."""
        beside = {self.baseline_name: self.baseline, "data that it learned from": self.training, **self.further}
        compared = [f"{name} {value}" for name, value in beside.items() if value is not None]
        found = "nothing to score" if self.score is None else f"{self.measure} is {self.score}"
        return f"{'; '.join([f'{found} on validation ({self.over})', *compared])}."

    @property
    def headline(self) -> str:
        """The verdict and the scores that it rests on, in one line."""
        return f"{self.verdict.capitalize()}: {self.scores}"

    @property
    def details(self) -> list[str]:
        """What follows the headline: the winners, why, and what to do, a sentence each."""
        return [*(_sentence(str(winner)) for winner in self.winners), *self.advice]

    @property
    def advice(self) -> list[str]:
        """Why the verdict is not better, and what to do about it, a sentence each."""
        told = {"Why": self.reasons, "What to do": self.remedies}
        return [f"{word}: {'; '.join(clauses)}." for word, clauses in told.items() if clauses]

    def __str__(self) -> str:
        return " ".join([self.headline, *self.details])

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        return plain


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
