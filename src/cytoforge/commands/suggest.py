"""`cytoforge suggest`: which parts of unlabelled images to label next, as crops to annotate."""

from pathlib import Path

from cytoforge.commands.narrowed import view_of
from cytoforge.data.dataset import Dataset
from cytoforge.data.lock import alone
from cytoforge.data.writer import check_target
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.suggest import BY, suggest_crops
from cytoforge.progress import counted
from cytoforge.settings import Suggest

HEADER = ("rank", "crop", "disagreement", "cells")


@alone
def suggest(settings: Suggest) -> Path:
    """Write crops to label into the dataset OUT and print their ranks; returns OUT. Raises as `suggest_crops`."""
    images = Dataset.open(settings.images, settings.sequence, view=view_of(settings)).images()
    check_target(settings.out, BY, overwrite=settings.overwrite)  # before the network is loaded
    segmenter = Segmenter.load(settings.run, device=settings.device, threads=settings.threads)
    done = suggest_crops(segmenter, images, settings.out, count=settings.count, overwrite=settings.overwrite)
    print("".join(f"{note}\n" for note in images.left_out), end="")
    width = max(len(HEADER[1]), *(len(suggestion.name) for suggestion in done.suggestions))
    print(f"{HEADER[0]:>4}  {HEADER[1]:<{width}}  {HEADER[2]}  {HEADER[3]}")
    for rank, suggestion in enumerate(done.suggestions, 1):
        window = suggestion.window
        print(f"{rank:>4}  {suggestion.name:<{width}}  {window.disagreement:>12.3f}  {window.cells:>5}")
    if not any(suggestion.window.disagreement for suggestion in done.suggestions):
        print("all turns agree everywhere, so any part would do; has the run learned to find cells?")
    kept = f", {done.kept} of them made before" if done.kept else ""
    labelled = len(images.items) - done.images
    passed = f", {counted(labelled, 'image')} with masks passed over" if labelled else ""
    crops, looked = counted(len(done.suggestions), "crop"), counted(done.images, "image")
    print(f"{settings.out}: {crops} of {looked}{kept}{passed}; correct the cells in {settings.out / 'masks'}")
    return settings.out
