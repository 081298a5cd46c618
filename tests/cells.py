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

# A moves down by 1, divides into B and D; B moves by 3 down and 4 to the right, D leaves. C is out of sight in the
# second frame and comes back 1 to the left, as E; B hides its upper half in the end.
DIVISION = (
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
DIVISION_TRACKS = ((1, 0, 1, 0), (2, 2, 3, 1), (3, 0, 0, 0), (4, 2, 2, 1), (5, 2, 3, 3))
