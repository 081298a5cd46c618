"""How much longer a segmenter takes than its network alone, at usual sizes of images.

    python benchmarks/segment_speed.py

The base model segments phantom images in memory whose cells have the size that it knows, so that none is resized. The
network alone sees the whole image at once, as often as the segmenter does: once for each mirror image. Calls of both
alternate, so that a change of the machine's speed hits both; times are CPU times of one thread. `tiles` is the network
as the segmenter calls it, with probabilities and their mean. Writes segment_speed.json beside this file.
"""

import argparse
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tiling import MIRRORED, probabilities
from measuring import by_turns, keep, provenance
from segment_large import stained

SIDES, REPEATS, GOAL = (256, 512, 1024), 5, 1.1
KNOWN = 18.0  # px across: the cells that the base model knows best


def measure(side: int, precision: str, repeats: int) -> dict[str, Any]:
    segmenter = Segmenter.load("base", threads=1, precision=precision)
    image, _ = stained(0, (side, side), side * side // 860)
    limits = segmenter.normalisation.measure(image[None])
    pixels = segmenter.normalisation.apply(image[None], limits)
    views = MIRRORED[: segmenter.views]

    @torch.inference_mode()
    def alone() -> None:
        for axes in views:
            segmenter.network(torch.from_numpy(pixels)[None].flip(axes))

    ways = {
        "network_alone": alone,
        "tiles": lambda: probabilities(segmenter.network, pixels, segmenter.tile, segmenter.views),
        "segment": lambda: segmenter.segment(image, diameter=KNOWN),
    }
    times = by_turns(ways, repeats)
    with FlopCounterMode(display=False) as counted:
        alone()
    return {
        "side": side,
        "precision": precision,
        "views": segmenter.views,
        **{f"{name}_s": round(value, 4) for name, value in times.items()},
        "ratio": round(times["segment"] / times["network_alone"], 3),
        "gflop": round(counted.get_total_flops() / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    asked = parser.parse_args()
    found = [measure(side, kind, asked.repeats) for kind in ("float32", "bfloat16") for side in asked.sides]
    result = {
        "provenance": provenance(f"python benchmarks/segment_speed.py --sides {' '.join(map(str, asked.sides))}"),
        "results": found,
        "goal_ratio": GOAL,
        "goal_met": all(one["ratio"] <= GOAL for one in found),
    }
    keep(__file__, result)


if __name__ == "__main__":
    main()
