"""What a motion search tries."""

from dataclasses import dataclass, replace

CROSS = ((-1, 0), (1, 0), (0, -1), (0, 1))
RING = (*CROSS, (-1, -1), (-1, 1), (1, -1), (1, 1))

STEPS = (2, 1)
"""Quarter samples by which vectors are moved when overlap is looked at."""

PRICE = 1.4
"""What a bit counts when vectors are held against what the coder predicts: the vectors around them cost less, too."""


OVERLAPS_BELOW = 30
"""The rate point from which on overlap is not looked at: what fits pictures of low quality best, once it overlaps, is seldom how things moved, and the context moves with it."""


@dataclass(frozen=True)
class Plan:
    """What a search tries. Rings are given by their radii in quarter samples."""

    sweeps: int  # how often vectors of 16×16 blocks are offered those of their neighbours, before they are refined
    large: tuple[int, ...]  # rings around vectors of 16×16 blocks
    older: tuple[int, ...]  # the same in older pictures, around where they would have been
    small: tuple[int, ...]  # rings around vectors of 8×8 blocks
    ring: tuple[tuple[int, int], ...]  # of these
    passes: int  # how often 8×8 blocks are offered the vectors of their neighbours
    priced: bool  # whether vectors are held against what they cost exactly, where that can be known
    overlaps: int = 0  # how often vectors of 8×8 blocks are refined by errors as overlapped compensation makes them, up to some quality


THOROUGH = Plan(4, (8, 4, 2, 1), (1,), (4, 2, 1), RING, 2, True)
"""For encoding."""
DEEP = replace(THOROUGH, overlaps=2)
"""For slow encoding."""
HASTY = Plan(1, (6, 2), (1,), (1,), CROSS, 1, True)
"""For fast encoding."""
QUICK = Plan(4, (6, 2), (4, 2, 1), (1,), CROSS, 1, False)
"""For training, and where a decoder searches."""
