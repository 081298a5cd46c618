"""What making batches costs against learning from them: how many cores keep a GPU busy.

    python benchmarks/sampler.py --items 20

Preset paper: its widths, windows and batches, and VGG-19 to relu5_1 with drawn weights. Items are cut out of ten
phantoms of 1024 x 1024 px that lie in memory, by one thread; seconds are of the processor, medians over items. FLOPs
are two for each multiply-add of convolutions and matrix products, of forward and backward passes, counted in a step of
one item whose sides are a quarter and multiplied by 16 and by the batch. A GPU is taken to reach UTILISATION of its
dense peak in bfloat16, which is more than such networks usually do. Reading and decoding files is not counted: that
happens once, up to 4 GiB of images. Writes sampler.json beside this file.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from cytoforge.cells.crops import SIDE
from cytoforge.data.dataset import Item
from cytoforge.networks.tracker import Tracker
from cytoforge.simulation.phantom import phantom
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes import vid2vid
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.cycle_gan import CycleGAN
from cytoforge.training.recipes.mean_teacher import MeanTeacher
from cytoforge.training.recipes.networks import build, describe_generator, describe_segmenter
from cytoforge.training.recipes.paired_gan import PairedGAN
from cytoforge.training.recipes.recipe import Recipe
from cytoforge.training.recipes.super_resolution import SuperResolutionGAN
from cytoforge.training.recipes.tgan import MovieGAN
from cytoforge.training.recipes.tracking import Tracking
from cytoforge.training.samplers.clips import Clips, DoublingClips
from cytoforge.training.samplers.items import Drawing, Pair, Sampler
from cytoforge.training.samplers.moves import Moves, MoveSampler
from cytoforge.training.samplers.pairs import Pairs
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.tasks import movie, super_resolution
from measuring import provenance
from movie_step import drawn_vgg

FRAMES, SIDES, CELLS = 14, 1024, 150
PEAKS = {"RTX 4090": 165e12, "A100": 312e12, "H100": 989e12}  # dense bfloat16, FLOP/s, as their makers say
UTILISATION = 0.4
SMALLER = 4  # of the sides of the windows whose FLOPs are counted


@dataclass(frozen=True)
class Case:
    parameters: Any
    recipe: Callable[[Any], Recipe]
    sampler: Callable[[Drawing], Sampler]
    policies: tuple[str, ...] = ("strong", "paper")
    plan: Any = None
    """of the batch, where it is not that of the beginning of a training"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20)
    count = parser.parse_args().items
    torch.set_num_threads(1)
    found = []
    for name, case in cases().items():
        flops = counted(case)
        for policy in case.policies:
            seconds = per_item(case, policy, count)
            found.append(row(name, policy, case.parameters.batch, flops, seconds))
            print(json.dumps(found[-1]), flush=True)
    command = f"python benchmarks/sampler.py --items {count}"
    result = {"provenance": provenance(command), "utilisation": UTILISATION, "peaks": PEAKS, "results": found}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")


def row(name: str, policy: str, batch: int, flops: float, seconds: float) -> dict[str, Any]:
    """How long the sampler and each GPU take, and how many cores make batches as fast as the GPU learns from them."""
    cores = {gpu: batch * seconds * UTILISATION * peak / flops for gpu, peak in PEAKS.items()}
    return {
        "recipe": name,
        "augmentation": policy,
        "batch": batch,
        "tflop_per_step": round(flops / 1e12, 2),
        "ms_per_item": round(1e3 * seconds, 1),
        "items_per_core_second": round(1 / seconds, 1),
        "gpu_ms_per_step": {gpu: round(1e3 * flops / (UTILISATION * peak), 1) for gpu, peak in PEAKS.items()},
        "cores": {gpu: round(number, 2) for gpu, number in cores.items()},
    }


def size_of(parameters: Any) -> tuple[int, int]:
    return getattr(parameters, "crop", (SIDE, SIDE))


