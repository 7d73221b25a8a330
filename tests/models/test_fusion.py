"""Marked functions are the functions themselves until compilation is asked for."""

from __future__ import annotations

from models.fusion import fused


def test_nothing_changes_until_enabled() -> None:
    def double(x: int, times: int = 2) -> int:
        """Docs."""
        return x * times

    marked = fused(double)
    assert (marked(3), marked(3, times=5)) == (6, 15)
    assert (marked.__name__, marked.__doc__) == ("double", "Docs.")
