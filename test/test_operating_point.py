# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is chosen for a frame rate, what is remembered of it, and when it is left."""

from __future__ import annotations

from dataclasses import replace
import json
import logging
import multiprocessing
from pathlib import Path
import random
import threading
import time
import weakref

from lmii_ros import cli
from lmii_ros import frames
from lmii_ros import weights
from lmii_ros.classes import CITYSCAPES
from lmii_ros.operating_point import Candidate
from lmii_ros.operating_point import OperatingPoint
from lmii_ros.operating_point import OperatingPointError
from lmii_ros.operating_point import Target
from lmii_ros.operating_point import Timing
from lmii_ros.operating_point import cache
from lmii_ros.operating_point import calibration as calibration_module
from lmii_ros.operating_point import search as search_module
from lmii_ros.operating_point import tuning
from lmii_ros.operating_point.cache import TimingCache
from lmii_ros.operating_point.calibration import Calibration
from lmii_ros.operating_point.calibration import MIN_FRAMES
from lmii_ros.operating_point.calibration import ROUNDS
from lmii_ros.operating_point.candidates import candidates
from lmii_ros.operating_point.candidates import offers
from lmii_ros.operating_point.controller import Controller
from lmii_ros.operating_point.controller import PATIENCE_S
from lmii_ros.operating_point.search import MIN_GAIN
from lmii_ros.operating_point.search import MIN_STEP
from lmii_ros.operating_point.search import better
from lmii_ros.operating_point.search import front
from lmii_ros.operating_point.search import search
from lmii_ros.segmenter import Segmenter
import numpy as np
import pytest
import yaml


def saved(tmp_path, like, name='other.safetensors', **changes):
    """Return a weight file like another, with other metadata."""
    info, network = weights.load(like)
    weights.save(tmp_path / name, replace(info, **changes), network)
    return tmp_path / name


def test_expected_miou_is_interpolated_within_what_was_measured_less_the_loss(
        tmp_path, rated_weights):
    path = saved(tmp_path, rated_weights, precision_loss={'bf16': 0.01})
    found = {
        (candidate.point.precision, candidate.point.input_height): candidate.miou
        for candidate in candidates(offers([path], path), 720)}
    assert {height for _, height in found} == {64, 96, 128, 160, 192, 224, 256}
    assert found['fp32', 96] == pytest.approx(0.35)
    assert found['bf16', 96] == pytest.approx(0.34)
    assert found['fp32', 192] == pytest.approx(0.45)
    assert {precision for precision, _ in found} == {'fp32', 'bf16'}


def test_heights_end_at_the_cameras_and_precisions_without_measured_loss_are_left_out(
        rated_weights):
    offered = offers([rated_weights], rated_weights)
    found = candidates(offered, 120)
    assert [one.point.input_height for one in found] == [64, 96, 128]
    assert {one.point.precision for one in found} == {'fp32'}
    assert [one.point.input_height for one in candidates(offered, 20)] == [64]
    assert {one.point.precision for one in candidates(offered, 120, precision='bf16')} == {'bf16'}
    assert [one.miou for one in candidates(offered, 120, input_height=512)] == [0.5]


def test_the_height_of_the_training_is_one_of_them(tmp_path, rated_weights):
    path = saved(
        tmp_path, rated_weights, input_size=(100, 150), miou={64: 0.3, 100: 0.5, 128: 0.4})
    assert {one.point.input_height: one.miou for one in candidates(offers([path], path), 720)} == {
        64: 0.3, 96: pytest.approx(0.3 + 0.2 * 32 / 36), 100: 0.5, 128: 0.4}


def test_one_measured_height_is_the_only_candidate(tmp_path, rated_weights):
    path = saved(tmp_path, rated_weights, miou={100: 0.4})
    assert [one.point.input_height for one in candidates(offers([path], path), 720)] == [100]


def test_offers_that_cannot_be_compared_are_refused(tmp_path, rated_weights, tiny_weights):
    with pytest.raises(OperatingPointError, match='does not say its mIoU at any input height'):
        offers([tiny_weights], tiny_weights)
    with pytest.raises(OperatingPointError, match='no weight files are offered'):
        offers([''], rated_weights)
    with pytest.raises(weights.WeightError, match='no weight file nothing'):
        offers(['nothing'], rated_weights)
    names = CITYSCAPES.classes[:len(weights.read_info(rated_weights).classes)]
    other = saved(tmp_path, rated_weights, classes=replace(
        weights.read_info(rated_weights).classes, name='other', classes=names, drivable=names[:1]))
    with pytest.raises(OperatingPointError, match='has the classes of other, expected those of'):
        offers([other], rated_weights)


def test_auto_offers_what_is_shipped_only_beside_a_shipped_one(rated_weights):
    names = {offer.path.stem for offer in offers(['auto'], 'lpsnet_s_camvid')}
    assert {'lpsnet_s_camvid', 'lmiinet_camvid'} <= names
    assert [offer.path for offer in offers(['auto'], rated_weights)] == [rated_weights]


def random_table(seed):
    """Return candidates of some files and precisions, and the seconds that each takes."""
    draw = random.Random(seed)
    latencies = {}
    int8, bf16 = sorted(draw.uniform(0.3, 0.95) for _ in range(2))
    factors = {'fp32': 1.0, 'bf16': bf16, 'int8': int8}
    for file in range(draw.randint(1, 4)):
        best, bend = draw.uniform(0.4, 0.7), draw.uniform(100, 250)
        fixed, per_pixel = draw.uniform(1e-3, 5e-3), draw.uniform(2e-8, 4e-7)
        for precision, factor in factors.items():
            for height in range(192, draw.choice([256, 480, 704]), 32):
                # Now and then a larger size is not better, as beyond that of the training.
                miou = best * (1 - np.exp(-height / bend)) - 0.1 * (draw.random() < 0.1)
                latencies[Candidate(
                    OperatingPoint(Path(f'{file}.safetensors'), precision, height), miou)] = (
                        factor * (fixed + per_pixel * height ** 2))
    return latencies


