"""What each part of cGAN-Seg's cycle teaches the segmenter, measured on trainings in the cycle.

    python benchmarks/cycle_parts.py RUN... --unseen scratch/usiigaci/val --data "5 images" --out OUT.json

RUN are runs of --method cyclegan that hold their state, such as those of `python benchmarks/studies.py
training-usiigaci.converged-5`; --unseen are annotated images that they have not seen. For each term of the segmenter's
loss (Eq. 7 to 9 and 11), the script prints the norm of its gradient at the segmenter's weights, times its weight in the
sum, and the cosine between the gradient's direction and that of the supervised loss on unseen images: above 0 the term
pulls the segmenter to where it does better there, near 0 it teaches nothing, below 0 it harms. The backward terms are
measured on the images of the training and on unseen ones without their masks. It also prints how far two paintings on
one mask are apart, how far a painting is from the real image of its mask, and how well the segmenter finds the cells in
paintings. Gradients are means over windows; intervals resample the windows of the unseen images.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from cytoforge.cells.instances import condition
from cytoforge.data.files import write_json
from cytoforge.data.run import Run
from cytoforge.losses import CycleWeights, adversarial, cross_entropy_dice, straight_through_mask
from cytoforge.training.data import Example, open_data
from cytoforge.training.hyperparameters import CycleGAN
from cytoforge.training.loop import Trainer, _restore
from cytoforge.training.recipes import cycle_gan
from cytoforge.training.samplers.items import Batch, Drawing
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Data

HERE = Path(__file__).parent
WINDOWS = 48
RESAMPLES = 500


def gradient(loss: Tensor, network: nn.Module) -> Tensor:
    weights = list(network.parameters())
    parts = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    return torch.cat(
        [torch.zeros(w.numel()) if g is None else g.flatten() for g, w in zip(parts, weights, strict=True)]
    )


def supervised(recipe: cycle_gan.CycleGAN, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy_dice(recipe.segmenter(images), recipe.target.encode(labels))


def terms(recipe: cycle_gan.CycleGAN, batch: Batch, labelled: bool) -> dict[str, Tensor]:
    """Return the gradients of the weighted terms at the segmenter; without labels only those that need none."""
    w = recipe.weights
    logits = recipe.segmenter(batch.images)
    mask = straight_through_mask(logits)
    back = recipe.paint(recipe._predicted_condition(mask, logits), batch, "backward")
    found = {
        "backward cycle (Eq. 8)": w.cycle_image * recipe.compare(batch.images)(back),
        "mask discriminator (Eq. 7)": w.adversarial * adversarial(recipe.mask_discriminator(mask), 1.0),
    }
    if labelled:
        painted = recipe.paint(condition(batch.labels, recipe.paint.condition), batch, "forward").detach()
        found["forward cycle (Eq. 9)"] = w.cycle_mask * supervised(recipe, painted, batch.labels)
        found["pairs (Eq. 11)"] = w.identity_mask * supervised(recipe, batch.images, batch.labels)
    return {name: gradient(loss, recipe.segmenter) for name, loss in found.items()}


def restored(run: Run) -> tuple[cycle_gan.CycleGAN, CycleGAN, int]:
    """Return the recipe of a run with the weights of its state, its hyperparameters, and the number of steps."""
    stored = run.config
    values = stored["parameters"]
    crop, weights = tuple(values["crop"]), CycleWeights(**values["weights"])
    parameters = CycleGAN(**{**values, "crop": crop, "weights": weights})
    recipe = cycle_gan.CycleGAN.build(parameters, stored["networks"], stored["training"]["seed"])
    state = _restore(Trainer(recipe, Fabric(accelerator="cpu"), decay=parameters.average), run)
    for network in recipe.networks.values():
        for module in network.train().modules():  # normalise as in training, and leave the running statistics alone
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
    return recipe, parameters, state.step


def windows(items: list[Example], size: tuple[int, int]) -> Windows:
    drawing = Drawing(size=size, count=1, policy="none", seed=1)
    return Windows([name for name, _, _ in items], lambda i: items[i][1:], drawing)


def examples(data: Data, seed: int) -> tuple[list[Example], list[Example]]:
    """Return the images of a training and those of its validation."""
    found = open_data(data, seed)
    return [(name, *found.read(i)) for i, name in enumerate(found.names)], list(found.validation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--data", required=True, help="what they were trained on, in words")
    parser.add_argument("--out", type=Path, default=HERE / "cycle_parts.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measured = [parts(Run.open(run), given.unseen) for run in given.runs]
    command = "python benchmarks/cycle_parts.py RUN... --unseen scratch/usiigaci/val"
    write_json(given.out, {"data": given.data, "windows": WINDOWS, "runs": measured, "command": command})


def parts(run: Run, unseen_images: Path) -> dict[str, Any]:
    """Return what each term teaches in one training."""
    recipe, parameters, steps = restored(run)
    data = run.config["training"]["data"]
    there = Data(path=Path(data["path"]), limit=data["limit"], scale=data["scale"])
    learned, _ = examples(there, run.config["training"]["seed"])
    first, second = examples(Data(path=unseen_images, scale=data["scale"]), 0)
    every = first + second
    half = len(every) // 2  # for the backward terms, and others to judge by
    own, without, held = (windows(part, parameters.crop) for part in (learned, every[:half], every[half:]))

    sums: dict[str, Tensor] = {}
    judge = []
    for step in range(WINDOWS):
        for where, sampler, labelled in (("", own, True), (", on unseen images", without, False)):
            for name, found in terms(recipe, sampler(step), labelled).items():
                sums[name + where] = sums.get(name + where, torch.zeros(())) + found / WINDOWS
        batch = held(step)
        judge.append(gradient(supervised(recipe, batch.images, batch.labels), recipe.segmenter))
    draws = np.random.default_rng(0).multinomial(WINDOWS, np.full(WINDOWS, 1 / WINDOWS), RESAMPLES)
    resampled = torch.from_numpy(draws).float() @ torch.stack(judge)
    rows = []
    for name, total in sums.items():
        cosines = cosine_similarity(resampled, total[None])
        low, high = cosines.quantile(torch.tensor([0.025, 0.975])).tolist()
        middle = float(cosine_similarity(torch.stack(judge).mean(0), total, dim=0))
        rows.append({"term": name, "norm": float(total.norm()), "cosine": middle, "low": low, "high": high})
        print(f"{name:48} norm {rows[-1]['norm']:8.2f}  cosine {middle:+.3f} [{low:+.3f}, {high:+.3f}]")

    apart, off, losses = [], [], []
    with torch.no_grad():
        for step in range(WINDOWS):
            batch, unseen = own(step), held(step)
            shape = condition(batch.labels, recipe.paint.condition)
            one, other = (recipe.paint(shape, batch, purpose) for purpose in ("one", "other"))
            apart.append(float((one - other).abs().mean()))
            off.append(float((one - batch.images).abs().mean()))
            pairs = ((one, batch.labels), (batch.images, batch.labels), (unseen.images, unseen.labels))
            losses.append([float(supervised(recipe, *pair)) for pair in pairs])
    painted, real, elsewhere = np.mean(losses, axis=0).tolist()
    facts = {
        "steps": steps,
        "terms": rows,
        "paintings_apart": float(np.mean(apart)),
        "painting_to_image": float(np.mean(off)),
        "loss_paintings": painted,
        "loss_training_images": real,
        "loss_unseen_images": elsewhere,
    }
    print(facts)
    return facts


if __name__ == "__main__":
    main()
