# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Many bags give the sums of each, whoever did them, whatever died, and each is done once."""

from __future__ import annotations

import json
import os
from pathlib import Path
import random
import re
import shutil
import signal
import sys
import time

from lmii_ros import cli
from lmii_ros.bags import ImageBagWriter
from lmii_ros.evaluation import fleet
from lmii_ros.metrics import Counts
import numpy as np
import pytest

TIMEOUT_S = 240.0
IMAGE = '/camera/image_raw'
LABELS = '/camera/ground_truth'
LENGTHS = {'b': 120, 'town/a': 80, 'town/c': 3}


def write_bag(path, seed, count):
    """Write a bag of noise with labels of noise."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ImageBagWriter(path) as bag:
        for index in range(count):
            stamp_ns = 10 ** 9 + index * 10 ** 8
            image = rng.integers(0, 256, (48, 64, 3), np.uint8)
            labels = rng.integers(0, 11, (48, 64), np.uint8)
            bag.write_image(IMAGE, stamp_ns, 'camera', image, 'bgr8')
            bag.write_image(LABELS, stamp_ns, 'camera', labels, 'mono8')


def arguments(bags, out, tiny_weights, *more):
    return [str(word) for word in (
        'evaluate', 'bags', bags, '--image', IMAGE, '--labels', LABELS, '--weights', tiny_weights,
        '--device', 'cpu', '--precision', 'fp32', '--out', out, *more)]


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Return a folder of bags, one of which is a file alone; and of what is none."""
    folder = tmp_path_factory.mktemp('fleet') / 'bags'
    for seed, (name, count) in enumerate(LENGTHS.items()):
        write_bag(folder / name, seed, count)
    write_bag(folder.parent / 'single', 9, 2)
    shutil.copy(folder.parent / 'single' / 'single.mcap', folder / 'single.mcap')
    (folder / 'notes.txt').write_text('no bag')
    (folder / '._single.mcap').write_text('what macOS leaves')
    return folder


NAMES = ['b', 'single.mcap', 'town/a', 'town/c']


@pytest.fixture(scope='module')
def expected(bags, tiny_weights):
    """Return the results of two workers."""
    out = bags.parent / 'expected'
    assert cli.main(arguments(bags, out, tiny_weights, '--workers', 2)) == 0
    return out


def same(out, expected):
    """Check that the merged results are the same bytes."""
    for name in ('metrics.json', 'frames.jsonl'):
        assert (out / name).read_bytes() == (expected / name).read_bytes()


def bags_evaluated(out):
    return json.loads((out / 'run.json').read_text())['bags_evaluated']


def who_evaluates(out, name, process):
    """Return the process that is in the midst of a bag."""
    wanted = str(out / name / 'frames.jsonl')
    deadline = time.monotonic() + TIMEOUT_S
    while process.running and time.monotonic() < deadline:
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                if any(os.readlink(link.path) == wanted for link in os.scandir(f'/proc/{pid}/fd')):
                    return int(pid)
            except OSError:
                # It ended, or closed a file, in between.
                pass
        time.sleep(0.01)
    raise AssertionError(f'nobody evaluates {name}:\n{process.output}')


def kill_who_evaluates(out, name, process):
    """Kill a process as one that ran out of memory."""
    os.kill(who_evaluates(out, name, process), signal.SIGKILL)


def test_the_sums_are_those_of_each_bag(bags, expected, tiny_weights, tmp_path):
    merged = json.loads((expected / 'metrics.json').read_text())
    assert merged['source']['bags'] == NAMES
    alone = []
    for name in NAMES:
        cli.main([
            'evaluate', 'bag', str(bags / name), '--image', IMAGE, '--labels', LABELS,
            '--weights', str(tiny_weights), '--device', 'cpu', '--precision', 'fp32',
            '--out', str(tmp_path / name)])
        alone.append(json.loads((tmp_path / name / 'metrics.json').read_text()))
        assert alone[-1] == json.loads((expected / name / 'metrics.json').read_text())
    assert merged['frames']['total'] == sum(one['frames']['total'] for one in alone) == 205
    total = Counts.from_dict(alone[0]['counts'])
    for one in alone[1:]:
        total += Counts.from_dict(one['counts'])
    assert merged['counts'] == total.to_dict()
    assert np.array(merged['counts']['confusion']).sum() == 205 * 48 * 64
    lines = [json.loads(line) for line in (expected / 'frames.jsonl').read_text().splitlines()]
    assert [line['bag'] for line in lines] == ['b'] * 120 + ['single.mcap'] * 2 + [
        'town/a'] * 80 + ['town/c'] * 3
    for picture in merged['pictures']:
        assert (expected / picture['camera']).is_file()


