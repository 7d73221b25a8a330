"""The training schedule of every preset, as rows."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stage:
    """A row of the schedule."""

    name: str
    share: float  # of the whole training time
    length: int  # frames in a chain, the keyframe included
    batch: int
    crop: int  # luma samples
    rate: float  # highest learning rate of the stage, in parts of the optimiser's
    final: float = 0.3  # the learning rate's last value, in parts of the highest
    exact: bool = False  # trained in the exact form, which takes twice the time
    only: str = ""  # the network that learns; empty: all of the codec, which leaves out the enhancer


SCHEDULES = {
    "tiny": (
        Stage("intra", 0.15, 1, 8, 256, 1.0, 0.5),
        Stage("pairs", 0.05, 2, 4, 256, 1.0, 1.0),
        Stage("short", 0.23, 3, 4, 256, 1.0, 0.5),
        Stage("medium", 0.22, 5, 4, 256, 0.5, 0.5),
        Stage("long", 0.10, 8, 4, 256, 0.25, 0.1),
        Stage("exact", 0.10, 8, 4, 256, 0.04, 0.5, exact=True),
        Stage("motion", 0.05, 8, 4, 256, 0.5, 0.1, exact=True, only="motion"),
        Stage("enhancer", 0.10, 8, 4, 256, 1.0, 0.05, exact=True, only="enhancer"),
    ),
    "base": (
        Stage("intra", 0.15, 1, 32, 256, 0.6, 0.5),
        Stage("pairs", 0.05, 2, 32, 256, 0.6, 1.0),
        Stage("short", 0.23, 3, 32, 256, 0.6, 0.5),
        Stage("medium", 0.22, 6, 16, 256, 0.3, 0.4),
        Stage("long", 0.10, 12, 8, 256, 0.15, 0.1),
        Stage("exact", 0.10, 12, 8, 256, 0.024, 0.5, exact=True),
        Stage("motion", 0.05, 12, 8, 256, 0.3, 0.1, exact=True, only="motion"),
        Stage("enhancer", 0.10, 8, 16, 256, 0.6, 0.05, exact=True, only="enhancer"),
    ),
}


def select(preset: str, names: tuple[str, ...] = (), batch: int | None = None, chain: int | None = None) -> tuple[Stage, ...]:
    """The stages of these names, or all if none is given, in the schedule's order; their shares are of the whole schedule's.

    Batches have no more than `batch` chains, and chains no more than `chain` frames, of which there must be 3: the enhancer learns on P-frames that have a next one.

    Raises:
        ValueError: the schedule has no stage of that name, or chains are too short.
    """
    if chain is not None and chain < 3:
        raise ValueError(f"chains of {chain} frames are too short to learn from; give 3 or more")
    stages = SCHEDULES[preset]
    known = [stage.name for stage in stages]
    for name in names:
        if name not in known:
            raise ValueError(f"the schedule of {preset} has no stage {name!r}; its stages are {', '.join(known)}")
    return tuple(
        replace(stage, batch=min(stage.batch, batch or stage.batch), length=min(stage.length, chain or stage.length))
        for stage in stages if not names or stage.name in names
    )  # fmt: skip
