"""The frequency tables: what the coder expects, and the same numbers for ever."""

from __future__ import annotations

import hashlib

import numpy as np

from models.tables import BYTES, FLAGS, PRECISION, SCALES, SKIP, build, load

GOLDEN = "0c1558d1bdd2454e3920a482baf07d4dcf8d205e401fc571a5de4e6517e91058"


def test_golden() -> None:
    tables = load()
    digest = hashlib.sha256(repr((SKIP, (tables.cumulative, tables.lengths, tables.offsets))).encode()).hexdigest()
    assert digest == GOLDEN, "every stream written so far would be unreadable"


def test_tables_are_what_the_coder_expects() -> None:
    tables = load()
    assert len(tables.cumulative) == len(tables.lengths) == len(tables.offsets) == len(tables.reaches) == SCALES + FLAGS + 1 == BYTES + 1
    for table, length in zip(tables.cumulative, tables.lengths):
        assert len(table) == length
        assert table[0] == 0 and table[-1] == table[-2] == 1 << PRECISION
        assert all(a < b for a, b in zip(table, table[1:-1])), "a symbol without an interval cannot be coded"
        assert all(type(entry) is int for entry in table)


def test_laplace_tables_reach_as_far_as_they_say() -> None:
    tables = load()
    for table, offset, reach in zip(tables.cumulative[:SCALES], tables.offsets, tables.reaches.tolist()):
        assert offset == -reach < 0
        assert len(np.diff(table)) == 2 * reach + 1 + 2  # the values, the escape, the empty interval
    assert (np.diff(tables.reaches[:SCALES]) >= 0).all()


def test_flags_and_bytes_have_no_escape() -> None:
    tables = load()
    assert tables.lengths[SCALES:] == FLAGS * [2 + 2] + [256 + 2]
    assert not any(tables.offsets[SCALES:]) and (tables.reaches[SCALES:] > 1 << 16).all()
    assert set(np.diff(tables.cumulative[BYTES])[:-1]) == {(1 << PRECISION) // 256}


def test_laplace_tables_are_symmetric_around_zero() -> None:
    tables = load()
    for table, offset in zip(tables.cumulative[:SCALES], tables.offsets):
        widths = np.diff(table)[: 1 - 2 * offset]
        centre = -offset
        assert np.array_equal(widths[:centre], widths[centre + 1 :][::-1])
        assert (np.diff(widths[: centre + 1]) >= 0).all()


def test_the_file_is_what_was_built() -> None:
    """Within one count, and what rounding of others adds to the largest: exponentials differ between machines."""
    for index, (kept, built) in enumerate(zip(load().cumulative, build(), strict=True)):
        kept, built = np.diff(kept), np.diff(built)
        assert len(kept) == len(built), index
        off = np.abs(kept - built)
        off[np.argmax(kept)] = 0
        assert off.max() <= 1, index