def test_the_search_finds_what_brute_force_finds_with_few_timings():
    timed, total = 0, 0
    for seed in range(500):
        latencies = random_table(seed)
        budget_s = 0.8 / (5, 10, 20, 30, 60)[seed % 5]
        measured = []

        def measure(candidate):
            measured.append(candidate)
            return Timing(candidate, latencies[candidate], latencies[candidate])

        choice = search(list(latencies), measure, budget_s)
        assert len(set(measured)) == len(measured) == len(choice.timings)
        fitting = [one.miou for one, taken in latencies.items() if taken <= budget_s]
        assert choice.fits is bool(fitting)
        if fitting:
            assert choice.timing.candidate.miou >= max(fitting) - MIN_STEP, seed
            chosen = choice.timing.candidate.point
            assert choice.timing.candidate.miou >= max(
                one.miou for one, taken in latencies.items() if taken <= budget_s
                and (one.point.weights, one.point.precision) == (chosen.weights, chosen.precision)
            ) - MIN_GAIN, seed
            assert choice.timing.p90_s <= budget_s
        else:
            assert choice.timing.p90_s == min(latencies.values()), seed
            assert 'more than the' in choice.miss()
        timed, total = timed + len(measured), total + len(latencies)
    assert timed < total / 16


def test_a_slower_precision_is_not_timed_where_the_faster_one_tells_that_it_will_not_fit():
    latencies = {
        Candidate(OperatingPoint(Path('file'), precision, height), height / 1000): (
            1e-6 * height ** 2)
        for precision, height in (('int8', 128), ('int8', 192), ('int8', 256), ('fp32', 224))}
    choice = search(
        list(latencies), lambda one: Timing(one, latencies[one], latencies[one]), 0.04)
    assert choice.timing.candidate.point == OperatingPoint(Path('file'), 'int8', 192)
    assert {timing.candidate.point.precision for timing in choice.timings} == {'int8'}


def test_the_first_to_be_timed_is_the_largest_of_the_least_accurate_file():
    for seed in range(50):
        latencies = random_table(seed)
        measured = []

        def measure(candidate):
            measured.append(candidate.point)
            return Timing(candidate, latencies[candidate], latencies[candidate])

        search(list(latencies), measure, 0.04)
        best = {
            file: max(one.miou for one in latencies if one.point.weights == file)
            for file in {one.point.weights for one in latencies}}
        least = min(best, key=best.get)
        fastest = [one for one in latencies if (
            one.point.weights, one.point.precision) == (least, 'int8')]
        assert measured[0] == max(fastest, key=lambda one: one.miou).point


def test_all_that_is_better_and_within_the_period_is_found_without_timing_the_rest():
    for seed in range(100):
        latencies = random_table(seed)
        measured = []

        def measure(candidate):
            measured.append(candidate)
            return Timing(candidate, latencies[candidate], latencies[candidate])

        found = better(list(latencies), measure, 0.04, 0.5)
        within = [one for one, taken in latencies.items() if one.miou > 0.5 and taken <= 0.04]
        assert found == front(Timing(one, latencies[one], latencies[one]) for one in within)
        families = {(one.point.weights, one.point.precision) for one in latencies}
        assert len(within) <= len(measured) <= len(within) + len(families)


def test_there_are_points_to_fall_back_on_between_those_that_were_timed():
    untimed = 0
    for seed in range(200):
        latencies = random_table(seed)
        choice = search(
            list(latencies), lambda one: Timing(one, latencies[one], latencies[one]),
            0.8 / (5, 10, 20, 30, 60)[seed % 5])
        points = search_module.ladder(list(latencies), choice)
        assert choice.timing in points
        for before, after in zip(points, points[1:]):
            assert before.p90_s < after.p90_s and before.candidate.miou < after.candidate.miou
        for point in points:
            # Here latency is a straight line over the pixels, which two timings tell.
            known = [
                timing.candidate.point.input_height for timing in choice.timings
                if timing.candidate.point.weights == point.candidate.point.weights
                and timing.candidate.point.precision == point.candidate.point.precision]
            if len(known) > 1:
                assert point.p90_s == pytest.approx(latencies[point.candidate])
            else:
                assert min(known) <= point.candidate.point.input_height
                assert point.p90_s >= latencies[point.candidate]
        untimed += len(set(points) - set(choice.timings))
    assert untimed > 800


def test_there_are_points_above_those_that_were_timed_for_when_the_machine_is_faster():
    latencies = {
        Candidate(OperatingPoint(Path(f'{file}.safetensors'), 'int8', height), share * height): (
            factor * height ** 2)
        for file, share, factor in (('poor', 5e-4, 2e-7), ('good', 1e-3, 4e-7))
        for height in range(96, 513, 32)}
    # Twice as slow as it is.
    choice = search(
        list(latencies), lambda one: Timing(one, 2 * latencies[one], 2 * latencies[one]), 0.04)
    assert max(
        timing.candidate.point.input_height for timing in choice.timings
        if timing.candidate.point.weights.stem == 'good') < 320
    best = search_module.ladder(list(latencies), choice)[-1].candidate.point
    assert (best.weights.stem, best.input_height) == ('good', 512)


