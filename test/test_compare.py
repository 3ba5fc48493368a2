# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A comparison pairs the frames of two runs and marks what is more than chance."""

from __future__ import annotations

import json
import re

from chromium import Chromium
from chromium import program
from lmii_ros import cli
from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.evaluation import fleet
from lmii_ros.evaluation import result_folder
from lmii_ros.evaluation.comparison import OVERALL
from lmii_ros.evaluation.comparison import compare
import made_results
import numpy as np
import pytest


def run(*arguments):
    return cli.main(['evaluate', 'compare', *map(str, arguments)])


def compared(before, after, block=0):
    return compare(result_folder.read(before), result_folder.read(after), block)


def lines_of(folder):
    return [json.loads(line) for line in (folder / 'frames.jsonl').read_text().splitlines()]


def write_lines(folder, lines):
    (folder / 'frames.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def by_hand(lines):
    """Return mIoU, pixel accuracy, drivable IoU and the IoU of each class of summed counts."""
    hits, truth, label, drivable = (
        np.sum([line[key] for line in lines], axis=0)
        for key in ('true_positive', 'truth_pixels', 'label_pixels', 'drivable'))
    iou = hits / (truth + label - hits)
    return np.array([
        iou.mean(), hits.sum() / truth.sum(), drivable[0] / drivable.sum(), *iou])


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Return two runs that share 41 frames; in the second, Fence is worse."""
    folder = tmp_path_factory.mktemp('runs')
    return (
        made_results.make(folder / 'a', 50, dropped=[7, 8, 9], pictures=10),
        made_results.make(
            folder / 'b', 53, noise=2, worse='Fence', dropped=range(40, 46), pictures=10))


def test_scores_are_those_of_the_frames_that_both_have(runs):
    found = compared(*runs)
    lines = [{line['stamp_ns']: line for line in lines_of(folder)} for folder in runs]
    shared = [
        stamp for stamp in lines[0]
        if all(side.get(stamp, {}).get('truth_pixels') for side in lines)]
    assert len(shared) == 41
    assert len(found.paired[0]) == len(found.paired[1]) == 41
    assert found.only == (6, 6)
    before, after = (by_hand([side[stamp] for stamp in shared]) for side in lines)
    assert [change.name for change in found.changes] == [*OVERALL, *CAMVID.classes]
    np.testing.assert_allclose([change.before for change in found.changes], before)
    np.testing.assert_allclose([change.after for change in found.changes], after)


def test_the_interval_is_that_of_a_plain_bootstrap(runs):
    found = compared(*runs, block=1)
    lines = [{line['stamp_ns']: line for line in lines_of(folder)} for folder in runs]
    shared = [
        stamp for stamp in lines[0]
        if all(side.get(stamp, {}).get('truth_pixels') for side in lines)]
    generator = np.random.default_rng(3)
    changes = []
    for _ in range(1000):
        drawn = [shared[index] for index in generator.integers(len(shared), size=len(shared))]
        before, after = (by_hand([side[stamp] for stamp in drawn]) for side in lines)
        changes.append(after - before)
    low, high = np.percentile(changes, (2.5, 97.5), axis=0)
    width = (high - low).mean()
    np.testing.assert_allclose([change.low for change in found.changes], low, atol=0.15 * width)
    np.testing.assert_allclose([change.high for change in found.changes], high, atol=0.15 * width)


def test_blocks_widen_the_interval_of_frames_that_are_alike(tmp_path):
    folders = [
        made_results.make(tmp_path / str(noise), 40, noise=noise, pictures=0)
        for noise in (1, 2)]
    for folder in folders:
        # Every frame five times: as many frames, but no more to see.
        repeated = [
            {**line, 'stamp_ns': line['stamp_ns'] + copy}
            for line in lines_of(folder) for copy in range(5)]
        write_lines(folder, repeated)
    alone, blocks = (
        np.mean([change.high - change.low for change in compared(*folders, block).changes])
        for block in (1, 10))
    assert 1.7 < blocks / alone < 3, 'it should be the square root of five'


def test_few_equal_runs_are_marked_as_different(tmp_path):
    folders = [
        made_results.make(tmp_path / str(noise), 120, noise=noise, pictures=0)
        for noise in range(1, 7)]
    marks = [
        bool(change.verdict)
        for first in range(0, 6, 2) for change in compared(*folders[first:first + 2]).changes]
    assert np.mean(marks) < 0.25


def test_what_is_worse_is_marked_and_fails_if_asked_to(runs, capsys):
    assert run(*runs) == 0
    table = capsys.readouterr().out
    fence, = re.findall('^Fence .*', table, re.M)
    assert fence.endswith('worse')
    assert re.search(r'-\d\d\.\d\d +\[-\d\d\.\d\d, -\d\d\.\d\d\] +worse$', fence)
    assert '41 frames with a ground truth are in both; 6 only in A and 6 only in B' in table
    assert run(*runs, '--fail-on-regression') == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'significantly worse' in error and 'Fence' in error
    assert run(*runs[::-1]) == 0
    better, = re.findall('^Fence .*', capsys.readouterr().out, re.M)
    assert better.endswith('better')


def test_a_run_against_itself_is_the_same_and_the_answer_always_too(runs, capsys):
    assert run(runs[0], runs[0], '--fail-on-regression') == 0
    table = capsys.readouterr().out
    assert 'worse' not in table and 'better' not in table
    assert table.count('+0.00   [+0.00, +0.00]') == len(CAMVID) + len(OVERALL)
    assert run(*runs) == run(*runs) == 0
    out = capsys.readouterr().out
    assert out[:len(out) // 2] == out[len(out) // 2:]


def test_frames_are_paired_by_stamp_whatever_their_place(runs, tmp_path):
    other = made_results.make(
        tmp_path / 'b', 53, noise=2, worse='Fence', dropped=range(40, 46), pictures=0)
    write_lines(other, lines_of(other)[::-1])
    assert compared(runs[0], other).changes == compared(*runs).changes


def test_a_stamp_that_comes_twice_is_paired_twice(tmp_path):
    folders = [
        made_results.make(tmp_path / str(noise), 20, noise=noise, pictures=0)
        for noise in (1, 2)]
    once = compared(*folders).overall
    for folder in folders:
        write_lines(folder, 2 * lines_of(folder))
    found = compared(*folders)
    assert len(found.paired[0]) == 40
    np.testing.assert_allclose(
        [change.change for change in found.overall], [change.change for change in once])


def made_fleet(folder, seeds):
    """Return the merged results of bags that begin at the same stamp, one for each letter."""
    for name, seed in seeds.items():
        made_results.make(folder / name, 20, seed=seed, bag=name)
    fleet.merge(fleet.Fleet(folder=folder, out=folder), list(seeds))
    return folder


def test_frames_of_several_bags_are_paired_within_their_bag(tmp_path):
    before = made_fleet(tmp_path / 'before', {'y': 1, 'z': 2})
    after = made_fleet(tmp_path / 'after', {'x': 0, 'y': 1, 'z': 2})
    found = compared(before, after)
    assert len(found.paired[0]) == 40 and found.only == (0, 20)
    assert found.paired[0].bag == found.paired[1].bag == ('y',) * 20 + ('z',) * 20
    assert [change.change for change in found.changes] == [0.0] * len(found.changes)
    assert not any('truth' in note for note in found.notes[1:])


def test_pictures_of_several_bags_are_paired_within_their_bag(tmp_path):
    before = made_fleet(tmp_path / 'before', {'y': 1, 'z': 2})
    after = made_fleet(tmp_path / 'after', {'x': 0, 'z': 2})
    path = tmp_path / 'comparison.html'
    assert run(before, after, '--out', path) == 0
    titles = set(re.findall('<strong>(Frame[^<]*)</strong>', path.read_text()))
    assert titles == {'Frame 5 of z at 0.33 s', 'Frame 15 of z at 1.00 s'}


def test_runs_without_a_common_frame_are_not_compared(runs, tmp_path, capsys):
    other = made_results.make(tmp_path / 'b', 30, first=1000)
    assert run(runs[0], other, '--fail-on-regression', '--out', tmp_path / 'x.html') == 0
    table = capsys.readouterr().out
    assert 'no frame of A and B has the same stamp' in table
    assert re.search('^mIoU +- +- +-$', table, re.M)
    assert 'There is nothing to compare' in (tmp_path / 'x.html').read_text()


def test_a_rare_class_has_no_interval_where_there_is_nothing_to_resample(tmp_path, capsys):
    folders = [made_results.make(tmp_path / name, 10, pictures=0) for name in 'ab']
    for folder in folders:
        lines = lines_of(folder)
        for line in lines:
            for key in ('true_positive', 'truth_pixels', 'label_pixels'):
                line[key][8] = 0
        write_lines(folder, lines)
    assert run(*folders) == 0
    assert re.search('^Car +- +- +-$', capsys.readouterr().out, re.M)


def test_another_truth_is_said(runs, tmp_path, capsys):
    assert run(runs[0], made_results.make(tmp_path / 'b', 50, seed=5)) == 0
    assert 'the ground truth of A and B differs' in capsys.readouterr().out


@pytest.mark.parametrize('options, message', [
    ({'classes': CITYSCAPES}, 'has the classes of camvid'),
    (None, 'no metrics.json'),
])
def test_what_cannot_be_compared_is_one_line(runs, tmp_path, capsys, options, message):
    if options:
        made_results.make(tmp_path / 'b', 5, **options)
    assert run(runs[0], tmp_path / 'b') == 1
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_an_absurd_block_is_one_line(runs, capsys):
    assert run(*runs, '--block', -1) == 1
    assert 'block of -1' in capsys.readouterr().err


@pytest.mark.skipif(not program(), reason='no Chromium is installed')
def test_a_browser_shows_the_comparison(runs, tmp_path, tmp_path_factory):
    name = '<script>alert(1)</script>'
    other = made_results.make(
        tmp_path / 'b', 50, noise=2, bag=name, machine=name, pictures=10)
    path = tmp_path / 'comparison.html'
    assert run(runs[0], other, '--out', path) == 0
    with Chromium(tmp_path_factory.mktemp('profile')) as browser:
        for width in (1280, 390):
            browser.open(path, width=width)
            assert browser.complaints == []
            assert browser.requests == [path.resolve().as_uri()]
            images = browser.evaluate(
                'Array.from(document.images, i => i.complete && i.naturalWidth)')
            assert len(images) == 40 and all(images)
            assert browser.evaluate('document.documentElement.scrollWidth') <= width
        assert browser.evaluate('document.scripts.length') == 0
        shown = browser.evaluate('document.body.textContent')
    assert shown.count(name) >= 3
    assert 'prediction of B' in shown
