"""What in tracks is hardly so in living cells, and tells of faults in masks or links."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.tracking.lineage import divisions

Ints = NDArray[np.integer[Any]]
OFTEN = 0.04
"""divisions per cell and frame beyond which cells would divide at an improbable pace"""
FEW = 3
"""divisions or tracks, with fewer of which nothing can be said"""
GROWTH = 1 / 3
"""least growth of the number of cells, as a share of the divisions, where these are true"""
BRIEF = 0.2
"""share of tracks of a single frame that tells of links that break"""
JUMP = 0.3
"""change of the number of cells from a frame to the next, as a share of the larger one"""
CROWD = 8
"""cells, with fewer of which such a change says nothing"""


def implausible(tracks: Ints, cells: Ints, first: int = 0) -> list[str]:
    """Return a sentence for each thing about the tracks of a movie that is hardly so.

    `tracks` (N, 4) are label, first and last frame, counted from 0, and the label of the mother or 0; `cells` (T,) are
    the numbers of cells in the frames, of which the sentences call the first one `first`.
    """
    divided, followed = divisions(tracks.tolist()), int(cells[:-1].sum())
    found = []
    if divided >= FEW and divided > OFTEN * followed:
        found.append(
            f"{divided} divisions in {len(cells)} frames: a cell would divide every {followed / divided:.0f} "
            "frames; if that is too often for such cells, their masks fall apart"
        )
    third = max(len(cells) // 3, 1)
    early, late = float(cells[:third].mean()), float(cells[-third:].mean())
    if divided >= FEW and late - early < GROWTH * divided:
        found.append(
            f"{divided} divisions, but {early:.0f} cells in the first third of the movie and {late:.0f} in the last; "
            "look whether they are divisions"
        )
    _, begin, end, _ = tracks.T
    brief = int(np.count_nonzero((begin == end) & (begin > 0) & (end < len(cells) - 1)))
    if brief >= FEW and brief > BRIEF * len(tracks):
        found.append(
            f"{brief} of {len(tracks)} tracks last a single frame; masks may flicker, or cells move too far between "
            "frames"
        )
    before, after = cells[:-1], cells[1:]
    larger = np.maximum(before, after)
    jumps = np.flatnonzero((larger >= CROWD) & (np.abs(after - before) > JUMP * larger))
    if jumps.size:
        k = int(jumps[np.argmax(np.abs(after - before)[jumps])])
        found.append(
            f"the number of cells jumps from {before[k]} to {after[k]} at frame {first + k + 1}"
            + (f", and at {jumps.size - 1} more" if jumps.size > 1 else "")
            + "; look at the masks there"
        )
    return found
