"""Write docs/results.md from the JSON files in benchmarks/: no figure in it is typed by hand.

python benchmarks/results.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.metrics.estimates import nested_estimate

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "results.md"
WAYS = {
    "otsu": "Otsu + watershed, no training",
    "paper-conventional": "conventional, the paper's augmentation, two classes",
    "conventional": "conventional, cytoforge's defaults",
    "cyclegan": "cyclegan, warm start",
}
NOTES = {
    "usiigaci": (
        "Phase contrast (Usiigaci T98G, 15 test images, at a third of the resolution; masks are brought back to "
        "1022 x 1024 and scored there). Other tools, trained from scratch on five whole images of this set and scored "
        "at a third of the resolution, so not quite the same way, one seed each, by no script of this project: "
        "Cellpose 3.1 F .811 / .602 at IoU "
        ".5 / .7 after 363 s of one core; StarDist 0.9 F .707 / .246 after 868 s of one core."
    ),
    "dsb256": "Fluorescence nuclei (2018 Data Science Bowl, 100 test images of 256 x 256).",
}


STUDIES = {  # kind: heading and what to know
    "limited-data": (
        "A few labelled crops: one stage or two",
        "Crops of 176 x 176 px at the scale given, nested, drawn for each seed, training and validation "
        "together; of a single crop a strip is held out. Conventional training has cytoforge's defaults (strong "
        "augmentation, border class). Two-stage training has the same time for everything but simulating and "
        "painting. The control is the conventional training, ended after as many steps as the segmenter of the two "
        "stages took. Intervals resample seeds and test images; with three seeds they are narrow. F against "
        "conventional is the mean difference by seed and image. "
        "Two-stage training was changed once after its scores on these test images had been seen, and again on "
        "other images, and measured again (trials: benchmarks/studies/limited-data.md). All of this was before "
        "generators added cells to real backgrounds. One training with these (in the same file) is no better.",
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
        "paper's FID (98, 43, 23) comes from other features and a wrong formula and does not compare. Intervals "
        "resample seeds only.",
    ),
    "extrapolation": (
        "Denser than seen (cGAN-Seg, Figure 5)",
        "One generator, masks simulated from sparse to dense, eight of each; faithfulness is the share of the mask's "
        "cells that a segmenter trained on the same real images finds.",
    ),
    "training": (
        "Few images, cyclegan, or all images (cGAN-Seg, Figure 2 and Table 1)",
        "The three networks, trained conventionally and in the cycle on few images, and conventionally on all, each in "
        "equal time. The paper trained for hours and scored by its own protocol, so its tables do not compare.",
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


def load(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(HERE.glob(pattern))]


def per_image(record: dict[str, Any], threshold: int) -> np.ndarray:
    return np.array([np.nan if (f := i["f_score"][threshold]) is None else f for i in record["test"].values()])


def interval(values: np.ndarray) -> str:
    """Mean over seeds and images with its 95 % interval, which resamples both; `values` is (seeds, images)."""
    mean = nested_estimate(values, np.random.default_rng(0))
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    header = [cell.replace("|", "\\|") for cell in header]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def few_labels(dataset: str) -> list[str]:
    records = load(f"few_labels/{dataset}-*.json")
    if not records:
        return []
    first = next(r["provenance"] for r in records if r["way"] != "otsu")
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
    rows, groups = [], []
    names = list(records[0]["test"])
    for way, title in WAYS.items():
        own = [r for r in records if r["way"] == way]
        if not own:
            continue
        columns = [np.stack([per_image(r, k) for r in own]) for k in range(5)]
        dice = np.array([[i["dice"] for i in r["test"].values()] for r in own], dtype=float)
        single = ", ".join(f"{np.nanmean(per_image(r, 0)):.3f}" for r in own)
        steps = "-" if way == "otsu" else f"{np.mean([r['steps'] for r in own]):.0f}"
        rows.append(
            [title, *(interval(columns[k]) for k in (0, 2, 4)), f"{np.nanmean(dice):.3f}", single, steps],
        )
        if dataset == "usiigaci":
            easy, hard = columns[0][:, :7], columns[0][:, 7:]
            groups.append([title, interval(easy), interval(hard)])
    header = ["way", "F at IoU 0.5", "0.7", "0.9", "Dice", "F .5 of each seed", "steps (mean)"]
    lines += table(header, rows)
    if groups:
        lines += [
            f"The test images fall into two groups; F at IoU 0.5 of the first seven by name ({names[0]} ...) and "
            "of the other eight:",
            "",
            *table(["way", "first seven", "other eight"], groups),
        ]
    verdicts = [f"{r['way']}, seed {r['seed']}: {r['verdict']}" for r in records if r["way"] != "otsu"]
    lines += ["<details><summary>How each training ended</summary>", "", *(f"- {v}" for v in verdicts), ""]
    lines += ["</details>", "", f"Command: `{first['command']}`", ""]
    return lines


def shown(cell: Any) -> str:
    """A cell of a study's table."""
    if isinstance(cell, dict):
        low, high = cell["low"], cell["high"]
        return f"{cell['value']:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")
    return "-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)


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
        dataset = "-".join(name.split("/")[0] for name in settings["data"].split(", "))
        seeds, minutes = settings["seeds"], settings["minutes"]
        lines += [
            f"### {dataset}",
            "",
            f"{minutes:g} min of one thread's processor time for each training, preset {settings['preset']}, scale "
            f"{settings['scale']:g}, {seeds} seed{'s' if seeds > 1 else ''}, tested on {tested(settings)}.",
            "",
        ]
        for header, group in tables(rows):
            lines += table(header, [[shown(row.get(column)) for column in header] for row in group])
        for picture in sorted(OUT.parent.glob(f"images/{kind}-{dataset}-*.png")):
            lines += [f"![{CAPTIONS[kind]}](images/{picture.name})", ""]
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
            ["IoU matching and scores, 512 x 768, 100 cells", f"{small['scores']['median_ms']:.1f} ms, "
             f"{small['times_faster']:.0f} times a per-pixel Python loop", "5 ms, 20 times"],
        )  # fmt: skip
        rows.append(
            ["IoU matching and scores, 4096 x 4096, 10,000 cells", f"{large['scores']['median_ms']:.0f} ms", "1 s"]
        )
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
             f"{mosaic['peak_gib']:.2f} GiB, {mosaic['cpu_s']:.0f} s of CPU", f"{largest['limit_gib']:g} GiB"],
        )  # fmt: skip
    for found in load("cyclegan_step.json"):
        rows.append(
            ["cyclegan step, paper's widths, 128 x 192, batch 1, one thread: CPU time against the plain implementation",
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
        rows.append(["simulate a mask of 512 x 768 with 150 cells, CPU time", each, "0.15 s (published script: 57 s)"])
    for found in load("score_tracking.json"):
        spent = found["results"]["median_cpu_s"]
        steps = ", ".join(f"{name.replace('_', ' ')} {seconds:.2f}" for name, seconds in spent.items() if name != "all")
        rows.append(
            ["score the tracks of 100 frames of 1024 x 1024 with 500 cells, masks in memory, CPU time",
             f"{spent['all']:.1f} s ({steps})", f"{found['results']['goal_s']:g} s"],
        )  # fmt: skip
    for found in load("generate.json"):
        few, many = (m for m in found["memory"] if m["width"] == 16)
        rows += [
            [
                "generate images, paper's width, 512 x 768, one thread: CPU time against the bare network",
                f"{found['time']['times_network_alone']:.2f}",
                "1.3",
            ],
            [
                f"the same, peak memory with {few['images']} and with {many['images']} images of 512 x 512, width 16",
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
        rows.append(["cytoforge --help", f"{found['help_s']:.2f} s", "0.7 s"])
    for found in load("demo.json"):
        rows.append(
            [
                "cytoforge demo, two cores",
                f"{found['seconds'] / 60:.1f} min, {found['peak_gib']:.1f} GiB",
                "6 min, 4 GiB",
            ]
        )
    return lines + table(["what", "measured", "goal"], rows)


def main() -> None:
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
        *(line for kind, (title, text) in STUDIES.items() for line in studies(kind, title, text)),
        *speed(),
    ]
    notes = HERE / "few_labels" / "observations.md"
    if notes.exists():
        lines += ["## What the pictures show", "", notes.read_text()]
    OUT.write_text("\n".join(lines).rstrip() + "\n")
    print(f"{OUT}: written")


if __name__ == "__main__":
    main()
