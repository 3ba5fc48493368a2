# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A stage that runs ahead hands over all it makes, and stops when nobody wants more."""

from __future__ import annotations

from contextlib import closing
import threading

from lmii_ros.evaluation.read_ahead import read_ahead
import pytest


def test_everything_comes_in_order_from_another_thread():
    threads = set()

    def numbers():
        for number in range(100):
            threads.add(threading.current_thread())
            yield number

    assert list(read_ahead(number + 1 for number in read_ahead(numbers()))) == list(range(1, 101))
    assert len(threads) == 1 and threading.current_thread() not in threads
    assert list(read_ahead(iter_nothing())) == []


def iter_nothing():
    yield from ()


def test_it_is_never_far_ahead():
    made = []

    def numbers():
        for number in range(100):
            made.append(number)
            yield number

    for number in read_ahead(numbers(), depth=3):
        # Three wait, one is in each hand.
        assert len(made) <= number + 5


def test_errors_come_after_what_was_made_before():
    def numbers():
        yield 1
        raise OSError('the disk is gone')

    items = read_ahead(numbers())
    assert next(items) == 1
    with pytest.raises(OSError, match='the disk is gone'):
        next(items)


def test_closing_ends_all_threads():
    closed = []

    def numbers():
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread())

    def doubled(items):
        with closing(items):
            for item in items:
                yield 2 * item

    before = threading.active_count()
    with closing(read_ahead(doubled(read_ahead(numbers())))) as items:
        assert next(items) == 2
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
    assert len(closed) == 1 and closed[0] is not threading.current_thread()
