"""Tables and figures of the study `limited-data`: learning curves and label efficiency."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cytoforge.report import Report
from cytoforge.studies.measurements import Amount, MeasuredLimitedData, SegmenterScores
from cytoforge.studies.present.presentation import (
    Cell,
    Presentation,
    ScoresByImage,
    difference,
    estimate,
    labels_needed,
)
from cytoforge.studies.present.segmenters import (
    PROTOCOLS,
    by_difficulty,
    by_image,
    hard_images,
    mean_steps,
    of_images,
    terms,
)
from cytoforge.studies.specification import LabelMethod, Protocol

METHODS: dict[LabelMethod, str] = {  # in words
    "paper": "from scratch, two classes and the paper's augmentation",
    "scratch": "from scratch",
    "two-stage": "from scratch, two-stage",
    "base": "from the base model",
    "base-two-stage": "from the base model, two-stage",
    "base-cyclegan": "from the base model, cyclegan",
    "base-cyclegan-unlabelled": "from the base model, cyclegan with unlabelled images",
    "base-mean-teacher": "from the base model, mean teacher with unlabelled images",
}
EXPLAINED = (
    "Needed: how many labelled images another training needs for the same F at IoU 0.5, read off its curve, which is "
    "made monotone and interpolated over the logarithm of the number of images. Label efficiency is that number "
    "divided by the training's own. Nothing is extrapolated: > says that the other training does not reach this F with "
    "the most labels that were measured, < that it does with the fewest. Intervals (95 %) resample seeds and test "
    "images, for both trainings at once; with three seeds they are narrow."
)
REFERENCES: tuple[LabelMethod, ...] = ("paper", "scratch")  # whose labels label efficiency counts
THRESHOLDS = {0.5: 0, 0.7: 2}  # IoU: place among the scores of an image
APART = 1.05  # ratio by which points of one amount are drawn apart, so that their intervals can be told apart


def present_limited_data(measured: MeasuredLimitedData) -> Presentation:
    """Show scores by amount of labels on all, easy and hard test images, and the label efficiency of each training."""
    study, groups = measured.study, by_difficulty(measured.touching)
    report = Report("Learning curves", f"{len(study.seeds)} seeds, {study.budget.told} each; {terms(study)}")
    report.text(
        f"Each training has a budget of {study.budget.told} and no other labels than those counted, part of which it "
        "keeps for validation; simulating and painting come on top. Crops count by their cells, as a share of those "
        "that a whole image has on average. The base model has learned from simulated images and from annotated ones "
        "that NOTICE names; these are not counted, and images like those flatter it. "
        f"{hard_images(measured.touching)}."
    )
    report.text("; ".join(f"{method}: {words}" for method, words in METHODS.items() if method in study.methods) + ".")
    for sentence in measured.left_out:
        report.text(f"{sentence}.")
    caption = (
        "on the test images by number of labelled images, which rises by factors, with 95 % intervals. Points of one "
        "number are drawn side by side. Dashed: the base model as it is."
    )
    report.figure(
        _figure(measured, {f"F at IoU {iou}": (groups["all"], place) for iou, place in THRESHOLDS.items()}),
        f"F {caption}",
    )
    if "easy" in groups:
        halves = {f"{half} images": (groups[half], 0) for half in ("easy", "hard")}
        report.figure(_figure(measured, halves), f"F at IoU 0.5 {caption}")
    presentation = Presentation(report, facts={"touching": dict(measured.touching), "left_out": [*measured.left_out]})
    parts = [("all", protocol) for protocol in study.protocols]
    parts += [(group, study.protocols[0]) for group in groups if group != "all"]
    tables = {part: _rows(measured, part[0], groups[part[0]], part[1]) for part in parts}
    presentation.rows = [row for rows in tables.values() for row in rows]
    efficiency = [name for name in presentation.rows[0] if name.startswith(("needed", "efficiency"))]
    if efficiency:
        report.heading("Label efficiency")
        report.text(EXPLAINED)
        for (group, protocol), rows in tables.items():
            caption = f"Labels needed, {group} test images ({len(groups[group])}), protocol {protocol}."
            presentation.columns(rows, ["labels", "training", "F at IoU 0.5", *efficiency], caption)
    report.heading("Scores")
    for (group, protocol), rows in tables.items():
        shown = [name for name in rows[0] if name not in ("test images", "protocol", *efficiency)]
        caption = f"F of {group} test images ({len(groups[group])}), protocol {protocol}. {PROTOCOLS}"
        presentation.columns(rows, shown, caption)
    return presentation


class _Point(NamedTuple):
    """A training with an amount of labels; without either the base model as it is."""

    labels: str
    method: LabelMethod | None
    amount: Amount | None
    found: Sequence[SegmenterScores]


def _points(measured: MeasuredLimitedData) -> list[_Point]:
    return [_Point("none", None, None, measured.zero)] + [
        _Point(labels, method, measured.amounts[labels], found)
        for labels, arms in measured.curves.items()
        for method, found in arms.items()
    ]


def _f(found: Sequence[SegmenterScores], names: Collection[str], place: int, protocol: Protocol) -> ScoresByImage:
    """Return F of the test images of these names, for each seed."""
    return of_images(by_image(found, "f_score", place, protocol), names)


def _rows(
    measured: MeasuredLimitedData, group: str, names: Collection[str], protocol: Protocol
) -> list[dict[str, Cell]]:
    """Return a row for the base model as it is, and for each amount and training, on some of the test images."""
    references = [method for method in REFERENCES if method in measured.study.methods]
    curves = {
        reference: {  # of two amounts of as many images the later, whole images rather than crops
            measured.amounts[labels].images: _f(arms[reference], names, 0, protocol)
            for labels, arms in measured.curves.items()
        }
        for reference in references
    }
    rows: list[dict[str, Cell]] = []
    for labels, method, amount, found in _points(measured):
        values = {iou: _f(found, names, place, protocol) for iou, place in THRESHOLDS.items()}
        row: dict[str, Cell] = {
            "test images": group,
            "protocol": protocol,
            "labels": labels,
            "cells": 0 if amount is None else round(amount.cells),
            "training": "base" if method is None else method,
            **{f"F at IoU {iou}": estimate(scores) for iou, scores in values.items()},
            "steps": mean_steps(found),
        }
        for reference, curve in curves.items():
            needed = labels_needed([*curve], [*curve.values()], values[0.5])
            others = None if amount is None else measured.curves[labels][reference]
            itself = method == reference
            row |= {
                f"against {reference}": None
                if itself or others is None
                else difference(values[0.5], _f(others, names, 0, protocol)),
                f"needed by {reference}": None if itself else needed,
                f"efficiency against {reference}": None if itself or amount is None else needed.per(amount.images),
            }
        rows.append(row)
    return rows


def _figure(measured: MeasuredLimitedData, panels: Mapping[str, tuple[Collection[str], int]]) -> Figure:
    """Draw the learning curves on some test images at a threshold, a panel each, by title."""
    figure = Figure(figsize=(4.2 * len(panels), 4.6), layout="constrained")
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, (names, place)) in zip(drawn, panels.items(), strict=True):
        _draw(axes, measured, names, place)
        axes.set(title=title, xlabel="labelled images", ylim=(0, 1))
    drawn[0].set_ylabel("F")
    figure.legend(*drawn[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(axes: Axes, measured: MeasuredLimitedData, names: Collection[str], place: int) -> None:
    protocol, methods = measured.study.protocols[0], measured.study.methods
    axes.set_xscale("log")
    for number, method in enumerate(methods):
        points = [
            (measured.amounts[labels].images, estimate(_f(arms[method], names, place, protocol)))
            for labels, arms in measured.curves.items()
            if method in arms
        ]
        shift = APART ** (number - (len(methods) - 1) / 2)
        axes.errorbar(
            [images * shift for images, _ in points],
            [f.value for _, f in points],
            np.maximum([[f.value - f.low for _, f in points], [f.high - f.value for _, f in points]], 0),  # rounding
            marker="os^Dv<>P"[number],
            markersize=4,
            linewidth=1,
            capsize=2,
            label=method,
        )
    level = estimate(_f(measured.zero, names, place, protocol))
    axes.axhline(level.value, color="0.4", linestyle="--", linewidth=1, label="base, no labels")
    axes.axhspan(level.low, level.high, color="0.4", alpha=0.12, linewidth=0)
    axes.set_xticks([amount.images for amount in measured.amounts.values()], [*map(_tick, measured.amounts)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)


def _tick(labels: str) -> str:
    """Return the number of images, or of crops by name, under the axis."""
    return labels.replace(" images", "").replace(" image", "").replace(" ", "\n")
