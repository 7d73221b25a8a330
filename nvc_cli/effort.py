"""How long the encoder thinks. Any decoder decodes what comes of any effort, in the same time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.cycle import CYCLE
from models.refinement import Refinement
from models.plan import DEEP, HASTY, QUICK, THOROUGH, Plan
from models.vectors import REFERENCES
from nvc_cli.decision import Decision, Heuristic
from nvc_cli.trial import Trial


@dataclass(frozen=True)
class Refining:
    """Whose symbols are refined, and how."""

    keyframes: Refinement
    frames: Refinement
    every: int = 1  # P-frames from one that is refined to the next, the first after a keyframe being one

    def __call__(self, since: int) -> Refinement | None:
        """How those of a frame are, so many after a keyframe."""
        if not since:
            return self.keyframes
        return self.frames if (since - 1) % self.every == 0 else None


@dataclass(frozen=True)
class Effort:
    """What an encoder tries before it decides."""

    references: int = REFERENCES  # earlier pictures that vectors may point to, 1 to 8
    older: int = REFERENCES  # of these, beside the newest, are searched on their own: the ones of best quality
    reach: int = 64  # of the search, in luma samples
    plan: Plan = THOROUGH  # of the search
    decision: Decision = Heuristic()  # on the in-loop filter
    refining: Refining | None = None  # of symbols
    trial: Trial | None = None  # of keyframes; where a rate is asked for instead of a quality there is none
    trust: int = 7  # for how many pictures the out-of-loop filter is taken to help, once it was seen to, until a keyframe comes

    def refinement(self, since: int) -> Refinement | None:
        """Of the symbols of a frame, so many after a keyframe."""
        return self.refining(since) if self.refining else None


EFFORTS = {
    "fast": Effort(older=1, reach=32, plan=HASTY, decision=True, trust=255),
    "medium": Effort(refining=Refining(Refinement(8), Refinement(1, blind=True), len(CYCLE)), trial=Trial(frames=1 + len(CYCLE))),
    "slow": Effort(plan=DEEP, refining=Refining(Refinement(8), Refinement(8)), trial=Trial()),
    "placebo": Effort(plan=replace(DEEP, overlaps=4), refining=Refining(Refinement(16), Refinement(16)), trial=Trial()),
}

DRAFT = Effort(references=1, plan=QUICK, decision=False, trust=255)
"""Only what frames take matters, and that about."""
