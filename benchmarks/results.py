"""Write docs/results.md from the JSON files in benchmarks/, and fill docs/papers.md and docs/scale.md from them.

    python benchmarks/results.py

No figure is typed by hand: what has no JSON file is not told.
"""

import re
from typing import Any

import numpy as np

import papers
from cytoforge.metrics.efficiency import labels_worth
from measured import (
    DOCS,
    FIRST,
    HERE,
    THRESHOLDS,
    WAYS,
    budget,
    interval,
    load,
    number_of_seeds,
    per_image,
    shown,
    table,
    tools,
    ways,
)

NOTES = {
    "usiigaci": (
        "Phase contrast (Usiigaci T98G, 15 test images, at a third of the resolution; masks are brought back to "
        "1022 x 1024 and scored there)."
    ),
    "dsb256": "Fluorescence nuclei (2018 Data Science Bowl, 100 test images of 256 x 256).",
}


SCORES = [*(f"F at IoU {iou}" if iou == "0.5" else iou for iou in THRESHOLDS), "Dice", "F .5 of each seed"]
STUDIES = {  # kind: heading and what to know
    "limited-data": (
        "What labels are worth: learning curves and label efficiency",
        "Scores by number of labels, drawn anew for each seed, part of them for validation, with equal budgets. "
        "Intervals resample seeds and test images; with three seeds they are narrow. Differences (`against`) are means "
        "by seed and image. `needed by` is how many labelled images another training needs for the same F at IoU 0.5, "
        "and label efficiency that number divided by the training's own; > says that it does not reach this F with "
        "the most labels measured, < that it does with the fewest (see [metrics](metrics.md)).",
    ),
    "dense": (
        "Dense synthetic images (cGAN-Seg, Table 2)",
        "Real images alone, and with synthetic images of simulated cells up to twice as dense, in equal time. Hard "
        "test images are the half with the larger share of touching cells; the paper sorted them by eye, trained for "
        "hours and scored by its own protocol, so its table does not compare. Measured before generators added cells "
        "to real backgrounds.",
    ),
    "ablation": (
        "Parts of the generator (cGAN-Seg, Figure 3)",
        "Generators trained on the same pairs for the same time, scored on masks and images that they have not seen: "
        "KID and FID in Inception's 768 features (too few images for FID: read KID), pairs by LPIPS, SSIM, PSNR. The "
        "paper's FID comes from other features and a wrong formula and does not compare. Intervals resample seeds "
        "only.",
    ),
    "extrapolation": (
        "Denser than seen (cGAN-Seg, Figure 5)",
        "One generator, masks simulated from sparse to dense, eight of each; faithfulness is the share of the mask's "
        "cells that a segmenter trained on the same real images finds.",
    ),
    "training": (
        "Few images, cyclegan, or all images (cGAN-Seg, Figure 2 and Table 1)",
        "Networks trained conventionally and in the cycle on few images, and conventionally on all. Protocol instances "
        "scores cells by their numbers, protocol paper connected components, as the paper does; its images are others.",
    ),
    "versatility": (
        "One generator, several data sets (cGAN-Seg, Figure 4)",
        "A generator for each data set, scored on masks and images that it has not seen.",
    ),
    "movie": (
        "Movies painted by tGAN and vid2vid (tGAN, Table 1, Figures 3 to 5)",
        "Both trained on the same frames for the same time, painting the masks of frames that they have not seen; "
        "`score movie` without any stretch of single frames. The row of the real movie is what the others are to be "
        "read by: each of its frames against the next, its earlier against its later half. Then simulated movies: "
        "drift by length, dense movies painted by tGAN, segmenters of real frames trained on a painted movie, other "
        "backgrounds. The paper's distances come from other features and longer training and do not compare. "
        "Minutes are far too few for movies that look real.",
    ),
    "tracking": (
        "Trackers on real and painted movies, and trained on them (tGAN, Tables 2 and 3)",
        "First: frames segmented by one segmenter, trained on real frames, and tracked; truth is what was painted on, "
        "and `|x - real|` the distance from the same tracker's score on the real movie. Then: the DeepSea tracker "
        "trained on a few real frames, on movies painted after these same frames, or on both, linking the true masks "
        "of the test movie. The generator's time comes on top of the tracker's. u373 was measured before short "
        "trainings of movies ended as their generator is used and had instances as their condition (trials: "
        "benchmarks/studies/movie.md). The tracks of hela are a tracker's solution.",
    ),
}
CAPTIONS = {
    "ablation": "Mask, real image, and what each generator of the table painted, in its order",
    "extrapolation": "Simulated masks of growing density, painted by one generator",
    "versatility": "Mask, real image and painting of images that the generator has not seen",
    "movie": "Masks and frames over time: real and painted, or painted on simulated masks, or before other backgrounds",
}


