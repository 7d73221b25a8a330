"""Media files that PyAV reads, whatever its version."""

from __future__ import annotations

from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from av.container import InputContainer


def open_media(source: str | IO[bytes], **options: Any) -> InputContainer:
    """`av.open` for reading, where no metadata is refused for not being UTF-8: from PyAV 19 on such bytes are kept as they are, before they are replaced.

    Raises:
        av.FFmpegError: it is no media file, or none that can be opened.
    """
    import av

    if int(av.__version__.partition(".")[0]) < 19:
        options["metadata_errors"] = "replace"
    return av.open(source, **options)


class Ratio(Protocol):
    """A rate or a tick as PyAV tells it: a fraction, from version 19 on of a kind of its own."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


def fraction(ratio: Ratio) -> Fraction:
    """The same as Python's own kind."""
    return Fraction(ratio.numerator, ratio.denominator)
