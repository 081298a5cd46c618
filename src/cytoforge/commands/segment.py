"""`cytoforge segment`: segment images of any size; each label image has the size of its image."""

from pathlib import Path

from cytoforge.commands.narrowed import engine_of, view_of
from cytoforge.data.dataset import Dataset
from cytoforge.inference.segment import segment_dataset
from cytoforge.inference.segmenter import Segmenter
from cytoforge.progress import counted
from cytoforge.settings import Segment


def segment(settings: Segment) -> Path:
    """Segment images into OUT/masks and print what was made; returns OUT. Raises as `segment_dataset`."""
    segmenter = Segmenter.load(
        settings.run,
        device=settings.device,
        threads=settings.threads,
        tile=settings.tile,
        views=settings.views,
        precision=settings.precision,
    )
    images = Dataset.open(settings.images, settings.sequence, view=view_of(settings)).images()
    done = segment_dataset(
        segmenter,
        images,
        settings.out,
        overwrite=settings.overwrite,
        diameter=settings.diameter,
        engine=engine_of(settings),
    )
    kept = f", {done.kept} of them made before" if done.kept else ""
    kept += f"; {counted(done.missing, 'mask')} of other parts still to come" if done.missing else ""
    print("".join(f"{note}\n" for note in images.left_out), end="")
    if done.diameter is not None and settings.diameter is None:
        among = "" if done.diameters is None else " (by image {:.0f} to {:.0f})".format(*done.diameters)
        print(f"{settings.images}: cells seem to be {done.diameter:.0f}{among} px across; if not, give --diameter")
    print(f"{settings.out / 'masks'}: {counted(done.images, 'mask')} with {counted(done.cells, 'cell')}{kept}")
    return settings.out
