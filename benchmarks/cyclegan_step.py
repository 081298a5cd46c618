"""The cyclegan training step against a straightforward implementation: CPU time, FLOPs and losses of one step.

    python benchmarks/cyclegan_step.py --steps 5

Paper widths, UNet segmenter, VGG-19 to relu5_1 with the same drawn weights on both sides, images of 128 x 192, one
thread. Both start from equal weights and see the same images, styles and noise; their steps alternate, so that a change
of the machine's speed hits both. Writes cyclegan_step.json beside this file.
"""

import argparse
import copy
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cyclegan_baseline import Baseline, Draws, baseline_step, random_batch
from cytoforge.cells.instances import TARGETS
from cytoforge.networks.features import VGG19Features
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.segmentation import UNet
from cytoforge.networks.style_unet import StyleUNet
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.cycle_gan import CycleGAN
from cytoforge.training.recipes.painting import Painting, comparison
from cytoforge.training.samplers.items import Batch
from measuring import provenance

SAME = {  # ours: the baseline's name of the same loss, which both compute before any update
    "adversarial_image": "adversarial_image",
    "adversarial_mask": "adversarial_mask",
    "cycle_mask": "segmentation_recovered",
    "identity_mask": "segmentation_real",
    "discriminator_image": "discriminator_image",
    "discriminator_mask": "discriminator_mask",
}


@dataclass(frozen=True)
class SameDraws(Painting):
    """Paints with the styles and noise that the baseline uses."""

    draws: Draws | None = None

    def __call__(self, given: Tensor, batch: Batch, purpose: str) -> Tensor:
        assert self.draws is not None
        if purpose == "forward":
            return self.generator(given, self.draws.forward_latents, self.draws.forward_noise)
        return self.generator(given, self.draws.backward_latents, self.draws.backward_noise)


def build(baseline: Baseline, draws: Draws) -> CycleGAN:
    networks = {
        "generator": StyleUNet(),
        "segmenter": UNet(),
        "image_discriminator": PatchGAN(),
        "mask_discriminator": PatchGAN(),
    }
    for name, network in networks.items():
        network.load_state_dict(copy.deepcopy(getattr(baseline, name).state_dict()))
        network.train()
    vgg = VGG19Features(baseline.features.state_dict())
    parameters = replace(hyperparameters.CYCLE_GAN["paper"], target="semantic", p_diff=0.0)
    return CycleGAN(
        SameDraws(networks["generator"], draws=draws),
        networks["segmenter"],
        (networks["image_discriminator"], networks["mask_discriminator"]),
        TARGETS["semantic"],
        comparison(parameters.perceptual, networks["image_discriminator"], vgg),
        parameters,
    )


def seconds(work) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 1), ("height", 128), ("width", 192), ("steps", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    baseline = Baseline.build()
    for network in (baseline.segmenter, baseline.features):
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
    image, mask = random_batch(arguments.batch, arguments.height, arguments.width, generator)
    draws = Draws.random(image.shape, generator)
    cycle = build(baseline, draws)
    items = tuple(range(arguments.batch))
    batch = Batch(image, mask[:, 0].long(), arguments.seed, 0, items, ("random",) * arguments.batch)
    update = Trainer(cycle, Fabric(accelerator="cpu", devices=1), decay=0.999).update
    with FlopCounterMode(display=False) as plain:
        expected = baseline_step(baseline, image, mask, draws)
    with FlopCounterMode(display=False) as ours:
        found = {name: float(loss.detach()) for name, loss in cycle.step(batch, 1.0, update).items()}
    differences = {name: abs(found[name] - expected[other]) / abs(expected[other]) for name, other in SAME.items()}
    times: dict[str, list[float]] = {"baseline": [], "ours": []}
    for _ in range(arguments.steps):
        times["baseline"].append(seconds(lambda: baseline_step(baseline, image, mask, draws)))
        times["ours"].append(seconds(lambda: cycle.step(batch, 1.0, update)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "provenance": provenance(f"python benchmarks/cyclegan_step.py --steps {arguments.steps}"),
        "shape": list(image.shape),
        "baseline_s": round(medians["baseline"], 3),
        "ours_s": round(medians["ours"], 3),
        "ratio": round(medians["ours"] / medians["baseline"], 3),
        "all_s": {name: [round(value, 3) for value in values] for name, values in times.items()},
        "baseline_gflop": round(plain.get_total_flops() / 1e9, 1),
        "ours_gflop": round(ours.get_total_flops() / 1e9, 1),
        "largest_relative_difference_of_losses": max(differences.values()),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