def few_labels(dataset: str) -> list[str]:
    found = ways(dataset)
    if not found:
        return []
    records = [one for own in found.values() for one in own]
    first = min((one for one in records if one["way"] != "otsu"), key=lambda one: one["way"])["provenance"]
    lines = [
        f"### {dataset}",
        "",
        NOTES[dataset],
        "",
        f"{first['limit']} annotated images (of them one for validation) drawn for each seed, "
        f"{first['minutes']:g} min of training, counted as CPU time of one thread, preset small, scale "
        f"{first['scale']:g}. F of true instances, mean over seeds and test images; the interval resamples both.",
        "",
    ]
    rows = [
        [WAYS[way], *scores(own), "-" if way == "otsu" else f"{np.mean([one['steps'] for one in own]):.0f}"]
        for way, own in found.items()
    ]
    lines += table(["way", *SCORES, "steps (mean)"], rows)
    lines += groups(dataset, {WAYS[way]: own for way, own in found.items()})
    lines += others(dataset)
    ends = sorted((one["way"], one["seed"], one["verdict"]) for one in records if one["way"] != "otsu")
    lines += ["<details><summary>How each training ended</summary>", ""]
    lines += [*(f"- {way}, seed {seed}: {verdict}" for way, seed, verdict in ends), "", "</details>", ""]
    lines += [f"Command: `{first['command']}`", ""]
    return lines


LABELS = {  # start: as the table calls it
    "base": "the base model",
    "scratch": "random weights",
    "weak": "random weights, the paper's augmentation and classes",
}


HARDLY = 0.01  # of F
LONGEST = 360  # seconds of trainings from random weights, by which label efficiency is measured


def labels(dataset: str) -> list[str]:
    """Return what labels are worth from the base model on; nothing where that is not measured."""
    files = load(f"labels/{dataset}.json")
    if not files:
        return []
    (found,) = files
    own: dict[str, list[dict[str, Any]]] = {}
    for key, record in found["measured"].items():
        own.setdefault(key.rpartition(", seed ")[0], []).append(record)
    rows = []
    for key, records in own.items():
        start, _, rest = key.partition(", ")
        trained = "-" if "steps" not in records[0] else f"{np.mean([one['steps'] for one in records]):.0f}"
        rows.append([LABELS[start], rest, *scores(records), trained])
    return [
        f"### From the base model: {dataset}",
        "",
        "Trainings that start from the base model, and from random weights, on the same images: seconds are those of "
        "one core, validation and all included; a strip of each image is for validation. Images are brought to the "
        "size at which their cells suit the network, unless a scale is named. Zero labels: the base model as it is, "
        "at cell diameters that it estimates itself. A training from it on so few cells as "
        "those of one crop ends before its time (see its steps). F of true instances on the test images, scored at "
        "their own size, mean over seeds and images; the interval resamples both.",
        "",
        *table(["starts from", "labels and training", *SCORES, "steps (mean)"], rows),
        *groups(dataset, {f"{LABELS[key.partition(', ')[0]]}, {key.partition(', ')[2]}": v for key, v in own.items()}),
        *worth(own),
        f"Command: `{found['command']}`",
        "",
    ]