def test_the_order_does_not_matter(bags, expected, tmp_path, tiny_weights):
    shutil.copytree(expected, tmp_path / 'out')
    (tmp_path / 'out' / 'metrics.json').unlink()
    names = list(NAMES)
    random.Random(1).shuffle(names)
    fleet.merge(fleet.Fleet(
        folder=bags, out=tmp_path / 'out', weight_file=str(tiny_weights), image_topic=IMAGE,
        labels_topic=LABELS), names)
    same(tmp_path / 'out', expected)


def test_what_is_done_is_not_done_again(bags, expected, tiny_weights, tmp_path):
    out = tmp_path / 'out'
    shutil.copytree(expected, out)

    def left(**changes):
        settings = fleet.Fleet(**({
            'folder': bags, 'out': out, 'weight_file': str(tiny_weights), 'device': 'cpu',
            'precision': 'fp32', 'image_topic': IMAGE, 'labels_topic': LABELS} | changes))
        return [task.name for task in fleet.tasks(settings) if not task.is_done()]

    assert left() == left(workers=5) == []
    assert left(tolerance_ms=5.0) == left(weight_file='lpsnet_s_camvid') == NAMES
    # Results that are not those that were written are none.
    path = out / 'town/c' / 'metrics.json'
    path.write_text(path.read_text().replace('"labelled": 3', '"labelled": 2'))
    os.utime(bags / 'single.mcap')
    assert left() == ['single.mcap', 'town/c']
    assert cli.main(arguments(bags, out, tiny_weights)) == 0
    assert bags_evaluated(out) == 2
    assert left() == []
    same(out, expected)


def test_a_bag_that_links_lead_to_counts_once(bags, tiny_weights, tmp_path):
    folder = tmp_path / 'bags'
    shutil.copytree(bags / 'town', folder / 'town')
    for link, target in (
            ('latest', 'town/c'), ('latest.mcap', 'town/c/c.mcap'), ('loop', '.'),
            ('self', 'self'), ('city', 'town'), ('another', bags / 'b'),
            ('away.mcap', bags / 'single.mcap')):
        (folder / link).symlink_to(target)
    found = fleet.tasks(fleet.Fleet(
        folder=folder, out=tmp_path / 'out', weight_file=str(tiny_weights)))
    assert [task.name for task in found] == ['another', 'away.mcap', 'town/a', 'town/c']


def test_a_bag_that_fails_is_reported_and_leaves_the_others(
        bags, expected, tiny_weights, tmp_path, capsys):
    folder = tmp_path / 'bags'
    shutil.copytree(bags / 'town', folder / 'town')
    (folder / 'broken.mcap').write_text('no bag')
    with ImageBagWriter(folder / 'other') as bag:
        bag.write_image('/else', 1, 'camera', np.zeros((8, 8, 3), np.uint8), 'bgr8')
    # Below the bags: what is in there is not evaluated in its turn.
    out = folder / 'results'
    shutil.copytree(expected / 'town', out / 'town')
    assert cli.main(arguments(folder, out, tiny_weights, '--annotate')) == 1
    *reported, last = capsys.readouterr().err.splitlines()
    assert last.startswith('lmii evaluate: not all of the bags could be used: broken.mcap: ')
    for name in ('broken.mcap', 'other'):
        assert sum(line.startswith(f'{name}: ') for line in reported) == 1
    assert (out / 'town/a/annotated/metadata.yaml').is_file()
    merged = json.loads((out / 'metrics.json').read_text())
    assert merged['source']['bags'] == ['town/a', 'town/c']
    assert len(merged['faults']) == 2
    assert f"no image topic '{LABELS}'; it has: /else" in merged['faults'][1]
    found = [task.name for task in fleet.tasks(fleet.Fleet(folder=folder, out=out))]
    assert found == ['broken.mcap', 'other', 'town/a', 'town/c']


