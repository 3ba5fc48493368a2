# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Confusion counts and the scores from them, against cases worked out by hand."""

from __future__ import annotations

import json

from lmii_ros import metrics
from lmii_ros.classes import CAMVID
from lmii_ros.classes import ClassTable
from lmii_ros.classes import UNKNOWN
from lmii_ros.metrics import confusion
from lmii_ros.metrics import Counts
from lmii_ros.metrics import scores
import numpy as np
import pytest

U = UNKNOWN
TABLE = ClassTable('three', ('sky', 'road', 'wall'), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), ('road',))


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


def test_more_pixels_than_float32_counts(tmp_path):
    image = np.ones((4097, 4099), np.uint8)
    assert confusion(image, image, 2)[1, 1] == 4097 * 4099


def test_every_number_of_classes_can_be_counted():
    for num_classes in (1, 2, 254, 255):
        last = np.full((2, 3), num_classes - 1, np.uint8)
        last[0, 0] = U
        counts = confusion(last, np.full((2, 3), num_classes - 1, np.uint8), num_classes)
        assert counts[-1, -2] == 5 and counts[-1, -1] == 1 and counts.sum() == 6


def no_counts(**given):
    return Counts.zero(3, **{name: np.array(values) for name, values in given.items()})


def test_the_drivable_area_by_hand():
    # The ego vehicle is below the middle; the road on the left is cut off by a wall.
    truth = grid(
        [0, 0, 0, 0, 0, 0],
        [1, 2, 1, 1, U, 0],
        [1, 2, 1, 1, 2, 2],
        [2, 2, 1, 1, 1, 2])
    labels = grid(
        [0, 0, 0, 1, 0, 0],
        [1, 2, 0, 1, 1, 0],
        [1, 2, 1, 1, 1, 2],
        [2, 2, 1, 1, 2, 2])
    counts = metrics.count(labels, None, truth, TABLE)
    # Called drivable: 1 pixel above, 1 on the right; missed: 1 on the left, 1 below; the pixel
    # of unknown truth does not count.
    assert counts.drivable.tolist() == [5, 2, 2]
    result = metrics.drivable_scores(counts)
    assert result.iou == pytest.approx(5 / 9)
    assert result.precision == result.recall == pytest.approx(5 / 7)


def test_unknown_truth_does_not_cut_the_road():
    truth = np.full((6, 8), 1, np.uint8)
    truth[3] = U
    counts = metrics.count(np.full((6, 8), 1, np.uint8), None, truth, TABLE)
    assert counts.drivable.tolist() == [40, 0, 0]


def boundary(predicted_from, truth_from, unknown_rows=()):
    """Return the counts for areas that reach from a row to the bottom of 40 x 40 pixels."""
    labels, truth = np.zeros((2, 40, 40), np.uint8)
    labels[predicted_from:] = 1
    truth[truth_from:] = 1
    truth[list(unknown_rows)] = U
    return metrics.count(labels, None, truth, TABLE).boundary.tolist()


def test_the_boundary_by_hand():
    # The tolerance is 0.0075 x 57 pixels, and at least one.
    assert boundary(20, 20) == [40, 40, 40, 40]
    assert boundary(21, 20) == [40, 40, 40, 40]
    assert boundary(22, 20) == [40, 0, 40, 0]
    # No boundary at the edge of the image.
    assert boundary(0, 20) == [0, 0, 40, 0]
    assert boundary(0, 0) == boundary(40, 40) == [0, 0, 0, 0]
    # The true boundary may be anywhere in what is unknown.
    assert boundary(22, 20, [18, 19]) == [40, 0, 0, 0]
    assert boundary(20, 20, [18, 19]) == [0, 0, 0, 0]
    assert boundary(19, 20, [18, 19]) == [0, 0, 0, 0]


def test_the_tolerance_is_a_share_of_the_diagonal():
    labels, truth = np.zeros((2, 300, 400), np.uint8)
    truth[100:] = 1
    # 0.0075 x 500 pixels are 3.75, rounded 4.
    for offset, matched in ((4, 400), (5, 0)):
        labels[:] = 0
        labels[100 + offset:] = 1
        assert metrics.count(labels, None, truth, TABLE).boundary.tolist() == [
            400, matched, 400, matched]


def test_distances_are_euclidean():
    labels, truth = np.zeros((2, 300, 400), np.uint8)
    truth[296:, 200] = labels[296:, 200] = 1
    # The upper end of a line one pixel wide, 4 pixels away straight, or 3 and 3.
    for top, left, matched in ((292, 200, True), (293, 203, False), (294, 203, True)):
        labels[:] = 0
        labels[296:, 200] = labels[top, left] = 1
        labels[top:296, left] = 1
        labels[295, 200:left + 1] = 1
        predicted, near, *_ = metrics.count(labels, None, truth, TABLE).boundary.tolist()
        assert (predicted == near) == matched


def test_boundary_f_by_hand():
    counts = no_counts(boundary=[10, 8, 20, 5])
    assert metrics.drivable_scores(counts).boundary_f == pytest.approx(
        2 * 0.8 * 0.25 / (0.8 + 0.25))
    assert metrics.drivable_scores(no_counts(boundary=[0, 0, 20, 0])).boundary_f == 0
    assert np.isnan(metrics.drivable_scores(no_counts()).boundary_f)


