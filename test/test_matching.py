# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Ground truth is found by stamp, wherever in the bag it is recorded."""

from __future__ import annotations

from lmii_ros.bags.matching import match
from lmii_ros.bags.matching import Stamped
import pytest


def matched(order, tolerance=0, window=32):
    """
    Return (image, labels, exact) of messages such as 'i10 l10', names and stamps in one.

    A letter after the stamp tells messages of one stamp apart.
    """
    return [
        (found.image, found.labels, found.exact) for found in match([
            Stamped(int(''.join(filter(str.isdigit, name))), name[0] == 'l', name)
            for name in order.split()], tolerance, window)]


@pytest.mark.parametrize('order', ['i10 l10 i20 l20', 'l10 i10 l20 i20', 'i10 i20 l10 l20',
                                   'l10 l20 i10 i20', 'i10 l10 l20 i20'])
def test_equal_stamps_match_whatever_comes_first(order):
    assert matched(order) == [('i10', 'l10', True), ('i20', 'l20', True)]


def test_what_has_no_counterpart_is_left_over():
    assert matched('i10 l15 i20 l20 l30') == [
        ('i10', None, False), ('i20', 'l20', True), (None, 'l15', False), (None, 'l30', False)]
    assert matched('i10 i20') == [('i10', None, False), ('i20', None, False)]
    assert matched('l10') == [(None, 'l10', False)]
    assert matched('') == []


def test_the_nearest_within_the_tolerance():
    assert matched('i100 l103 i200 l211', 10) == [
        ('i100', 'l103', False), ('i200', None, False), (None, 'l211', False)]
    assert matched('l97 i100 l200', 10)[0] == ('i100', 'l97', False)
    assert matched('l97 i100 l102', 10)[0] == ('i100', 'l102', False)
    assert matched('i100 l110', 10) == [('i100', 'l110', False)]
    assert matched('i100 l111', 10)[0] == ('i100', None, False)


@pytest.mark.parametrize('order', [
    'i100 i200 l200 i300 l300', 'l200 l300 i100 i200 i300', 'i100 l200 i200 l300 i300'])
def test_equal_stamps_come_before_near_ones(order):
    # A tolerance of more than a period must not shift the whole drive by a frame.
    assert matched(order, 150) == [
        ('i100', None, False), ('i200', 'l200', True), ('i300', 'l300', True)]


def test_labels_belong_to_the_nearer_of_two_images():
    assert matched('i100 l160 i200 l300 i300', 80) == [
        ('i100', None, False), ('i200', 'l160', False), ('i300', 'l300', True)]
    assert matched('i100 l160 l300 i200 i300', 80)[:2] == [
        ('i100', None, False), ('i200', 'l160', False)]
    assert matched('i100 l140 i200', 80) == [('i100', 'l140', False), ('i200', None, False)]


def test_each_label_image_is_used_once():
    assert matched('i10a l10 i10b l10b') == [('i10a', 'l10', True), ('i10b', 'l10b', True)]
    assert matched('i10a i10b l10') == [('i10a', 'l10', True), ('i10b', None, False)]


def test_a_bag_that_is_played_again():
    assert matched('i10 l10 i20 l20 i10 l10 i20 l20') == 2 * [
        ('i10', 'l10', True), ('i20', 'l20', True)]


def test_memory_is_bounded():
    """At most `window` of each kind wait, without counterparts and with late ones."""
    taken = []

    def messages():
        for stamp in range(1000):
            taken.append(stamp)
            yield Stamped(stamp, False, stamp)

    for index, found in enumerate(match(messages(), 0, window=5)):
        assert found.image == index
        assert len(taken) - index <= 6
    late = ' '.join(f'i{stamp} l{stamp - 4}' for stamp in range(4, 40))
    assert sum(exact for *_, exact in matched(late, window=5)) == 32
    assert sum(exact for *_, exact in matched(late, window=3)) == 0


def test_images_without_labels_do_not_wait_for_the_window():
    """One label image for ten images, as in many data sets."""
    given = [
        Stamped(stamp, False, stamp) for stamp in range(100)]
    waiting = 0
    order = []
    for message in given:
        order.append(message)
        if message.stamp_ns % 10 == 0:
            order.append(Stamped(message.stamp_ns, True, message.stamp_ns))

    def messages():
        nonlocal waiting
        for message in order:
            waiting += not message.is_label
            yield message

    for found in match(messages(), 0):
        waiting -= 1
        assert waiting <= 10
        assert found.exact == (found.image % 10 == 0)
