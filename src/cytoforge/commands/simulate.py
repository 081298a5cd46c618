"""`cytoforge simulate`: simulate masks and movies of cells that resemble the user's."""

from pathlib import Path

from cytoforge.commands.narrowed import engine_of, narrowed
from cytoforge.settings import SimulateMasks, SimulateMovie
from cytoforge.simulated import masks, movie
from cytoforge.simulated.specification import MaskSimulation, MovieSimulation


def simulate_masks(settings: SimulateMasks) -> Path:
    """Simulate masks into OUT and print what was made; returns OUT. Raises as `simulated.masks.simulate_masks`."""
    print("\n".join(masks.simulate_masks(narrowed(MaskSimulation, settings), engine_of(settings))))
    return settings.out


def simulate_movie(settings: SimulateMovie) -> Path:
    """Simulate movies into OUT and print what was made; returns OUT. Raises as `simulated.movie.simulate_movie`."""
    print("\n".join(movie.simulate_movie(narrowed(MovieSimulation, settings), engine_of(settings))))
    return settings.out