def test_drivable_confidence_by_hand():
    truth = grid([1, 1, 0, 2, U, 1])
    labels = grid([1, 0, 1, 0, 1, U])
    confidence = grid([200, 180, 90, 100, 255, 50])
    drivable, other = metrics.count(labels, confidence, truth, TABLE).confidence
    # Its own; what 180 leaves; its own; no more than the label's class has; and none.
    assert np.flatnonzero(drivable).tolist() == [0, 75, 200]
    assert np.flatnonzero(other).tolist() == [90, 100]
    assert drivable.sum() == 3 and other.sum() == 2


def test_drivable_confidence_of_two_drivable_classes():
    table = ClassTable('three', TABLE.classes, TABLE.colors, ('road', 'wall'))
    drivable, _ = metrics.count(grid([0, 0]), grid([100, 200]), grid([1, 2]), table).confidence
    # Both together may have all that is left.
    assert np.flatnonzero(drivable).tolist() == [55, 155]


def test_precision_recall_by_hand():
    histograms = np.zeros((2, 256), np.int64)
    histograms[0, [255, 100]] = 3, 1
    histograms[1, [200, 10]] = 1, 5
    precision, recall = metrics.precision_recall(no_counts(confidence=histograms))
    np.testing.assert_allclose(precision[[0, 10, 11, 101, 255]], [0.4, 0.4, 0.8, 0.75, 1])
    np.testing.assert_allclose(recall[[0, 100, 101, 255]], [1, 1, 0.75, 0.75])
    assert all(np.isnan(curve).all() for curve in metrics.precision_recall(no_counts()))


def test_calibration_by_hand():
    truth = grid([0, 0, 1, 2, U])
    labels = grid([0, 0, 2, U, 0])
    counts = metrics.count(labels, grid([255, 239, 17, 9, 9]), truth, TABLE)
    pixels, correct, confidence = counts.calibration
    # The upper edge of a bin belongs to it: 17 / 255 is 1 / 15.
    assert np.flatnonzero(pixels).tolist() == [0, 14]
    assert pixels[[0, 14]].tolist() == [1, 2]
    assert correct[[0, 14]].tolist() == [0, 2]
    assert confidence[[0, 14]].tolist() == [17, 494]
    mean, accuracy = metrics.reliability(counts)
    np.testing.assert_allclose(mean[[0, 1, 14]], [17 / 255, np.nan, 247 / 255])
    np.testing.assert_allclose(accuracy[[0, 1, 14]], [0, np.nan, 1])
    assert metrics.calibration_error(counts) == pytest.approx((17 / 255 + 2 * 8 / 255) / 3)
    assert np.isnan(metrics.calibration_error(no_counts()))


def test_flips_by_hand():
    before, labels = grid([0, 1, 2, U]), grid([0, 2, 2, 1])
    truth_before, truth = grid([0, 1, U, 1]), grid([1, 1, 2, 1])
    counts = metrics.count_flips(labels, before, truth, truth_before, 3)
    assert counts.temporal.tolist() == [4, 2, 3, 1]
    assert metrics.flip_rates(counts) == (0.5, pytest.approx(1 / 3))
    for missing in ((None, truth), (truth, None), (None, None)):
        counts = metrics.count_flips(labels, before, *missing, 3)
        assert counts.temporal.tolist() == [4, 2, 0, 0]
    assert np.isnan(metrics.flip_rates(counts)[1])


def random_counts(seed):
    rng = np.random.default_rng(seed)
    values = np.array([*range(11), U], np.uint8)
    truth, labels, before = rng.choice(values, (3, 30, 40))
    return metrics.count(
        labels, rng.integers(0, 256, (30, 40), np.uint8), truth, CAMVID
    ) + metrics.count_flips(labels, before, truth, truth, 11)


def test_counts_add_up_in_any_order_and_survive_json():
    first, second, third = (random_counts(seed) for seed in range(3))
    total = (first + second + third).to_dict()
    assert (third + (first + second)).to_dict() == total
    assert Counts.from_dict(json.loads(json.dumps(total))).to_dict() == total
    assert (Counts.zero(11) + first).to_dict() == first.to_dict()
    assert np.sum(total['confusion']) == np.sum(total['calibration']['pixels']) + np.sum(
        total['confusion'], axis=0)[-1]


def test_what_are_no_counts_is_refused():
    good = Counts.zero(2).to_dict()
    for wrong in (
            {}, [], {**good, 'boundary': {}}, {**good, 'confusion': [[0.5, 0, 0], [0, 0, 0]]},
            {**good, 'confusion': [[0, 0], [0, 0]]},
            {**good, 'temporal': dict.fromkeys(good['temporal'], -1)},
            {**good, 'confusion': [[0, 0], [0]]}):
        with pytest.raises(metrics.CountsError, match='malformed counts'):
            Counts.from_dict(wrong)
    with pytest.raises(metrics.CountsError, match='2 and of 3 classes'):
        Counts.zero(2) + Counts.zero(3)