@pytest.mark.parametrize('change, line', [
    ({'--tolerance-ms': '-1'}, 'tolerance is -1.0'),
    ({'--workers': '0'}, '0 workers, expected at least 1'),
    ({'--weights': 'nothing'}, 'no weight file nothing'),
])
def test_what_cannot_work_is_said_in_a_line(bags, tiny_weights, tmp_path, capsys, change, line):
    more = [word for pair in change.items() for word in pair]
    assert cli.main(arguments(bags, tmp_path / 'out', tiny_weights, *more)) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and line in error


def test_a_folder_without_bags_is_said_in_a_line(tiny_weights, tmp_path, capsys):
    for folder, line in ((tmp_path, 'no bag in this folder'), (tmp_path / 'x', 'no such folder')):
        assert cli.main(arguments(folder, tmp_path / 'out', tiny_weights)) == 1
        error = capsys.readouterr().err
        assert error.count('\n') == 1 and line in error


def test_other_operating_points_do_not_add_up(bags, expected, tiny_weights, tmp_path):
    out = tmp_path / 'out'
    shutil.copytree(expected, out)
    path = out / 'town/c' / 'metrics.json'
    path.write_text(path.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    with pytest.raises(fleet.FleetError, match='town/c and b were evaluated at different'):
        fleet.merge(fleet.Fleet(folder=bags, out=out), NAMES)


def start(start_process, *words):
    return start_process(sys.executable, '-m', 'lmii_ros.cli', *words)


def test_local_workers_may_die(bags, expected, tiny_weights, tmp_path, start_process):
    out = tmp_path / 'out'
    process = start(start_process, *arguments(bags, out, tiny_weights))
    for _ in range(2):
        kill_who_evaluates(out, 'b', process)
        (out / 'b' / 'frames.jsonl').unlink()
    kill_who_evaluates(out, 'town/a', process)
    assert process.wait(TIMEOUT_S) == 1
    assert re.search(r'^b: the process that evaluated it died, 2 times$', process.output, re.M)
    assert 'town/a: its process died; done again' in process.output
    assert 'Traceback' not in process.output
    assert 'leaked' not in process.output
    merged = json.loads((out / 'metrics.json').read_text())
    assert merged['source']['bags'] == [name for name in NAMES if name != 'b']
    assert cli.main(arguments(bags, out, tiny_weights)) == 0
    assert bags_evaluated(out) == 1
    same(out, expected)


def test_an_interrupt_ends_all_of_it(bags, tiny_weights, tmp_path, start_process):
    out = tmp_path / 'out'
    process = start(start_process, *arguments(bags, out, tiny_weights, '--workers', 2))
    who_evaluates(out, 'b', process)
    os.killpg(process.popen.pid, signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 130
    assert 'Traceback' not in process.output
    process.wait_for_left_processes()


def starts_workers(process):
    """Return whether one of the processes that it has started is to be a worker."""
    pid = process.popen.pid
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return any(b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes() for child in children)


def test_an_interrupt_while_workers_start(bags, tiny_weights, tmp_path, start_process):
    process = start(start_process, *arguments(bags, tmp_path / 'out', tiny_weights))
    deadline = time.monotonic() + TIMEOUT_S
    while not starts_workers(process):
        assert process.running and time.monotonic() < deadline, process.output
        time.sleep(0.01)
    # By now it imports, which takes seconds.
    time.sleep(0.2)
    os.killpg(process.popen.pid, signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 130
    assert 'Traceback' not in process.output
    process.wait_for_left_processes()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_what_started_them(
        bags, tiny_weights, tmp_path, start_process, number):
    out = tmp_path / 'out'
    process = start(start_process, *arguments(bags, out, tiny_weights, '--workers', 2))
    who_evaluates(out, 'b', process)
    process.popen.send_signal(number)
    assert process.wait(TIMEOUT_S) == -number
    process.wait_for_left_processes()


def test_workers_of_ray_may_die(bags, expected, tiny_weights, tmp_path, start_process):
    pytest.importorskip('ray')
    out = tmp_path / 'out'
    process = start(
        start_process, *arguments(bags, out, tiny_weights, '--workers', 2, '--on', 'ray'))
    kill_who_evaluates(out, 'b', process)
    assert process.wait(TIMEOUT_S) == 0, process.output
    assert bags_evaluated(out) == len(NAMES)
    same(out, expected)