def test_the_fastest_is_timed_to_fall_back_on_where_the_smallest_of_a_file_is_chosen():
    latencies = {
        Candidate(OperatingPoint(Path(f'{file}.safetensors'), 'fp32', height), miou): taken_s
        for file, height, miou, taken_s in (
            ('good', 96, 0.48, 0.0129), ('good', 128, 0.59, 0.0149),
            ('fast', 192, 0.31, 0.0085), ('fast', 288, 0.49, 0.0183))}
    choice = search(
        list(latencies), lambda one: Timing(one, latencies[one], latencies[one]), 0.8 / 60)
    assert choice.timing.p90_s == 0.0129
    points = search_module.ladder(list(latencies), choice)
    assert [point.p90_s for point in points] == [0.0085, 0.0129, 0.0149]


def timing(height, taken_s):
    point = OperatingPoint(Path('file'), 'int8', height)
    return Timing(Candidate(point, 0.5), taken_s, taken_s)


def test_no_smaller_size_is_expected_to_take_less_than_in_proportion_to_its_pixels():
    # The machine was slow as the larger one was timed.
    known = [timing(160, 0.020), timing(192, 0.035)]
    expected = search_module.predict(known, timing(96, 0.0).candidate)
    assert expected.p90_s == pytest.approx(0.36 * 0.020)


def test_a_larger_size_that_was_faster_makes_none_beyond_it_as_fast():
    known = [timing(448, 0.0263), timing(480, 0.0247)]
    expected = search_module.predict(known, timing(704, 0.0).candidate)
    assert expected.p90_s == pytest.approx((704 / 480) ** 2 * 0.0247)


def test_what_the_machine_cannot_run_is_passed_over():
    latencies = random_table(1)
    choice = search(
        list(latencies),
        lambda one: None if one.point.precision != 'fp32' else Timing(one, 0.001, 0.001), 0.1)
    assert choice.timing.candidate.point.precision == 'fp32'
    with pytest.raises(OperatingPointError, match='no candidate can be run'):
        search(list(latencies), lambda one: None, 0.1)


