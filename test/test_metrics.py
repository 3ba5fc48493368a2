# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Confusion counts and the scores from them, against cases worked out by hand."""

from __future__ import annotations

from lmii_ros.classes import UNKNOWN
from lmii_ros.metrics import confusion
from lmii_ros.metrics import scores
import numpy as np
import pytest

U = UNKNOWN


def grid(*rows):
    return np.array(rows, np.uint8)


def test_counts_by_hand():
    truth = grid([0, 0, 1], [1, 2, U])
    labels = grid([0, 1, 1], [U, 0, 2])
    counts = confusion(labels, truth, 3)
    assert counts.dtype == np.int64
    assert counts.tolist() == [
        [1, 1, 0, 0],
        [0, 1, 0, 1],
        [1, 0, 0, 0]]


def test_scores_by_hand():
    result = scores(np.array([
        [6, 2, 0, 0],
        [1, 3, 0, 4],
        [0, 0, 0, 0]]))
    np.testing.assert_allclose(result.iou, [6 / 9, 3 / 10, np.nan])
    assert result.miou == pytest.approx((6 / 9 + 3 / 10) / 2)
    assert result.pixel_accuracy == pytest.approx(9 / 16)


def test_a_perfect_labelling_scores_one():
    truth = grid([0, 1, 2, U])
    result = scores(confusion(grid([0, 1, 2, 0]), truth, 3))
    assert result.miou == 1
    assert result.pixel_accuracy == 1


def test_void_truth_never_counts():
    assert confusion(grid([0, 1, U]), grid([U, U, U]), 2).sum() == 0
    result = scores(np.zeros((2, 3), np.int64))
    assert np.isnan(result.miou)
    assert np.isnan(result.pixel_accuracy)


def test_a_pixel_labelled_unknown_is_a_miss_of_its_class_and_of_no_other():
    result = scores(confusion(grid([0, U, 1, 1]), grid([0, 0, 1, 1]), 2))
    np.testing.assert_allclose(result.iou, [0.5, 1])
    assert result.pixel_accuracy == 0.75


def test_a_class_never_found_counts_as_zero():
    result = scores(confusion(grid([0, 0, 0, 0]), grid([0, 0, 0, 1]), 3))
    np.testing.assert_allclose(result.iou, [0.75, 0, np.nan])
    assert result.miou == pytest.approx(0.375)


def test_a_class_only_labelled_counts_as_zero():
    result = scores(confusion(grid([0, 2]), grid([0, 0]), 3))
    np.testing.assert_allclose(result.iou, [0.5, np.nan, 0])
    assert result.miou == 0.25


def test_counts_of_images_add_up_to_those_of_the_set():
    rng = np.random.default_rng(1)
    values = np.array([0, 1, 2, 3, U], np.uint8)
    labels, truth = rng.choice(values, (2, 6, 5, 7))
    parts = sum(confusion(one, true, 4) for one, true in zip(labels, truth))
    np.testing.assert_array_equal(parts, confusion(labels, truth, 4))
    assert parts.sum() == (truth != U).sum()


def test_many_classes_and_a_large_image_do_not_overflow():
    truth = np.full((1100, 1000), 254, np.uint8)
    counts = confusion(truth, truth, 255)
    assert counts[254, 254] == truth.size
    assert counts.sum() == truth.size


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r'\(1, 3\).*\(1, 2\)'):
        confusion(grid([0, 0, 0]), grid([0, 0]), 2)


@pytest.mark.parametrize('wrong', [2, 3, 254])
@pytest.mark.parametrize('in_truth', [False, True])
def test_a_label_that_is_no_class_is_refused(wrong, in_truth):
    good, bad = grid([0, 1]), grid([0, wrong])
    labels, truth = (good, bad) if in_truth else (bad, good)
    with pytest.raises(ValueError, match='neither below 2 nor unknown'):
        confusion(labels, truth, 2)
