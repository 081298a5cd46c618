"""`cytoforge generate images` and `generate movie`: trained generators paint synthetic images and movies on masks."""

from pathlib import Path

from cytoforge.commands.narrowed import engine_of
from cytoforge.data import movie
from cytoforge.data.dataset import Dataset
from cytoforge.data.run import Run
from cytoforge.data.writer import check_target
from cytoforge.errors import UserError
from cytoforge.inference.generate import BY, Keeping, generate_images, refuse_own_masks
from cytoforge.inference.generate_movie import BY as BY_MOVIE
from cytoforge.inference.generate_movie import Look, film_masks, maskful
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.inference.segmenter import Segmenter
from cytoforge.progress import counted
from cytoforge.settings import GenerateImages, GenerateMovie


def generate(settings: GenerateImages) -> Path:
    """Paint masks into the dataset OUT and print what was made; returns OUT. Raises as `generate_images`."""
    masks = Dataset.open(settings.masks, holds="masks").masks()
    refuse_own_masks(masks, settings.out)
    check_target(settings.out, BY, overwrite=settings.overwrite)  # before networks are loaded
    generator = ImageGenerator.load(settings.run, device=settings.device, threads=settings.threads)
    keeping = None if settings.keep is None else Keeping(settings.keep, _segmenter(settings))
    done = generate_images(
        generator,
        masks,
        settings.out,
        seed=settings.seed,
        variants=settings.variants,
        style_mixing=settings.style_mixing,
        keeping=keeping,
        overwrite=settings.overwrite,
        engine=engine_of(settings),
    )
    facts = f", {done.kept} of them made before" if done.kept else ""
    facts += f"; {counted(done.missing, 'image')} of other parts still to come" if done.missing else ""
    facts += "" if done.dropped is None else f", {done.dropped} of them dropped"
    made, on = counted(done.images - done.missing, "image"), counted(len(masks.items), "mask")
    print("\n".join([*masks.left_out, f"{settings.out}: {made} painted on {on}{facts}"]))
    return settings.out


def _segmenter(settings: GenerateImages) -> Segmenter:
    run = settings.segmenter or settings.run
    if "segmenter" not in Run.open(run).settings.networks:
        raise UserError(f"{run}: holds no segmenter to look at the images; give one with --segmenter, or no --keep")
    return Segmenter.load(run, device=settings.device, threads=settings.threads)


def generate_movie(settings: GenerateMovie) -> Path:
    """Paint movies of masks into the movie folder OUT and print what was made; returns OUT. Raises as `film_masks`."""
    sequences = maskful(settings.masks, settings.sequence, settings.out)
    check_target(settings.out, BY_MOVIE, overwrite=settings.overwrite)  # before networks are loaded
    generator = MovieGenerator.load(settings.run, device=settings.device, threads=settings.threads)
    print("".join(f"{note}\n" for note in movie.left_out(settings.masks, settings.sequence)), end="")
    done = film_masks(
        generator,
        settings.masks,
        sequences,
        settings.out,
        Look(
            settings.background,
            settings.seed,
            settings.style_mixing,
            settings.noise,
            settings.contrast,
            settings.texture,
        ),
        overwrite=settings.overwrite,
        engine=engine_of(settings),
    )
    made = counted(len(engine_of(settings).share(sequences)), "sequence")
    others = f"; {counted(done.missing, 'sequence')} of other parts still to come" if done.missing else ""
    print("\n".join([*done.notes, f"{settings.out}: {counted(done.frames, 'frame')} painted in {made}{others}"]))
    return settings.out
