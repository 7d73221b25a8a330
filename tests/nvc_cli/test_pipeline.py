"""Threads beside the codec: order, errors, and that they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from nvc_cli.pipeline import DEPTH, Behind, ahead


def test_items_come_in_order() -> None:
    assert list(ahead(range(100))) == list(range(100))


def test_an_error_comes_where_its_item_would() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    seen = []
    with pytest.raises(ValueError, match="third"):
        for item in ahead(items()):
            seen.append(item)
    assert seen == [1, 2]


def test_whoever_stops_listening_ends_the_thread() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    before = threading.active_count()
    iterator = ahead(items())
    assert next(iterator) == 0
    iterator.close()
    assert threading.active_count() == before
    assert len(taken) <= DEPTH + 3  # in the queue, in hand, and the one that was given out


def test_calls_are_made_in_order() -> None:
    done: list[int] = []
    behind = Behind()
    for k in range(50):
        behind.do(lambda k=k: done.append(k))
    behind.finish()
    assert done == list(range(50))


def test_the_error_of_a_call_is_told_later() -> None:
    def fail() -> None:
        raise OSError("full")

    behind = Behind(1)
    behind.do(fail)
    with pytest.raises(OSError, match="full"):
        behind.do(lambda: None)
    behind.abandon()


def test_no_call_is_made_after_one_that_failed() -> None:
    start, done = threading.Event(), []

    def fail() -> None:
        start.wait(30)
        raise OSError("full")

    behind = Behind(3)
    behind.do(fail)
    behind.do(lambda: done.append(True))
    start.set()
    with pytest.raises(OSError, match="full"):
        behind.finish()
    behind.abandon()
    assert not done


def test_what_waits_can_be_given_up() -> None:
    start, done = threading.Event(), []
    behind = Behind(3)
    behind.do(lambda: done.append(start.wait(30)))
    behind.do(lambda: done.append(False))
    start.set()
    behind.abandon()
    assert done[:1] == [True] and len(done) <= 2
