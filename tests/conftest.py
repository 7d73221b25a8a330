"""A codec with random weights: everything but the picture quality can be tested on it, on any machine, at once."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def codec():
    """A codec of the preset tiny, always the same: as training begins, and noise on all weights, so that every part counts."""
    import torch

    from models.codec import Codec
    from models.presets import PRESETS

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = Codec(PRESETS["tiny"])
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return made.to(memory_format=torch.channels_last).eval().requires_grad_(False)
