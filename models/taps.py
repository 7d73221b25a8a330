"""Interpolation of pictures between their samples."""

LUMA_TAPS = (
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 4, -10, 58, 17, -5, 1, 0),
    (-1, 4, -11, 40, 40, -11, 4, -1),
    (0, 1, -5, 17, 58, -10, 4, -1),
)
"""Quarter-sample interpolation of ITU-T H.265, 8.5.3.3.3.2; every row sums to 64."""

CHROMA_TAPS = (
    (0, 64, 0, 0),
    (-2, 58, 10, -2),
    (-4, 54, 16, -2),
    (-6, 46, 28, -4),
    (-4, 36, 36, -4),
    (-4, 28, 46, -6),
    (-2, 16, 54, -4),
    (-2, 10, 58, -2),
)
"""Eighth-sample interpolation of ITU-T H.265, 8.5.3.3.3.3."""

BORDER = 24
"""Luma samples around a picture that motion compensation may read, which repeat its border; half as many of chroma."""
