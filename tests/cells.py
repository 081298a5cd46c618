"""Named toy label images, drawn: '.' is background, a letter is a cell (A = 1 .. Z = 26, a = 27 .. z = 52)."""

import string

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]


def draw(picture: str) -> Labels:
    """Label image int32 (H, W) of a drawing with one character per pixel; blank lines and indentation do not count.

    Raises ValueError for rows of unequal length and for characters that are neither '.' nor a letter.
    """
    rows = picture.split()
    if len(set(map(len, rows))) != 1:
        raise ValueError(f"rows must have one length, got {[len(row) for row in rows]}")
    symbols = "." + string.ascii_uppercase + string.ascii_lowercase
    unknown = sorted(set("".join(rows)) - set(symbols))
    if unknown:
        raise ValueError(f"only '.' and letters can be drawn, got {unknown}")
    return np.array([[symbols.index(symbol) for symbol in row] for row in rows], dtype=np.int32)


NOTHING = draw("""
    ............
    ............
    ............
    ............
    ............
    """)

THREE_CELLS = draw("""
    AAAA....BBBB
    AAAA....BBBB
    AAAA........
    ....CCCC....
    ....CCCC....
    """)

# A and B of THREE_CELLS found, C missed, one found where nothing is.
ONE_MISSED_ONE_INVENTED = draw("""
    AAAA....BBBB
    AAAA....BBBB
    AAAA........
    ..........DD
    ..........DD
    """)

# A in two parts of 4 and 8 pixels: only the larger (IoU 8/12) can match.
SPLIT = draw("""
    DDDD....BBBB
    AAAA....BBBB
    AAAA........
    ....CCCC....
    ....CCCC....
    """)

# A (12) and C (8) as one cell of 20 pixels: it matches A with IoU 12/20 = 0.6.
MERGED = draw("""
    AAAA....BBBB
    AAAA....BBBB
    AAAA........
    ....AAAA....
    ....AAAA....
    """)

TOUCHING = draw("""
    ............
    ..AAAABBBB..
    ..AAAABBBB..
    ..AAAABBBB..
    ..AAAABBBB..
    """)

TOUCHING_AS_ONE = np.minimum(TOUCHING, 1)

# Each predicted cell covers exactly half of A: IoU exactly 0.5 twice, of which one can count.
TWO_HALVES = (
    draw("""
    .AAAA.
    .AAAA.
    """),
    draw("""
    .BBCC.
    .BBCC.
    """),
)

# Best pair first (A-D, IoU 5/12) leaves B and C alone; A-C (3/8) with B-D (4/11) matches all. Needs a threshold of 0.3.
GREEDY_TRAP = (
    draw("""
    ...AAAAAAAA.
    BBBBBB......
    """),
    draw("""
    ...CCCDDDDD.
    .DDDD.......
    """),
)


def draw_movie(picture: str) -> tuple[Labels, ...]:
    """Label images of a drawing as of `draw`, with the frames side by side and spaces between them."""
    rows = [line.split() for line in picture.splitlines() if line.strip()]
    return tuple(draw("\n".join(frame)) for frame in zip(*rows, strict=True))


def tracks(frames: tuple[Labels, ...], parents: str = "") -> tuple[tuple[int, int, int, int], ...]:
    """Rows L B E P of drawn frames; `parents` names children and parents by their letters: "BA CA"."""
    symbols = "." + string.ascii_uppercase + string.ascii_lowercase
    parent = {symbols.index(child): symbols.index(of) for child, of in parents.split()}
    seen = [(cell, t) for t, frame in enumerate(frames) for cell in np.unique(frame[frame > 0]).tolist()]
    labels = sorted({cell for cell, _ in seen})
    times = [[t for cell, t in seen if cell == label] for label in labels]
    return tuple((label, min(when), max(when), parent.get(label, 0)) for label, when in zip(labels, times, strict=True))


# Movies: two cells A and B of six pixels that stay where they are, for five frames, and what a tracker made of them.
STILL = draw_movie("""
    AAABBB.  AAABBB.  AAABBB.  AAABBB.  AAABBB.
    AAABBB.  AAABBB.  AAABBB.  AAABBB.  AAABBB.
    """)

# B is missed in the third frame; found again it has the track C, whose only parent is B.
MISS = draw_movie("""
    AAABBB.  AAABBB.  AAA....  AAACCC.  AAACCC.
    AAABBB.  AAABBB.  AAA....  AAACCC.  AAACCC.
    """)

# A third cell that is not there.
FALSE_ALARM = draw_movie("""
    AAABBB.  AAABBB.  AAABBBC  AAABBB.  AAABBB.
    AAABBB.  AAABBB.  AAABBBC  AAABBB.  AAABBB.
    """)

# A and B are taken for each other from the fourth frame on.
SWITCH = draw_movie("""
    AAABBB.  AAABBB.  AAABBB.  BBBAAA.  BBBAAA.
    AAABBB.  AAABBB.  AAABBB.  BBBAAA.  BBBAAA.
    """)

# B is found in two parts in the third frame, of four and two pixels.
SPLIT_ONCE = draw_movie("""
    AAABBB.  AAABBB.  AAABBC.  AAABBB.  AAABBB.
    AAABBB.  AAABBB.  AAABBC.  AAABBB.  AAABBB.
    """)

# Both are found as one cell B in the third frame: its IoU is 6/12 with either. A goes on as C.
MERGE_ONCE = draw_movie("""
    AAABBB.  AAABBB.  BBBBBB.  CCCBBB.  CCCBBB.
    AAABBB.  AAABBB.  BBBBBB.  CCCBBB.  CCCBBB.
    """)

NEVER_FOUND = draw_movie("""
    AAA....  AAA....  AAA....  AAA....  AAA....
    AAA....  AAA....  AAA....  AAA....  AAA....
    """)

# A mother A of two frames and her daughters B and C.
DIVISION = draw_movie("""
    AAAAA  AAAAA  BB.CC  BB.CC  BB.CC
    AAAAA  AAAAA  BB.CC  BB.CC  BB.CC
    """)

LATE_DIVISION = draw_movie("""
    AAAAA  AAAAA  AAAAA  BB.CC  BB.CC
    AAAAA  AAAAA  AAAAA  BB.CC  BB.CC
    """)

# Late by two frames.
LATER_DIVISION = draw_movie("""
    AAAAA  AAAAA  AAAAA  AAAAA  BB.CC
    AAAAA  AAAAA  AAAAA  AAAAA  BB.CC
    """)

EARLY_DIVISION = draw_movie("""
    AAAAA  BB.CC  BB.CC  BB.CC  BB.CC
    AAAAA  BB.CC  BB.CC  BB.CC  BB.CC
    """)

# A moves down by 1, divides into B and D; B moves by 3 down and 4 to the right, D leaves. C is out of sight in the
# second frame and comes back 1 to the left, as E; B hides its upper half in the end.
FAMILY = (
    draw("""
    ..........
    .AAAA.....
    .AAAA.....
    ..........
    ......CC..
    ......CC..
    """),
    draw("""
    ..........
    ..........
    .AAAA.....
    .AAAA.....
    ..........
    ..........
    """),
    draw("""
    .BB...DD..
    .BB...DD..
    ..........
    ..........
    .....EE...
    .....EE...
    """),
    draw("""
    ..........
    ..........
    ..........
    .....BB...
    .....BB...
    .....EE...
    """),
)
FAMILY_TRACKS = ((1, 0, 1, 0), (2, 2, 3, 1), (3, 0, 0, 0), (4, 2, 2, 1), (5, 2, 3, 3))
