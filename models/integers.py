"""What the exact form of a layer computes with: the ranges of its integers, whichever way it is computed (`models/exact.py`, `models/compiled/layers.py`)."""

from models.presets import RATES

STREAM_BITS, STREAM_LIMIT = 12, 127 * 256 + 127
"""Fractional bits of a stream tensor, and its largest integer."""
CONTEXT_LIMIT = (1 << 14) - 1
"""The largest integer of a context: so that it can be warped with weights of 10 bits."""
VALUE_BITS, VALUE_LIMIT = 6, (1 << 16) - 1
"""Means and values of y, in units of the quantisation step, are multiples of 2^-6 below 2^10."""
ACTIVATION = 255
"""The range of activations: they are bytes, from 0 or from -128 on."""
EXACT_SUM = 1 << 24
"""Integers below this are exact in float32."""
WEIGHT, WIDE_WEIGHT = 127, 127 * 128 + 63
"""The largest weights of convolutions."""
FINEST, COARSEST = 22, -24
"""Fractional bits that a convolution's weights may have."""
OCTAVE = 128
"""Steps of a gain from one power of two to the next."""
KNOTS = RATES // 8 + 1
"""Rows of a rate table: eight steps of --qp, and the end."""
KNOT = 16 * OCTAVE
"""The largest entry of a rate table: gains from 2^-16 to 2^16."""
TABLE_BITS = 6
"""Fractional bits of a rate table."""
MANTISSAS = tuple(round(OCTAVE * 2 ** (step / OCTAVE)) for step in range(OCTAVE))
"""128·2^(i/128): no value lies near enough to a tie for rounding to depend on the machine."""


class Misfit(ValueError):
    """Integers that are missing, or not of the layer that they are for."""


class RangeError(ValueError):
    """A layer whose integers are out of range, so that sums could leave the range in which they are exact."""