@pytest.mark.parametrize('count', range(1, 6))
def test_a_search_that_is_out_of_time_still_has_something_to_fall_back_on(count, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(search_module.time, 'monotonic', lambda: clock[0])
    for seed in range(50):
        latencies = random_table(seed)
        clock[0] = 0.0

        def measure(one):
            clock[0] += 1.0
            return Timing(one, latencies[one], latencies[one])

        choice = search(list(latencies), measure, 0.04, limit_s=count - 0.5)
        assert clock[0] <= count + 2
        if choice.whole:
            assert choice.timing == search(list(latencies), measure, 0.04).timing
        else:
            assert clock[0] >= count
        points = search_module.ladder(list(latencies), choice)
        smallest = min(one.point.input_height for one in latencies)
        assert points[0] is not choice.timing or (
            choice.timing.candidate.point.input_height == smallest)


def test_sizes_that_the_memory_does_not_allow_leave_the_smaller_ones():
    points = {
        OperatingPoint(Path(f'{file}.safetensors'), 'fp32', height): miou + height / 1e4
        for file, miou in (('big', 0.6), ('small', 0.3)) for height in range(192, 480, 32)}
    latencies = {
        Candidate(point, miou): point.input_height / 1e4 for point, miou in points.items()}
    choice = search(
        list(latencies),
        lambda one: None if one.miou > 0.63 else Timing(one, latencies[one], latencies[one]), 0.04)
    assert choice.timing.candidate.point == OperatingPoint(Path('big.safetensors'), 'fp32', 288)


@pytest.mark.parametrize('exhaustive', [False, True])
def test_a_search_among_no_candidates_is_refused(exhaustive):
    with pytest.raises(OperatingPointError, match='no candidate can be run'):
        search([], lambda candidate: None, 0.04, exhaustive=exhaustive)


def test_an_exhaustive_search_times_all():
    latencies = random_table(2)
    choice = search(
        list(latencies), lambda one: Timing(one, latencies[one], latencies[one]), 0.02,
        exhaustive=True)
    assert len(choice.timings) == len(latencies)
    assert choice.timing.candidate.miou == max(
        one.miou for one, taken in latencies.items() if taken <= 0.02)


def calibrate(rated_weights, **options):
    """Return a calibration for black frames, and the choice for 5 frames/s."""
    frame = np.zeros((120, 160, 3), np.uint8)
    offered = offers([rated_weights], rated_weights)
    calibration = Calibration(lambda: frame, offered, engine='torch', **options)
    choice = search(
        candidates(offered, 120), lambda one: calibration.measure(one, 0.16), 0.16)
    return calibration, choice


def test_precisions_that_the_engine_has_not_are_not_even_tried(
        rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    path = saved(tmp_path, rated_weights, precision_loss={'bf16': -0.01})
    lines = []
    _, choice = calibrate(path, progress=lines.append)
    assert choice.timing.candidate.point.precision == 'fp32'
    assert lines and not any('bf16' in line for line in lines)


def test_a_network_that_fails_does_not_stop_the_others(rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    info, network = weights.load(rated_weights)
    network.classifier.weight.data.fill_(3e38)
    broken = tmp_path / 'broken.safetensors'
    weights.save(broken, replace(info, miou={64: 0.8, 256: 0.9}), network)
    offered = offers([broken, rated_weights], rated_weights)
    lines = []
    calibration = Calibration(
        lambda: np.full((120, 160, 3), 7, np.uint8), offered, engine='torch', device='cpu',
        progress=lines.append)
    choice = search(
        candidates(offered, 120), lambda one: calibration.measure(one, 10.0), 10.0)
    assert choice.timing.candidate.point.weights == rated_weights
    assert any('broken' in line and 'not finite' in line for line in lines)


def test_a_precision_that_is_not_faster_is_timed_only_where_it_is_asked_for(
        rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    path = saved(tmp_path, rated_weights, precision_loss={'fp16': 0.0})
    offered = offers([path], path)
    calibration = Calibration(
        lambda: np.zeros((120, 160, 3), np.uint8), offered, engine='torch', device='cpu')
    # As fp16 is to fp32 with torch on a CPU. What is kept is not timed.
    for one in candidates(offered, 120) + candidates(offered, 120, precision='fp16'):
        took_s = 59e-3 * one.point.input_height / 128 * (1.7 if '16' in one.point.precision else 1)
        calibration._caches[path].put(one.point, (took_s, took_s))

    def chosen(precision):
        return search(
            candidates(offered, 120, precision=precision),
            lambda one: calibration.measure(one, 0.06), 0.06).timing.candidate.point

    assert chosen('auto') == OperatingPoint(path, 'fp32', 128)
    assert chosen('fp16') == OperatingPoint(path, 'fp16', 64)
    assert calibration.measured == 0


def test_a_candidate_whose_median_fits_has_some_more_rounds_to_be_calm(
        rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    rounds = [[0.01] * 8 + [0.05] * 4, [0.01] * 8 + [0.04] * 4, [0.01] * 8 + [0.015] * 4]
    monkeypatch.setattr(calibration_module, '_round', lambda path, hopeless_s: left.pop(0))
    for budget_s, expected_s, after in ((0.02, 0.015, 0), (0.05, 0.04, 1), (0.009, 0.04, 1)):
        left = list(rounds)
        calibration = Calibration(
            lambda: np.zeros((64, 96, 3), np.uint8), offers([rated_weights], rated_weights),
            engine='torch', anew=True)
        one = candidates(offers([rated_weights], rated_weights), 64)[0]
        assert calibration.measure(one, budget_s).p90_s == pytest.approx(expected_s)
        assert len(left) == after


def test_what_was_timed_briefly_is_looked_up_only_while_it_is_too_slow(
        rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(
        calibration_module, '_round',
        lambda path, hopeless_s: [0.03] * 3 if hopeless_s < 0.03 else [0.02] * 12)
    found = []
    for budget_s in (0.01, 0.012, 0.025, 0.01):
        calibration = Calibration(
            lambda: np.zeros((64, 96, 3), np.uint8), offers([rated_weights], rated_weights),
            engine='torch')
        one = candidates(offers([rated_weights], rated_weights), 64)[0]
        found.append((calibration.measure(one, budget_s).p90_s, calibration.measured))
    assert found == [(0.03, 1), (0.03, 0), (0.02, 1), (0.02, 0)]


def test_what_was_measured_is_looked_up_until_it_is_measured_anew(
        rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    # By chance a larger size may be faster, which tells more of the smaller one the next time.
    monkeypatch.setattr(calibration_module, '_round', lambda path, hopeless_s: [0.01] * 12)
    first, choice = calibrate(rated_weights)
    assert first.measured == len(choice.timings) > 0
    again, same = calibrate(rated_weights)
    assert again.measured == 0 and same == choice
    anew, _ = calibrate(rated_weights, anew=True)
    assert anew.measured > 0
    other, _ = calibrate(rated_weights, threads=1)
    assert other.measured > 0


def test_a_size_takes_no_longer_than_a_larger_one(rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    # The machine was slower for a while.
    taken_s = iter([0.03] * ROUNDS + [0.02] * ROUNDS)
    monkeypatch.setattr(
        calibration_module, '_round', lambda path, hopeless_s: [next(taken_s)] * 12)
    small, large = candidates(offers([rated_weights], rated_weights), 128, precision='fp32')[:2]
    calibration = Calibration(
        lambda: np.zeros((64, 96, 3), np.uint8), offers([rated_weights], rated_weights),
        engine='torch')
    assert [calibration.measure(one, 0.1).p90_s for one in (small, large, small)] == [
        0.03, 0.02, 0.02]


@pytest.mark.parametrize('spoil', [
    lambda text: '', lambda text: text[:-20], lambda text: '[]', lambda text: 'null',
    lambda text: '[' * 100_000,
    lambda text: text.replace('"format": 1', '"format": 0'),
    lambda text: text.replace('"processor": "', '"processor": "another '),
    lambda text: json.dumps(json.loads(text) | {'timings': {'fp32 128': [0.1]}}),
    lambda text: json.dumps(json.loads(text) | {'timings': {'fp32 128': [0.1, -1.0]}}),
    lambda text: json.dumps(json.loads(text) | {'timings': {'fp32 128': ['a', 'b']}}),
    lambda text: json.dumps(json.loads(text) | {'timings': {'fp32 128': [0.1, 10 ** 400]}}),
    lambda text: json.dumps(json.loads(text) | {'timings': {'fp32 high': [0.1, 0.2]}}),
    lambda text: json.dumps(json.loads(text) | {'timings': {'fp32 128': [0.1, float('nan')]}}),
])
def test_a_broken_or_outdated_cache_file_is_ignored_and_rewritten(
        rated_weights, tmp_path, monkeypatch, spoil):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    calibrate(rated_weights)
    path, = cache.folder().iterdir()
    text = path.read_text()
    path.write_text(spoil(text))
    assert calibrate(rated_weights)[0].measured > 0
    assert json.loads(path.read_text())['conditions'] == json.loads(text)['conditions']
    assert calibrate(rated_weights)[0].measured == 0


def test_without_a_writable_cache_a_process_keeps_it_for_itself(
        rated_weights, tmp_path, monkeypatch):
    cache_file = tmp_path / 'file'
    cache_file.touch()
    frame = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setenv('XDG_CACHE_HOME', str(cache_file))
    for timed in (1, 0):
        calibration = Calibration(
            lambda: frame, offers([rated_weights], rated_weights), engine='torch', anew=timed)
        one = candidates(offers([rated_weights], rated_weights), 64)[0]
        assert calibration.measure(one, 1.0).p90_s > 0
        assert calibration.measured == timed


CONDITIONS = {'machine': 'of the test'}


def put_many(first):
    measured = TimingCache(CONDITIONS)
    for height in range(first, first + 40):
        measured.put(OperatingPoint(Path('file'), 'fp32', height), (0.001 * height, 0.01 * height))


def test_processes_that_write_at_once_leave_a_whole_file():
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=put_many, args=(first,)) for first in (100, 200, 300, 400)]
    for process in processes:
        process.start()
    seen = 0
    while any(process.is_alive() for process in processes):
        path = TimingCache(CONDITIONS).path
        if path.exists():
            json.loads(path.read_text())
            seen += 1
        time.sleep(0.001)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert seen
    measured = TimingCache(CONDITIONS)
    # What the last one wrote is all there.
    complete = [
        all(measured.get(OperatingPoint(Path('file'), 'fp32', first + offset)) == (
            0.001 * (first + offset), 0.01 * (first + offset)) for offset in range(40))
        for first in (100, 200, 300, 400)]
    assert any(complete)
    assert not list(path.parent.glob('*.part'))


def ladder(*p90_ms):
    return front(
        Timing(Candidate(OperatingPoint(Path('file'), 'fp32', height), height / 50),
               taken / 1000, taken / 1000)
        for height, taken in enumerate(p90_ms, 20))


class Drive:
    """
    A camera, a network whose frames take what they take, and a controller; time is simulated.

    :param seed: Of the noise: each frame takes 0.9 to 1.1 times as long, one in fifty 1.6 times.
    :param takes: What a frame of a point takes of which this is the calibrated time, in seconds.
    """

    def __init__(self, points, index, fps, seed, takes=lambda p90_s: p90_s, camera_fps=None):
        self.controller = Controller(points, index, Target(fps, 0.8, 1))
        self._period_s = 1 / (camera_fps or fps)
        self._draw = random.Random(seed)
        self._takes = takes
        self.now = 0.0
        self._free = self._next_decision = 0.0
        self.switches = []
        self.sent = self.lost = 0

    def run(self, seconds, load=lambda now: 1.0):
        end = self.now + seconds
        waiting = None
        while self.now < end:
            self.now += self._period_s
            self.sent += 1
            if waiting is not None and self._free <= self.now:
                self._work(max(self._free, waiting), load)
                waiting = None
            if self._free <= self.now:
                self._work(self.now, load)
            else:
                if waiting is not None:
                    self.lost += 1
                    self.controller.lost(self.now, 1)
                waiting = self.now

    def _work(self, begun, load):
        point = self.controller.ladder[self.controller.index]
        took_s = self._takes(point.p90_s) * load(begun) * self._draw.uniform(0.82, 1.0)
        if self._draw.random() < 0.02:
            took_s *= 1.6
        self._free = begun + took_s
        self.controller.labelled(self._free, took_s)
        if self._free < self._next_decision:
            return
        self._next_decision = self._free + 0.1
        for wanted in self.controller.decide(self._free)[:1]:
            self.switches.append((self._free, self.controller.index, wanted))
            self.controller.switched(self._free, wanted)


POINTS = ladder(8, 14, 22, 30, 38, 48, 60)


@pytest.mark.parametrize('fps', [5, 10, 20, 30, 60])
@pytest.mark.parametrize('seed', range(3))
def test_a_steady_machine_brings_next_to_no_switch(fps, seed):
    points = [replace(point, p90_s=point.p90_s * 20 / fps) for point in POINTS]
    drive = Drive(points, 4, fps, seed)
    drive.run(300)
    # One excursion, by chance, in five minutes.
    assert len(drive.switches) <= 2
    assert drive.controller.index == 4
    assert drive.lost <= 0.02 * drive.sent


@pytest.mark.parametrize('seed', range(5))
def test_a_disturbance_is_left_within_3_s_and_forgotten_after_it(seed):
    drive = Drive(POINTS, 4, 20, seed)
    drive.run(30)
    drive.lost = 0
    drive.run(20, lambda now: 2.0)
    assert drive.switches[0][0] < 30 + 2
    assert drive.lost <= 20
    drive.lost = 0
    drive.run(60)
    assert drive.lost <= 5
    assert drive.controller.index == 4
    assert len(drive.switches) <= 4


@pytest.mark.parametrize('fps', [10, 20, 30])
def test_single_frames_that_nearly_fill_the_period_are_no_reason_to_step_down(fps):
    drive = Drive([replace(point, p90_s=point.p90_s * 20 / fps) for point in POINTS], 4, fps, 0)
    draw = random.Random(0)
    home_s = POINTS[4].p90_s * 20 / fps
    drive._takes = lambda p90_s: (
        p90_s / home_s * (0.95 if draw.random() < 0.1 else 0.5) / fps / 0.91)
    drive.run(600)
    assert not [at for at, before, after in drive.switches if after < before]
    assert drive.lost == 0


def test_a_pause_is_neither_evidence_that_a_better_point_fits_nor_a_loss():
    drive = Drive(POINTS, 2, 20, 0)
    drive.run(4)
    drive.now += 600
    drive._free = drive.now
    drive.run(15)
    assert not drive.switches
    drive = Drive(POINTS, 4, 20, 0, camera_fps=30)
    drive.run(30)
    drive.now += 5
    drive._free = drive.now
    drive.run(30)
    assert not drive.switches


def test_what_fitted_before_a_network_was_made_ready_still_does():
    drive = Drive(POINTS, 4, 20, 0)
    drive.controller.switched(0.0, 3)
    drive.run(PATIENCE_S - 1)
    drive.controller.forget()
    drive.run(3)
    assert [after for _, _, after in drive.switches] == [4]
    # Unless what comes after it says otherwise.
    drive = Drive(POINTS, 4, 20, 0)
    drive.controller.switched(0.0, 3)
    drive.run(PATIENCE_S - 1)
    drive.controller.forget()
    drive.run(3, lambda now: 1.5)
    assert not drive.switches


def test_a_short_disturbance_at_the_start_is_not_remembered_for_long():
    drive = Drive(POINTS, 4, 10, 0)
    drive.controller.ladder = tuple(replace(point, p90_s=2 * point.p90_s) for point in POINTS)
    drive.run(100, lambda now: 2.0 if now < 1.5 else 1.0)
    assert drive.switches[0][1] == 4
    assert drive.controller.index == 4


def test_a_camera_of_one_frame_in_four_seconds_is_not_left_at_a_low_point():
    drive = Drive(POINTS, 4, 20, 0, camera_fps=0.25)
    drive.run(120, lambda now: 2.0)
    assert drive.controller.index < 4
    drive.run(600)
    assert drive.controller.index >= 4


@pytest.mark.parametrize('seed', range(5))
def test_no_better_point_is_tried_while_a_disturbance_of_20_s_lasts(seed):
    drive = Drive(POINTS, 4, 20, seed)
    drive.run(30)
    # A point with few threads is not slowed, from there any seems to fit.
    drive._takes = lambda p90_s: p90_s if p90_s < 0.03 else 2 * p90_s
    drive.run(20)
    assert all(after < before for _, before, after in drive.switches)
    assert 1 <= len(drive.switches) <= 2


@pytest.mark.parametrize('load', [1.15, 1.3, 1.5, 2.0, 3.0])
@pytest.mark.parametrize('seed', range(3))
def test_under_a_steady_load_it_comes_to_rest(load, seed):
    drive = Drive(POINTS, 4, 20, seed)
    drive.run(900, lambda now: load)
    assert len([at for at, _, _ in drive.switches if at > 120]) <= 6
    assert len(drive.switches) <= 10


@pytest.mark.parametrize('period_s', [5, 15, 30, 100])
def test_a_load_that_comes_and_goes_is_followed_less_and_less(period_s):
    drive = Drive(POINTS, 4, 20, 0)
    drive.run(1800, lambda now: 2.0 if now % (2 * period_s) < period_s else 1.0)
    late = [at for at, _, _ in drive.switches if at > 900]
    assert len(late) <= 8
    assert drive.lost <= 0.001 * drive.sent


def test_what_frames_always_take_beside_the_network_does_not_keep_it_down():
    drive = Drive(POINTS, 2, 30, 0, takes=lambda p90_s: p90_s + 0.003)
    drive.run(10)
    drive.run(10, lambda now: 3.0)
    assert drive.controller.index < 2
    drive.run(120)
    assert drive.controller.index == 2


@pytest.mark.parametrize('seed', range(3))
def test_a_point_that_is_much_slower_than_calibrated_is_not_tried_again_and_again(seed):
    points = ladder(17.4, 18.5, 21, 23.5)
    seen = {0.0174: 0.0206, 0.0185: 0.026, 0.021: 0.037, 0.0235: 0.047}
    drive = Drive(points, 3, 30, seed, takes=seen.get)
    drive.run(90)
    drive.lost = drive.sent = 0
    drive.run(30)
    assert drive.controller.index in (0, 1)
    assert drive.lost <= 0.01 * drive.sent
    drive.run(600)
    assert len(drive.switches) <= 10
    assert drive.lost <= 0.01 * drive.sent
    # The load that made them slow is gone.
    drive.run(120, lambda now: 0.5)
    assert drive.controller.index == 3


def test_a_better_point_is_taken_when_the_machine_turns_out_faster_than_calibrated():
    drive = Drive(POINTS, 2, 20, 0)
    drive.run(120, lambda now: 0.5)
    assert drive.controller.index == 6
    # One by one, for their times are only what was calibrated.
    assert [after - before for _, before, after in drive.switches] == [1, 1, 1, 1]
    drive.run(600, lambda now: 0.5)
    assert drive.controller.index == 6


def test_a_point_that_is_hardly_better_is_not_worth_a_step_beyond_the_chosen_one():
    points = [*POINTS[:5], replace(POINTS[5], candidate=replace(
        POINTS[5].candidate, miou=POINTS[4].candidate.miou + 0.005))]
    drive = Drive(points, 4, 20, 0)
    drive.run(120, lambda now: 0.5)
    assert not drive.switches
    # Back to the chosen one it is.
    drive.controller.switched(drive.now, 3)
    drive.run(60, lambda now: 0.5)
    assert drive.controller.index == 4


@pytest.mark.parametrize('camera_fps, left', [(20, True), (30, False)])
def test_fast_frames_that_are_lost_again_and_again_are_reason_enough(camera_fps, left):
    # Those of the camera come in a jam, where its process has to wait for a core.
    controller = Controller(POINTS, 4, Target(20, 0.8, 1))
    for index in range(1, 25 * camera_fps):
        now = index / camera_fps
        if index < 20 * camera_fps or index % 8:
            controller.labelled(now, 0.04)
        else:
            controller.lost(now, 1)
        if controller.decide(now):
            break
    assert (now < 20 + 1.5) == left


def test_what_is_slow_is_left_for_whatever_is_ready():
    controller = Controller(POINTS, 4, Target(20, 0.8, 1))
    for index in range(40):
        controller.labelled(index / 20, 0.1)
    wanted = controller.decide(2.0)
    assert wanted[0] == controller.lower[-1]
    assert sorted(wanted) == [0, 1, 2, 3]


def test_a_step_up_that_fails_at_once_is_taken_back():
    controller = Controller(POINTS, 4, Target(20, 0.8, 1))
    controller.switched(10.0, 3)
    controller.switched(20.0, 4)
    for index in range(20):
        controller.labelled(20 + index / 20, 0.1)
    assert controller.decide(21.0)[0] == 3
    # Later it is no longer the step that explains it.
    for index in range(200):
        controller.labelled(21 + index / 20, 0.1)
    assert controller.decide(31.0)[0] == controller.lower[-1] < 3


def test_a_camera_faster_than_the_target_is_no_overload():
    drive = Drive(POINTS, 4, 20, 0, camera_fps=60)
    drive.run(120)
    assert drive.lost > 1000
    assert not drive.switches


def test_a_slow_camera_is_judged_too():
    drive = Drive(POINTS, 4, 20, 0, camera_fps=1)
    drive.run(60, lambda now: 2.0)
    assert drive.controller.index < 4
    drive.run(300)
    assert drive.controller.index == 4


@pytest.mark.parametrize('load, expected', [
    (1.3, ([],)), (1.5, ([3], [2])), (2.0, ([2],))])
def test_it_steps_down_no_further_than_the_load_demands(load, expected):
    gone = []
    for seed in range(5):
        drive = Drive(POINTS, 4, 20, seed)
        drive.run(30)
        assert not drive.switches
        drive.lost = 0
        drive.run(15, lambda now: load)
        gone.append([after for _, _, after in drive.switches])
        assert drive.lost <= 2
    # A single slow frame just then may make the load look heavier.
    assert sum(one in expected for one in gone) >= 4


def test_the_fastest_point_is_the_end(tmp_path):
    drive = Drive(POINTS, 0, 60, 0)
    drive.run(60, lambda now: 5.0)
    assert not drive.switches
    assert drive.controller.lower == ()


def test_a_point_that_is_hardly_faster_is_not_worth_what_it_costs():
    assert Controller(ladder(17.4, 18.8, 24.0), 2, Target(30, 0.8, 1)).lower == (1,)
    assert Controller(ladder(10.0, 18.8, 24.0), 2, Target(30, 0.8, 1)).lower == (1, 0)
    assert Controller(ladder(17.4, 18.8, 24.0), 1, Target(30, 0.8, 1)).lower == (0,)


def test_points_that_cannot_be_made_ready_are_passed_over():
    drive = Drive(POINTS, 4, 20, 0)
    first, *_ = drive.controller.lower
    drive.controller.exclude(first)
    drive.run(60, lambda now: 2.0)
    assert drive.controller.index < 4
    assert first not in [index for _, _, index in drive.switches]


def test_tune_writes_table_curve_and_parameters(rated_weights, tmp_path, capsys):
    assert cli.main([
        'tune', '--weights', str(rated_weights), '--size', '160x120', '--target-fps', '5',
        '--out', str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert 'chosen' in output and 'mIoU %' in output
    picture, parameters = sorted(tmp_path.iterdir())
    assert picture.read_bytes().startswith(b'\x89PNG')
    values = yaml.safe_load(parameters.read_text())['/**']['ros__parameters']
    assert values['target_fps'] == 5.0
    assert values['offered_weights'] == [str(rated_weights)]
    assert f'weights {rated_weights}, input_height 128 and' in parameters.read_text()
    declared = pytest.importorskip('lmii_ros.nodes.parameters')
    assert set(values) <= {descriptor.name for descriptor in declared.DESCRIPTORS}


@pytest.mark.parametrize('arguments, reason', [
    (['--target-fps', '0'], 'target of 0 frames/s, expected more than 0'),
    (['--target-fps', 'nan'], 'target of nan frames/s'),
    (['--target-fps', '10', '--cameras', '0'], '0 cameras, expected 1 or more'),
    (['--target-fps', '10', '--headroom', '2'], 'headroom 2, expected 0.1 to 1.0'),
    (['--target-fps', '10', '--weights', 'nothing'], 'no weight file nothing'),
    (['--target-fps', '10', '--precision', 'half'], 'no precision \'half\'; expected auto, fp32'),
    (['--target-fps', '10', '--threads', '-3'], '-3 threads, expected 0 or more'),
    (['--target-fps', '10', '--precision', 'fp16', '--device', 'cpu', '--engine', 'openvino'],
     'not a precision of openvino here'),
])
def test_tune_refuses_nonsense(tmp_path, capsys, arguments, reason):
    assert cli.main(['tune', '--out', str(tmp_path), *arguments]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize('transport, other', [('raw', 'compressed'), ('compressed', 'raw')])
def test_the_node_looks_up_what_tune_has_timed_for_its_transport(
        rated_weights, tmp_path, monkeypatch, transport, other):
    rate_keeper = pytest.importorskip('lmii_ros.nodes.rate_keeper')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    timed = []
    monkeypatch.setattr(
        calibration_module, '_round', lambda path, hopeless_s: timed.append(path) or [0.01] * 12)
    assert cli.main([
        'tune', '--weights', str(rated_weights), '--size', '160x120', '--target-fps', '5',
        '--engine', 'torch', '--image-transport', transport, '--out', str(tmp_path / 'out')]) == 0
    assert timed
    parameters, = (tmp_path / 'out').glob('*.yaml')
    settings = rate_keeper.Settings(
        **yaml.safe_load(parameters.read_text())['/**']['ros__parameters'])
    sample = rate_keeper.Sample(lambda: np.zeros((120, 160, 3), np.uint8), (120, 160), False)

    def start(settings):
        timed.clear()
        rate_keeper.find_point(
            sample, settings, settings.target, logging.getLogger(), anew=False,
            cancelled=lambda: False)

    start(settings)
    assert not timed
    start(replace(settings, image_transport=other))
    assert timed


def test_tune_times_the_decoding_of_compressed_frames(rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    decoded = []
    decode = frames.decode_compressed

    def watched(data):
        decoded.append(decode(data))
        return decoded[-1]

    monkeypatch.setattr(frames, 'decode_compressed', watched)
    choice = tuning.run(tuning.Tuning(
        (str(rated_weights),), (160, 120), Target(5, 0.8, 1), engine='torch',
        image_transport='compressed'))
    assert len(decoded) > MIN_FRAMES * len(choice.timings)
    assert {frame.shape for frame in decoded} == {(120, 160, 3)}


def test_tune_shares_the_time_among_cameras(rated_weights, tmp_path, capsys):
    assert cli.main([
        'tune', '--weights', str(rated_weights), '--size', '160x120', '--target-fps', '5',
        '--cameras', '4', '--out', str(tmp_path)]) == 0
    assert (
        '160x120 at 5 frames/s from each of 4 cameras, headroom 0.8: p90 of at most 40.0 ms'
        in capsys.readouterr().out)
    parameters = tmp_path / 'operating_point_160x120_5fps_4cameras.yaml'
    assert 'target_fps: 5.0' in parameters.read_text()


def test_tune_names_the_file_to_fix_it_at(rated_weights, tmp_path):
    good = saved(tmp_path, rated_weights, miou={128: 0.9})
    assert cli.main([
        'tune', '--weights', str(rated_weights), str(good), '--size', '160x120',
        '--target-fps', '2', '--out', str(tmp_path / 'out')]) == 0
    parameters, = (tmp_path / 'out').glob('*.yaml')
    assert f'# target_fps 0.0, weights {good}, input_height 128' in parameters.read_text()
    values = yaml.safe_load(parameters.read_text())['/**']['ros__parameters']
    assert values['weights'] == str(rated_weights)


def test_the_confidence_is_timed_where_it_is_computed(rated_weights, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert calibrate(rated_weights)[0].measured > 0
    asked = set()
    segment = Segmenter.segment

    def watched(self, frames, *, confidence=False, **options):
        asked.add(confidence)
        return segment(self, frames, confidence=confidence, **options)

    monkeypatch.setattr(Segmenter, 'segment', watched)
    assert calibrate(rated_weights, confidence=True)[0].measured > 0
    assert asked == {True}


def test_standby_holds_what_is_wanted_and_the_last_that_were():
    standby_module = pytest.importorskip('lmii_ros.nodes.standby')

    class Network:
        pass

    class Logger:
        warnings = []
        warning = warnings.append

    def make(point):
        if point.input_height == 3:
            raise RuntimeError('does not fit')
        time.sleep(0.05)
        if point.input_height == 5:
            assert last.wait(30)
        network = Network()
        made[point.input_height] = weakref.ref(network)
        return network

    def wait_until(condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    made, last = {}, threading.Event()
    points = [OperatingPoint(Path('file'), 'fp32', height) for height in range(6)]
    live = Network()
    standby = standby_module.Standby(make, Logger(), lowest_priority=True)
    standby.want([points[1], points[3], points[2]])
    wait_until(lambda: set(made) == {1, 2} and standby.working_s == 0)
    assert len(Logger.warnings) == 1 and 'cannot be made ready: does not fit' in Logger.warnings[0]
    assert standby.exchange(points[4], points[0], live) is None
    taken = standby.exchange(points[1], points[0], live)
    assert taken is made[1]() is not None
    # What was live is ready from now on.
    assert standby.exchange(points[0], points[1], taken) is live
    del taken
    standby.want([])
    assert made[1]() is not None and made[2]() is not None
    standby.want([points[4], points[5]])
    wait_until(lambda: 4 in made)
    # Of all that is being made, not of each.
    assert standby.working_s > 0.05
    last.set()
    wait_until(lambda: set(made) == {1, 2, 4, 5} and standby.working_s == 0)
    standby.want([])
    wait_until(lambda: made[1]() is None and made[2]() is None)
    assert made[4]() is not None and made[5]() is not None
    standby.close()
    wait_until(lambda: made[5]() is None)


def test_the_time_until_a_rate_is_back():
    rates = pytest.importorskip('lmii_ros.nodes.rates_benchmark')
    stamps = np.arange(400) / 20
    latencies = np.full(400, 0.01)
    assert rates._back_s(stamps, latencies, 5.0) == 0.0
    latencies[[30, 110]] = np.nan
    assert rates._back_s(stamps, latencies, 5.0) == 0.0
    latencies[100:130:2] = np.nan
    # Of the two seconds that begin with frame 127, only number 128 is missing.
    assert rates._back_s(stamps, latencies, 5.0) == pytest.approx(1.35)
    latencies[100:] = np.nan
    assert rates._back_s(stamps, latencies, 5.0) is None


def test_benchmark_rates_says_what_was_held(rated_weights, tmp_path, capsys, monkeypatch):
    rates = pytest.importorskip('lmii_ros.nodes.rates_benchmark')
    # So that the point it is at counts as better, and is run at as a fixed one.
    monkeypatch.setattr(rates, 'BETTER', -0.001)
    for name in ('SETTLING_S', 'FIXED_SETTLING_S', 'FIXED_S'):
        monkeypatch.setattr(rates, name, 2.0)
    path = tmp_path / 'rates.json'
    assert cli.main([
        'benchmark', 'rates', '--weights', str(rated_weights), '--size', '160x120', '--targets',
        '5', '--seconds', '2', '--disturbed', '0', '--engine', 'torch', '--exhaustive',
        '--json', str(path)]) == 0
    row, = json.loads(path.read_text())['targets']
    assert row['target'] == 5
    assert row['lost'] <= row['sent'] and 3 <= row['sent'] <= 20
    assert row['point'].startswith('rated in fp32 at height ')
    assert 30 <= row['miou_percent'] <= 50
    fixed, = row['fixed']
    assert row['point'].startswith(fixed['point'])
    assert fixed['lost'] <= fixed['sent'] and 3 <= fixed['sent'] <= 20
    assert row['best_miou_percent'] == pytest.approx(row['miou_percent'], abs=0.1)
    assert '5 frames/s' in capsys.readouterr().out