def counted(case: Case) -> float:
    """FLOPs of a step of the whole batch."""
    height, width = size_of(case.parameters)
    smaller = 1 if case.recipe is tracking else SMALLER
    drawing = Drawing(size=(height // smaller, width // smaller), count=1, policy="flip", seed=0)
    sampler = case.sampler(drawing)
    batch = sampler.cut(0, sampler.plan(0, 0.0) if case.plan is None else case.plan)
    trainer = Trainer(case.recipe(case.parameters), Fabric(accelerator="cpu", devices=1), decay=0.999)
    with FlopCounterMode(display=False) as counter:
        trainer.step(batch, 0.5)
    return float(counter.get_total_flops()) * smaller**2 * case.parameters.batch


def per_item(case: Case, policy: str, count: int) -> float:
    """Processor seconds for an item."""
    sampler = case.sampler(Drawing(size=size_of(case.parameters), count=1, policy=policy, p_vanilla=0.2, seed=0))
    spent = []
    for step in range(-3, count):
        begin = time.process_time()
        sampler.cut(step + 3, sampler.plan(step + 3, 0.0) if case.plan is None else case.plan)
        if step >= 0:  # the first have read what the others find in memory
            spent.append(time.process_time() - begin)
    return statistics.mean(spent) if policy == "paper" else statistics.median(spent)


def images() -> Callable[[int], Pair]:
    made = [phantom(seed, (SIDES, SIDES), CELLS) for seed in range(FRAMES)]
    pairs = [((image / np.float32(127.5) - 1)[None].astype(np.float32), labels) for image, labels in made]
    return lambda i: pairs[i]


def tracking(parameters: Any) -> Recipe:
    return Tracking(build(Tracker, 0, "tracker", {"in_channels": 1, "width": parameters.width}), parameters.rate)


def cases() -> dict[str, Case]:
    read, vgg = images(), drawn_vgg()
    items = [Item(f"01_{t}", group="01", frame=t) for t in range(FRAMES)]
    names = [item.name for item in items]
    moves = Moves(items, read)
    segmentation, teacher = hyperparameters.SEGMENTATION["paper"], hyperparameters.MEAN_TEACHER["paper"]
    generator = replace(hyperparameters.GENERATOR["paper"], background="painted")
    cycle, tgan = hyperparameters.CYCLE_GAN["paper"], hyperparameters.MOVIE["paper"]
    baseline, enlarging = hyperparameters.VID2VID["paper"], hyperparameters.SUPER_RESOLUTION["paper"]
    small = [[np.full((1, SIDES // 2, SIDES // 2), 2**15, np.uint16)] for _ in names]

    def windows(drawing: Drawing) -> Windows:
        return Windows(names, read, drawing)

    def pairs_of_windows(drawing: Drawing) -> Windows:
        return Windows(names, read, drawing, unlabelled=windows(drawing.following))

    def clips(drawing: Drawing) -> Clips:
        return Clips(items, read, drawing, lead=tgan.window - 1, longest=tgan.clip)

    def moving(parameters: Any) -> Recipe:
        return MovieGAN.build(parameters, movie.describe(parameters, 1), 0, vgg)

    def both(parameters: Any) -> Recipe:
        described = {"segmenter": describe_segmenter(parameters, 1), "generator": describe_generator(parameters, 1)}
        return CycleGAN.build(parameters, described, 0, vgg)

    return {
        "conventional": Case(segmentation, lambda p: Conventional.build(p, describe_segmenter(p, 1), 0), windows),
        "mean_teacher": Case(teacher, lambda p: MeanTeacher.build(p, describe_segmenter(p, 1), 0), pairs_of_windows),
        "paired_gan": Case(
            generator, lambda p: PairedGAN.build(p, describe_generator(p, 1), 0, vgg), windows, ("flip", "paper")
        ),
        "cycle_gan": Case(cycle, both, windows),
        "tgan, 1 frame": Case(tgan, moving, clips, ("flip", "paper"), plan=1),
        "tgan, 10 frames": Case(tgan, moving, clips, ("flip", "paper"), plan=10),
        "super_resolution": Case(
            enlarging,
            lambda p: SuperResolutionGAN.build(p, super_resolution.describe(p, 1), 0, vgg),
            lambda drawing: Pairs(names, read, small, 2, drawing),
            ("flip", "paper"),
        ),
        "vid2vid, 1 frame": Case(
            baseline,
            lambda p: vid2vid.Vid2VidGAN.build(p, vid2vid.describe(p, 1), 0, vgg),
            lambda drawing: DoublingClips(items, read, drawing, lead=vid2vid.LEAD, first=1),
            ("flip",),
            plan=1,
        ),
        "tracking": Case(hyperparameters.TRACKER["paper"], tracking, lambda drawing: MoveSampler(moves, drawing)),
    }


if __name__ == "__main__":
    main()