def worth(own: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Label efficiency of the trainings from the base model, by those from random weights that took the longest."""
    curves: dict[str, dict[int, np.ndarray]] = {}
    for key, records in own.items():
        if found := re.fullmatch(rf"(scratch|weak), (\d+) images?, {LONGEST} s", key):
            curves.setdefault(found[1], {})[int(found[2])] = per_image(records)
    curves = {start: dict(sorted(curve.items())) for start, curve in curves.items() if len(curve) > 1}
    if not curves:
        return []
    rows = []
    for key, records in own.items():
        if found := re.fullmatch(r"base, (\d+) images?, \d+ s", key):
            cells = []
            for curve in curves.values():
                needed = labels_worth(
                    [*curve], np.stack([*curve.values()]), per_image(records), np.random.default_rng(0)
                )
                cells += [shown(each.to_json()) for each in (needed, needed.per(int(found[1])))]
            rows.append([key.removeprefix("base, "), *cells])
    columns = [f"{what} {LABELS[start]}" for start in curves for what in ("images from", "label efficiency against")]
    amounts = " or ".join(str(amount) for amount in next(iter(curves.values())))
    return [
        f"How many images trainings of {LONGEST} s from random weights, measured with {amounts} images, need for the "
        "same F at IoU 0.5; label efficiency is that number divided by the images that the training from the base "
        "model got:",
        "",
        *table(["from the base model", *columns], rows),
        *idle(curves),
    ]


def idle(curves: dict[str, dict[int, np.ndarray]]) -> list[str]:
    """Say so where the most images teach random weights hardly more than the second most."""
    said = []
    for start, curve in curves.items():
        means = {amount: np.nanmean(scores) for amount, scores in curve.items()}
        *_, fewer, most = means
        if means[most] < means[fewer] + HARDLY:
            said.append(
                f"In {LONGEST} s {most} images teach {LABELS[start]} hardly more than {fewer} do: time is short there, "
                "not labels."
            )
    return [" ".join(said), ""] if said else []


def scores(own: list[dict[str, Any]]) -> list[str]:
    """F at several IoU, Dice, and F of each seed, of one way of training."""
    dice = np.array([[image["dice"] for image in one["test"].values()] for one in own], dtype=float)
    single = ", ".join(f"{np.nanmean(seed):.3f}" for seed in per_image(own))
    return [
        *(shown(interval(per_image(own, place))) for place in THRESHOLDS.values()),
        f"{np.nanmean(dice):.3f}",
        single,
    ]


def groups(dataset: str, found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The easier and the harder test images of usiigaci apart."""
    if dataset != "usiigaci" or not found:
        return []
    name = next(iter(next(iter(found.values()))[0]["test"]))
    rows = [
        [title, shown(interval(per_image(own)[:, :FIRST])), shown(interval(per_image(own)[:, FIRST:]))]
        for title, own in found.items()
    ]
    return [
        f"The test images fall into two groups; F at IoU 0.5 of the first seven by name ({name} ...) and "
        "of the other eight:",
        "",
        *table(["way", "first seven", "other eight"], rows),
    ]


def others(dataset: str) -> list[str]:
    """Other tools, from scratch on the same images."""
    found = tools(dataset)
    if not found:
        return []
    first = next(iter(found.values()))[0]["provenance"]
    rows = [
        [
            title,
            *scores(own),
            f"{np.mean([one['steps'] for one in own]):.0f}",
            f"{np.mean([one['training_core_seconds'] for one in own]):.0f} s",
            f"{np.mean([one['inference_core_seconds'] for one in own]):.2f} s",
            f"{own[0]['images_trained_on']}",
        ]
        for title, own in found.items()
    ]
    return [
        "Other tools, trained from scratch on the same images and scored in the same way, time of one core. They were "
        f"given {first['core_seconds']:g} s for training. F of each seed tells how many seeds there are. StarDist "
        "holds one of the images out for validation, as cytoforge does; the others learn from all.",
        "",
        *table(["tool", *SCORES, "steps (mean)", "training", "segmenting an image", "images trained on"], rows),
        *groups(dataset, found),
        f"Command: `{first['command']}`",
        "",
    ]


def scale(given: float | str) -> str:
    """A scale, or auto."""
    return given if isinstance(given, str) else f"{given:g}"


def tested(settings: dict[str, Any]) -> str:
    """What a study tested on, in words."""
    if settings["test"]:
        return str(settings["test"])
    if settings.get("test_sequence"):
        return f"sequence {', '.join(settings['test_sequence'])}"
    what = "the last frames" if "test_sequence" in settings else "images drawn of each set"
    return f"{what}, {settings['test_share']:.0%}"


def tables(rows: list[dict[str, Any]]) -> list[tuple[list[str], list[dict[str, Any]]]]:
    """Part the rows of a study of several questions into tables: columns and rows; some rows lack columns."""
    found: list[tuple[list[str], list[dict[str, Any]]]] = []
    for row in rows:
        header, own = (set(found[-1][0]), set(row)) if found else (set(), set(row))
        if found and (own <= header or header <= own):
            columns = found[-1][0] if own <= header else list(row)
            found[-1] = columns, [*found[-1][1], row]
        else:
            found.append((list(row), [row]))
    return found


def studies(kind: str, title: str, text: str) -> list[str]:
    """The tables of all studies of a kind, with the command that makes each again."""
    found = load(f"studies/{kind}-*.json")
    if not found:
        return []
    lines = [f"## {title}", "", text, ""]
    for study in found:
        settings, rows = study["settings"], study["rows"]
        name = study["command"].split()[-1]
        lines += [
            f"### {name.removeprefix(f'{kind}-').replace('.', ', ')}",
            "",
            f"{budget(settings)} for each training, preset {settings['preset']}, scale {scale(settings['scale'])}, "
            f"{number_of_seeds(settings['seeds'])}, tested on {tested(settings)}.",
            "",
        ]
        for header, group in tables(rows):
            lines += table(header, [[shown(row.get(column)) for column in header] for row in group])
        for picture in sorted(DOCS.glob(f"images/{name}-*.png")):
            lines += [f"![{CAPTIONS[kind]}](images/{picture.name})", ""]
        if "note" in study:
            lines += [study["note"], ""]
        if "stopped" in study:
            lines += [f"The study was stopped {study['stopped']}.", ""]
        lines += [f"Command: `{study['command']}`", ""]
    return lines


def speed() -> list[str]:
    lines = ["## Speed and memory", ""]
    rows: list[list[str]] = []
    if found := load("matching.json"):
        small, large = found[0]["results"]
        rows.append(
            [f"IoU matching and scores, {small['height']} x {small['width']}, {small['cells'][0]:,} cells",
             f"{small['scores']['median_ms']:.1f} ms, "
             f"{small['times_faster']:.0f} times a per-pixel Python loop",
             f"{small['goal_ms']:g} ms, {small['goal_times_faster']:g} times"],
        )  # fmt: skip
        rows.append(
            [f"IoU matching and scores, {large['height']} x {large['width']}, {large['cells'][0]:,} cells",
             f"{large['scores']['median_ms']:.0f} ms", f"{large['goal_ms'] / 1000:g} s"],
        )  # fmt: skip
    for found in load("segment_latency.json"):
        height, width = found["shape"]
        torch_s = found["import_torch"]["median_s"]
        for result in found["results"]:
            array, whole, threads = result["segment_array"], result["cytoforge_segment"], result["threads"]
            rows += [
                [
                    f"segment an image of {height} x {width}, small preset's network, {threads} thread(s)",
                    f"{array['median_s']:.2f} s (best {array['best_s']:.2f}, CPU {array['cpu_s']:.2f}), "
                    f"{result['times_network_alone']:.2f} times the network alone",
                    f"{found['goal_s']} s",
                ],
                [
                    f"the same from the command line, cold start included, {threads} thread(s)",
                    f"{whole['median_s']:.1f} s (CPU {whole['cpu_s']:.1f}), of which importing torch {torch_s:.1f} s",
                    f"{found['goal_start_s']:g} s",
                ],
            ]
    for found in load("segment_large.json"):
        largest = found["results"][-1]
        side, mosaic = largest["side"], largest["mosaic"]
        rows.append(
            [f"segment {side:,} x {side:,} px, {mosaic['cells']:,} cells, network of width {largest['width']}",
             f"{mosaic['peak_gib']:.2f} GiB, {mosaic['cpu_s']:.0f} s of CPU",
             f"{largest['limit_gib']:g} GiB"],
        )  # fmt: skip
    for found in load("cyclegan_step.json"):
        *_, height, width = found["shape"]
        rows.append(
            [f"cyclegan step, paper's widths, {height} x {width}, batch 1, one thread: CPU time against the plain "
             "implementation",
             f"{found['ratio']:.2f} ({found['ours_s']:.2f} s against {found['baseline_s']:.2f} s; "
             f"{found['ours_gflop']:.0f} against {found['baseline_gflop']:.0f} GFLOP counted)", "none"],
        )  # fmt: skip
    for found in load("movie_step.json"):
        for one in found["results"]:
            height, width = one["shape"]
            rows.append(
                [f"train movie, step of a frame, paper's widths, {height} x {width}: FLOPs against the published step",
                 f"{one['ratio_of_flops']:.2f} ({one['gflop']:.0f} against {one['published_gflop']:.0f} GFLOP; "
                 f"ours {one['cpu_s']:.1f} s of CPU)",
                 f"{found['goal']}"],
            )  # fmt: skip
    for found in load("simulate_masks.json"):
        times = {result["layout"]: result["median_cpu_s"] for result in found["results"]}
        each = ", ".join(f"{layout} {seconds:.2f} s" for layout, seconds in times.items())
        height, width, cells = found["provenance"]["height_width_cells"]
        goal = found["results"][0]["goal_s"]
        rows.append([f"simulate a mask of {height} x {width} with {cells} cells, CPU time", each, f"{goal:g} s"])
    for found in load("score_tracking.json"):
        height, width, frames, cells = found["provenance"]["height_width_frames_cells"]
        spent = found["results"]["median_cpu_s"]
        steps = ", ".join(f"{name.replace('_', ' ')} {seconds:.2f}" for name, seconds in spent.items() if name != "all")
        rows.append(
            [f"score the tracks of {frames} frames of {height} x {width} with {cells} cells, masks in memory, CPU time",
             f"{spent['all']:.1f} s ({steps})", f"{found['results']['goal_s']:g} s"],
        )  # fmt: skip
    for found in load("generate.json"):
        height, width = found["time"]["shape"]
        few, many = found["memory"][:2]
        side = few["shape"][0]
        rows += [
            [
                f"generate images, paper's width, {height} x {width}, one thread: CPU time against the bare network",
                f"{found['time']['times_network_alone']:.2f}",
                f"{found['goal']:g}",
            ],
            [
                f"the same, peak memory with {few['images']} and with {many['images']} images of {side} x {side}, "
                f"width {few['width']}",
                f"{few['peak_gib']:.2f} and {many['peak_gib']:.2f} GiB",
                "equal",
            ],
        ]
    for found in load("generate_movie.json"):
        rate = found["rate"]
        height, width = rate["shape"]
        rows.append(
            [f"generate movie, paper's width, {height} x {width}, one thread: rate of the bare network, CPU time",
             f"{rate['rate_of_network_alone']:.2f}", f"{found['goal']:g} or more"],
        )  # fmt: skip
        for method, name in {"movie": "tgan", "vid2vid": "vid2vid"}.items():
            few, many = (m for m in found["memory"] if m["method"] == method)
            rows.append(
                [f"the same by {name}, peak memory with {few['frames']} and with {many['frames']} frames, "
                 f"width {few['width']}", f"{few['peak_gib']:.2f} and {many['peak_gib']:.2f} GiB", "equal"],
            )  # fmt: skip
    for found in load("linking.json"):
        setting = found["setting"]
        rows += [
            [
                f"link {setting['cells']:,} cells a frame of {setting['height']} x {setting['width']}: "
                f"{result['linker']}, CPU time",
                f"{result['frames_per_second']:.0f} frames a second",
                f"{goal:g}" if (goal := result["goal_frames_per_second"]) else "none",
            ]
            for result in found["results"]
        ]
    for found in load("start.json"):
        rows.append(["cytoforge --help", f"{found['help_s']:.2f} s", f"{found['goal_help_s']:g} s"])
    for found in load("demo.json"):
        rows.append(
            [
                "cytoforge demo, two cores",
                f"{found['seconds'] / 60:.1f} min, {found['peak_gib']:.1f} GiB",
                f"{found['goal_s'] / 60:g} min, {found['goal_gib']:g} GiB",
            ]
        )
    return lines + table(["what", "measured", "goal"], rows)


def cycle_parts() -> list[str]:
    """What each part of the cycle teaches the segmenter."""
    lines = [
        "## What the parts of the cycle teach the segmenter (cGAN-Seg, Equations 7 to 11)",
        "",
        "Trainings in the cycle on the paper's terms (usiigaci, small width, until converged). Gradients at the "
        "segmenter's weights. The cosine is that to the gradient of the supervised loss on images that the training "
        "has not seen: above 0 a term improves the segmenter there, below 0 it harms; the norm, with the "
        "term's weight, says how much it counts. Intervals resample the windows of these images. *Apart* is how far "
        "two paintings on one mask differ (mean absolute difference, of 2), and *off* how far a painting differs from "
        "the real image of its mask; losses are the segmenter's.",
        "",
    ]
    measured = [*load("cycle_parts.json"), *load("cycle_parts.unlabelled.json")]
    if not measured:
        return []
    for found in measured:
        runs = found["runs"]
        rows = [
            [
                same[0]["term"],
                *(f"{row['norm']:.1f}, {row['cosine']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]" for row in same),
            ]
            for same in zip(*(each["terms"] for each in runs), strict=True)
        ]
        rows += [
            [what, *(f"{each[key]:.{digits}f}" for each in runs)]
            for what, key, digits in (
                ("paintings apart", "paintings_apart", 3),
                ("paintings off", "painting_to_image", 3),
                ("loss on paintings", "loss_paintings", 2),
                ("loss on the images of the training", "loss_training_images", 2),
                ("loss on unseen images", "loss_unseen_images", 2),
            )
        ]
        heads = [f"seed {seed}: norm, cosine" for seed in range(len(runs))]
        lines += [f"Trained on {found['data']}:", "", *table(["term", *heads], rows), ""]
    return [
        *lines,
        "Styles and noise hardly vary the paintings, and cells in paintings are too easy to find to teach much. The "
        "half of the cycle that begins with an image has a tenth of the weight of the annotated pairs, and what it "
        "teaches on images without masks has hardly anything to do with finding their cells: so these images add "
        "nothing. Why trainings with them also fit the annotated images less well is not explained.",
        "",
        f"Command: `{measured[0]['command']}`",
        "",
    ]


TRACKER_NAMES = {"base": "base (from simulated cells)", "trained": "`train tracker` on the first frames"}


def trackers() -> list[str]:
    """Return how trackers link real movies; nothing where that is not measured."""
    files = load("trackers.json")
    if not files:
        return []
    (found,) = files
    rows: dict[str, dict[tuple[str, str, str], list[dict[str, float]]]] = {}
    for key, record in found["results"].items():
        movie, masks, tracker, frames, _ = key.split(", ")
        own = rows.setdefault(movie, {}).setdefault((masks, tracker, frames.removesuffix(" frames")), [])
        own.append(record)

    def mean(records: list[dict[str, float]], name: str) -> str:
        values = [record[name] for record in records if record[name] is not None]
        if not values:
            return "-"
        digits = ".1f" if name == "switches" else ".3f"
        spread = f" ({min(values):{digits}} to {max(values):{digits}})" if len(values) > 1 else ""
        return f"{np.mean(values):{digits}}{spread}"

    lines = [
        "## Trackers on real movies",
        "",
        "Masks of real movies linked by trackers that learned from no frame of them, and by trackers that `train "
        "tracker` trained on their first frames (a fifth of these, two at least, for validation), on other frames or "
        "another sequence. Wrong masks are the true ones with 3 % of the cells missed, 2 % invented, 5 % of touching "
        "pairs merged and 2 % split, faults such as base and the trained trackers have learned with; each seed draws "
        "them, and the training, anew (mean, least to largest). The true "
        "tracks of hela and of usiigaci_movie are another tracker's solution. By eye, 6 of the 28 divisions in hela's "
        "tested frames are none (tracks 89, 136 and 255 part with a shadow of the background; 194, 198 and 215 meet a "
        "cell that comes near, and two of them divide later), so whoever finds the other 22 and no more scores 0.88. "
        "usiigaci_movie has no divisions in its tracks. Of the switches in u373's true masks, 5 are cells that come "
        "back after 2 frames or more, and 8 are in one cell that the masks cut in two, whose pieces exchange their ids "
        "(tracks 14 and 18, frames 51 to 65); laptrack has these 13, and base loses the smaller piece twice besides. "
        "yeast is one of the sets that the base model's segmenter has "
        "learned from; the tracker has not. What is learned and how was chosen on hela's tested frames with true masks "
        "and one draw of wrong ones; the other movies had no part in it.",
        "",
    ]
    for movie, own in rows.items():
        lines += [f"### {movie}", ""]
        lines += table(
            ["masks", "tracker", "frames learned from", "IDF1", "MOTA", "switches", "LNK", "F of divisions", "seeds"],
            [
                [
                    masks,
                    TRACKER_NAMES.get(tracker, tracker),
                    frames,
                    *(mean(records, name) for name in ("idf1", "mota", "switches", "lnk", "division_f_0")),
                    str(len(records)),
                ]
                for (masks, tracker, frames), records in sorted(own.items(), key=lambda entry: entry[0][0])
            ],
        )
    return [*lines, f"Command: `{found['provenance']['command']}`", ""]


def movie_realism() -> list[str]:
    """Return what the ways to record painted frames do; nothing where that is not measured."""
    files = load("movie_realism.json")
    if not files:
        return []
    (found,) = files
    lines = ["## What the camera and the cells of the training movie do for painted movies", ""]
    lines += [papers.filled((HERE / "movie_realism.md").read_text()), ""]
    for movie, measured in found["movies"].items():
        rows = [
            [
                arm,
                shown(dict(zip(("value", "low", "high"), (told["accuracy"], *told["interval"]), strict=True))),
                *(shown(scores.get(f"{name} ratio")) for name in ("flicker", "background_change", "noise_power")),
                shown(scores["warping error"][0] if scores else None),
                shown(scores.get("clips")),
            ]
            for arm, told, scores in (
                *((arm, scores["classifier"], scores) for arm, scores in measured["painted"].items()),
                *(
                    (f"real frames, {other}", told, {})
                    for other, told in measured["classifier, real frames against"].items()
                ),
            )
        ]
        whole = measured["painted"]["all three"]
        lines += [f"### {movie}", ""]
        lines += [
            f"{measured['learned']} frames learned from in {measured['minutes']:g} min ({measured['steps']} steps), "
            f"{measured['tested']} painted; warping error of the real frames {shown(whole['warping error'][1])}, "
            f"distance of clips of their halves {shown(whole['clips, real halves'])}.",
            "",
        ]
        columns = ["flicker, ratio", "background change, ratio", "noise power, ratio", "warping error", "clips"]
        lines += table(["recorded", "classifier", *columns], rows)
        lines += painted_segmenters(measured["segmenters"])
    return [*lines, f"Command: `{found['provenance']['command']}`", ""]


def painted_segmenters(measured: dict[str, Any]) -> list[str]:
    """Return what segmenters find in real frames that learned from real or from painted ones; seeds side by side."""
    seeds = list(measured.values())
    rows = [
        [arm, *(", ".join(f"{one[arm][score]:.3f}" for one in seeds) for score in seeds[0][arm])] for arm in seeds[0]
    ]
    return table(["segmenter learned from, for a minute", *next(iter(seeds[0].values()))], rows)


def page() -> str:
    """The whole of docs/results.md."""
    lines = [
        "# Results",
        "",
        "Generated by `benchmarks/results.py` from the JSON files in `benchmarks/`; each names its command and "
        "version. All were measured on two cores of a shared AMD EPYC without a GPU: the training steps of cyclegan "
        "and of movies with AVX-512 and bfloat16, the rest on Zen 3 with AVX2 and no bfloat16.",
        "",
        "## Few labels on real images",
        "",
        "Masks are scored on true instances by optimal matching (see [metrics](metrics.md)); the truth is not eroded. "
        "The papers' numbers come from other data, hours of training and another protocol; none is shown here.",
        "",
        *few_labels("usiigaci"),
        *few_labels("dsb256"),
        *labels("usiigaci"),
        *labels("dsb256"),
        *(line for kind, (title, text) in STUDIES.items() for line in studies(kind, title, text)),
        *movie_realism(),
        *cycle_parts(),
        *trackers(),
        *speed(),
    ]
    notes = HERE / "few_labels" / "observations.md"
    if notes.exists():
        lines += ["## What the pictures show", "", papers.filled(notes.read_text())]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    scale = papers.filled((HERE / "scale.md").read_text())
    for name, text in {"results": page(), "papers": papers.page(), "scale": scale}.items():
        (DOCS / f"{name}.md").write_text(text)
        print(f"docs/{name}.md: written")


if __name__ == "__main__":
    main()
