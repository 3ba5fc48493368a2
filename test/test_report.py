# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The report shows what was measured, in a real browser, and needs nothing but itself."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
import json
import re
import subprocess
import sys

from chromium import Chromium
from chromium import program
import cv2
from lmii_ros import bags
from lmii_ros import cli
from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.classes import ClassTable
from lmii_ros.evaluation import fleet
from lmii_ros.evaluation import page as html_page
from lmii_ros.evaluation import report
from lmii_ros.evaluation import result_folder
import numpy as np
import pytest
import made_results

EVIL = '<script>document.title = "owned"</script><img src=x onerror="document.title=1">'
HOSTILE = ClassTable(
    name='hostile',
    classes=(EVIL, '$\\frac{$', 'a & b "c" \'d\'', 'Road', '{{ 7 * 7 }}', '日本'),
    colors=((0, 0, 0), (255, 255, 255), (10, 111, 181), (128, 64, 128), (1, 2, 3), (4, 5, 6)),
    drivable=('Road',))
BROWSER_TIMEOUT_S = 180


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    if not program():
        pytest.skip('no Chromium is installed')
    with Chromium(tmp_path_factory.mktemp('profile')) as chromium:
        yield chromium


class _Text(HTMLParser):
    """The text of a page by section, and the tags."""

    def __init__(self, page):
        super().__init__()
        self.sections = {'': ''}
        self.tags = []
        self._section = ''
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == 'section':
            self._section = dict(attributes)['id']
            self.sections[self._section] = ''

    def handle_endtag(self, tag):
        if tag == 'section':
            self._section = ''

    def handle_data(self, data):
        self.sections[self._section] += data


def made(folder, **options):
    """Return the report of a made-up drive, parsed."""
    return _Text(report.write(made_results.make(folder, **options)).read_text())


def edit(folder, **changes):
    metrics = json.loads((folder / 'metrics.json').read_text())
    metrics.update(changes)
    (folder / 'metrics.json').write_text(json.dumps(metrics))


def counts(folder):
    return json.loads((folder / 'metrics.json').read_text())['counts']


def error_line(capsys):
    error = capsys.readouterr().err
    assert error.count('\n') == 1, error
    return error


def check_page(browser, path, width, dark=False):
    """Open a page and check that it is whole, quiet, and alone in the world."""
    browser.open(path, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [path.resolve().as_uri()]
    images = browser.evaluate('Array.from(document.images, i => i.complete && i.naturalWidth)')
    assert all(images)
    assert browser.evaluate('document.documentElement.scrollWidth') <= width
    # Plots are drawn, not only there.
    heights = browser.evaluate(
        'Array.from(document.querySelectorAll(".plot svg"),'
        'i => i.getBoundingClientRect().height)')
    assert all(height > 50 for height in heights)
    return len(images), len(heights)


@pytest.mark.parametrize('width', [1280, 390])
def test_a_browser_shows_the_report_whole(browser, tmp_path, width):
    folder = made_results.make(tmp_path / 'run', live=True, dropped=range(20, 30))
    path = report.write(folder)
    assert check_page(browser, path, width) == (16, 5)
    assert check_page(browser, path, width, dark=True) == (16, 5)
    assert browser.evaluate('getComputedStyle(document.body).backgroundColor') != (
        'rgb(243, 245, 248)')
    fonts = browser.evaluate(
        'Array.from(document.querySelectorAll("h1, .plot text"),'
        'i => getComputedStyle(i).fontFamily)')
    assert len(fonts) > 100 and len(set(fonts)) == 1
    assert browser.screenshot().startswith(b'\x89PNG')
    assert browser.pdf().startswith(b'%PDF')


def test_a_browser_shows_hostile_names_as_text(browser, tmp_path):
    folder = made_results.make(
        tmp_path / EVIL.replace('/', '_'), classes=HOSTILE, bag=EVIL, faults=[EVIL],
        machine=EVIL, dropped=[3])
    path = report.write(folder)
    check_page(browser, path, 390)
    assert browser.evaluate('document.title') == f'{EVIL} – lmii_ros'
    assert browser.evaluate('document.querySelector("h1").textContent') == EVIL
    assert browser.evaluate('document.scripts.length') == 0
    shown = browser.evaluate('document.body.textContent')
    for name in HOSTILE.classes:
        # In the table, the legend, and, not too long, on both axes of the confusion matrix.
        assert shown.count(name) >= (4 if len(name) < 20 else 2), name
    assert browser.evaluate('document.querySelector(".plot text").textContent')


def test_the_report_shows_the_numbers_of_the_metrics(tmp_path):
    page = made(tmp_path / 'run', dropped=[5])
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    head = page.sections['']
    assert f'{100 * metrics["scores"]["miou"]:.1f} %' in head
    assert f'{100 * metrics["scores"]["drivable"]["iou"]:.1f} %' in head
    assert '59 of 60 frames were labelled (98.3 %)' in head
    for name, iou in metrics['scores']['iou'].items():
        assert re.search(
            rf'{name}\s*(drivable)?\s*{100 * iou:.1f} %', page.sections['classes']), name
    recall = np.array(metrics['counts']['confusion'], float)
    recall /= recall.sum(axis=1, keepdims=True)
    for value in np.diag(recall):
        assert f'>{100 * value:.0f}<' in (tmp_path / 'run' / 'report.html').read_text()
    assert 'replaced by a newer frame' in page.sections['timeline']
    assert 'lmii evaluate bag drive --out run' in page.sections['environment']
    assert set(page.sections) == {
        '', 'classes', 'confusion', 'drivable', 'calibration', 'temporal', 'latency', 'timeline',
        'frames', 'environment'}


def test_the_evaluation_of_a_bag_ends_with_its_report(tmp_path, tiny_weights, capsys):
    rng = np.random.default_rng(0)
    for folder in ('val', 'valannot'):
        (tmp_path / folder).mkdir()
    for index in range(4):
        cv2.imwrite(
            str(tmp_path / 'val' / f'{index}.png'), rng.integers(0, 256, (64, 96, 3), np.uint8))
        cv2.imwrite(
            str(tmp_path / 'valannot' / f'{index}.png'), rng.integers(0, 12, (64, 96), np.uint8))
    bag, out = tmp_path / 'bag', tmp_path / 'out'
    assert cli.main([
        'bag', 'make', str(tmp_path / 'val'), '--labels', str(tmp_path / 'valannot'),
        '--out', str(bag)]) == 0
    topics = list(bags.image_topics(bag))
    image, = (topic for topic in topics if 'truth' not in topic)
    labels, = (topic for topic in topics if 'truth' in topic)
    assert cli.main([
        'evaluate', 'bag', str(bag), '--image', image, '--labels', labels, '--out', str(out),
        '--weights', str(tiny_weights), '--device', 'cpu']) == 0
    assert f'report: {out / "report.html"}' in capsys.readouterr().out
    page = _Text((out / 'report.html').read_text())
    assert set(page.sections) == {
        '', 'classes', 'confusion', 'drivable', 'calibration', 'temporal', 'latency', 'timeline',
        'frames', 'environment'}
    assert 'All 4 frames were labelled, each with a ground truth' in page.sections['']
    assert len([tag for tag, _ in page.tags if tag == 'img']) == 16
    assert 'tiny.safetensors' in page.sections['environment']


def test_every_picture_and_plot_has_words_and_every_table_a_caption(tmp_path):
    page = made(tmp_path / 'run')
    images = [attributes for tag, attributes in page.tags if tag == 'img']
    assert images
    assert all(image['alt'] and image['src'].startswith('data:image/') for image in images)
    plots = [a for tag, a in page.tags if tag == 'div' and a.get('class', '')[:4] == 'plot']
    assert len(plots) == 5
    assert all(plot['role'] == 'img' and plot['aria-label'] for plot in plots)
    tags = [tag for tag, _ in page.tags]
    assert tags.count('caption') == tags.count('table') > 0
    ids = [attributes['id'] for _, attributes in page.tags if 'id' in attributes]
    assert len(ids) == len(set(ids))
    viewport, = (a for tag, a in page.tags if a.get('name') == 'viewport')
    assert 'width=device-width' in viewport['content']


def test_the_report_asks_for_nothing_outside(tmp_path):
    page = made(tmp_path / 'run')
    for tag, attributes in page.tags:
        for key in ('src', 'href', 'xlink:href'):
            if key in attributes:
                assert attributes[key].startswith(('data:', '#')), (tag, attributes)
    assert 'script' not in [tag for tag, _ in page.tags]


def test_without_ground_truth_only_what_is_known_is_shown(tmp_path):
    page = made(tmp_path / 'run', truth=False)
    assert set(page.sections) == {'', 'temporal', 'latency', 'frames', 'environment'}
    assert 'there is no ground truth' in page.sections['']
    assert 'mIoU' not in page.sections['']
    assert 'ground truth' not in page.sections['temporal'].split('flicker')[1]
    assert [a['alt'] for tag, a in page.tags if tag == 'img'][:2] == [
        'Frame 15 at 1.00 s: camera', 'Frame 15 at 1.00 s: prediction']


def test_pictures_of_several_bags_tell_their_bag_and_the_time_in_it(tmp_path):
    for name, first in (('later', 1000), ('town/a', 0)):
        made_results.make(tmp_path / name, 20, first=first)
    fleet.merge(fleet.Fleet(folder=tmp_path, out=tmp_path), ['later', 'town/a'])
    shown = report.write(tmp_path).read_text()
    # Between two bags may lie days.
    assert 'frame (of several bags)' in shown
    assert set(re.findall('<strong>(Frame[^<]*)</strong>', shown)) == {
        f'Frame {index} of {name} at {index / 15:.2f} s'
        for name in ('later', 'town/a') for index in (5, 15)}


def test_nothing_but_counts_still_makes_a_report(tmp_path):
    folder = made_results.make(tmp_path / 'run', frames=0, truth=False, pictures=0)
    (folder / 'run.json').unlink()
    (folder / 'frames.jsonl').unlink()
    page = _Text(report.write(folder).read_text())
    assert set(page.sections) == {'', 'temporal', 'environment'}


def test_all_frames_dropped_is_said(tmp_path):
    page = made(tmp_path / 'run', frames=5, dropped=range(5), live=True)
    assert '0 of 5 frames were labelled (0.0 %); none has a ground truth' in page.sections['']


def test_faults_are_told_but_not_without_end(tmp_path):
    page = made(tmp_path / 'run', faults=[f'fault {number}' for number in range(50)])
    assert 'fault 19' in page.sections['']
    assert 'fault 20' not in page.sections['']
    assert 'and 30 more' in page.sections['']


def test_the_length_of_the_drive_does_not_matter(tmp_path):
    sizes = [
        report.write(made_results.make(
            tmp_path / str(frames), frames, live=True, dropped=range(0, frames, 9), pictures=40)
        ).stat().st_size for frames in (1000, 3000)]
    assert sizes[1] < 1.2 * sizes[0] < 600_000


def test_stamps_that_jump_back_and_one_frame_are_drawn(tmp_path):
    folder = made_results.make(tmp_path / 'run', frames=20)
    lines = (folder / 'frames.jsonl').read_text().splitlines(keepends=True)
    (folder / 'frames.jsonl').write_text(''.join(lines + lines))
    assert 'the stamps jump back' in report.write(folder).read_text()
    made(tmp_path / 'one', frames=1)


def test_many_classes_are_drawn_without_numbers(tmp_path):
    names = tuple(f'class {index}' for index in range(80))
    classes = ClassTable('many', names, ((9, 8, 7),) * 80, names[:1])
    path = report.write(made_results.make(tmp_path / 'run', classes=classes))
    assert path.stat().st_size < 600_000
    made(tmp_path / 'city', classes=CITYSCAPES)


def test_the_same_results_give_the_same_report(tmp_path):
    folder = made_results.make(tmp_path / 'run')
    assert report.write(folder).read_bytes() == report.write(folder).read_bytes()


def test_pictures_that_were_removed_are_left_out(tmp_path):
    folder = made_results.make(tmp_path / 'run')
    for path in (folder / 'frames').glob('*_difference.png'):
        path.unlink()
    page = _Text(report.write(folder).read_text())
    assert len([tag for tag, _ in page.tags if tag == 'img']) == 12


def test_large_pictures_are_reduced(tmp_path):
    cv2.imwrite(str(tmp_path / 'x.png'), np.zeros((720, 1280, 3), np.uint8))
    data = base64.b64decode(html_page.data_uri(tmp_path / 'x.png').partition(',')[2])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape == (270, 480, 3)


def test_the_command_makes_the_report_anew(tmp_path, capsys):
    folder = made_results.make(tmp_path / 'run')
    assert cli.main(['evaluate', 'report', str(folder)]) == 0
    assert capsys.readouterr().out == f'{folder / "report.html"}\n'
    assert 'Evaluation of a drive' in (folder / 'report.html').read_text()


@pytest.mark.parametrize('spoil, message', [
    (lambda folder: (folder / 'metrics.json').unlink(), 'no metrics.json'),
    (lambda folder: (folder / 'metrics.json').write_text('{"format": 1'), 'not JSON'),
    (lambda folder: (folder / 'metrics.json').write_text('[]'), 'metrics.json is [], expected'),
    (lambda folder: (folder / 'metrics.json').write_bytes(b'{"format": "\xff"}'),
     'metrics.json: not JSON'),
    (lambda folder: (folder / 'metrics.json').write_text('[' * 100_000), 'metrics.json: not JSON'),
    (lambda folder: edit(folder, source=json.loads('{"a":' * 99 + '1' + '}' * 99)),
     'metrics.json: nested deeper'),
    (lambda folder: edit(folder, frames={'labelled': 4}), 'frames: total is None'),
    (lambda folder: edit(folder, frames={'total': 0, 'labelled': 3}), '3 frames labelled and 0'),
    (lambda folder: edit(folder, frames={'total': 4, 'labelled': 4, 'truth': {'exact': None}}),
     'frames: truth: exact is None, expected a whole number'),
    (lambda folder: edit(folder, counts={'confusion': 5}), 'malformed counts'),
    (lambda folder: edit(folder, counts=counts(folder) | {'confusion': 5}), 'malformed counts'),
    (lambda folder: edit(folder, scores={'drivable': [1]}), 'scores: drivable is [1], expected'),
    (lambda folder: edit(folder, scores={'miou': 'x'}), "scores: miou is 'x', expected a number"),
    (lambda folder: edit(folder, pictures=[{'index': 1, 'stamp_ns': 2}]), '[0]: why is None'),
    (lambda folder: edit(folder, pictures=[None]), 'pictures[0]: index is None'),
    (lambda folder: edit(folder, pictures={}), 'pictures is {}, expected a list'),
    (lambda folder: (folder / 'run.json').write_text('[]'), 'run.json is [], expected an object'),
    (lambda folder: (folder / 'run.json').write_text(
        '{"latency_ms": {"histogram": {"counts": [1]}}}'), '1 counts with 0 edges'),
    (lambda folder: (folder / 'run.json').write_text('{"machine": [1]}'), 'machine is [1]'),
    (lambda folder: (folder / 'frames.jsonl').write_bytes(b'"\xff"\n'), 'line 1: not JSON'),
    (lambda folder: (folder / 'frames.jsonl').write_text('[' * 100_000), 'line 1: not JSON'),
    (lambda folder: edit(folder, format=2), 'format 2, expected 1'),
    (lambda folder: edit(folder, counts={}), 'malformed counts'),
    (lambda folder: edit(folder, scores=None), "no 'scores'"),
    (lambda folder: edit(folder, classes={}), 'a class table needs'),
    (lambda folder: edit(folder, classes=CITYSCAPES.to_dict()), 'counts of 11 classes'),
    (lambda folder: (folder / 'frames.jsonl').write_text('{}\n'), 'line 1: not a frame'),
    (lambda folder: (folder / 'frames.jsonl').write_text('1\n'), 'line 1: not a frame'),
    (lambda folder: (folder / 'frames.jsonl').write_text('{\n'), 'line 1: not JSON'),
    (lambda folder: (folder / 'run.json').write_text('x'), 'run.json: not JSON'),
])
def test_a_folder_of_something_else_is_one_line(tmp_path, capsys, spoil, message):
    folder = made_results.make(tmp_path / 'run', frames=4, pictures=0)
    spoil(folder)
    assert cli.main(['evaluate', 'report', str(folder)]) == 1
    line = error_line(capsys)
    assert message in line
    assert cli.main(['evaluate', 'compare', str(folder), str(folder)]) == 1
    assert error_line(capsys) == line


@pytest.mark.parametrize('scores', [
    {}, {'temporal': {'flip_rate': 0.1}},
    {'temporal': {'truth_flip_rate': 0.1}, 'drivable': None}])
def test_scores_that_are_not_there_are_left_out(tmp_path, scores):
    folder = made_results.make(tmp_path / 'run', frames=4, pictures=0)
    edit(folder, scores=scores, pictures=None, faults=None)
    (folder / 'run.json').write_text('{"latency_ms": {"p50": null, "p90": 2.0}}')
    assert 'mIoU' not in _Text(report.write(folder).read_text()).sections['']
    assert cli.main([
        'evaluate', 'compare', str(folder), str(folder), '--out', str(tmp_path / 'x.html')]) == 0


def test_a_missing_package_is_one_line(tmp_path):
    folder = made_results.make(tmp_path / 'run', frames=4, pictures=0)
    program = (
        'import sys; sys.modules["matplotlib"] = None\n'
        'from lmii_ros import cli; sys.exit(cli.main(sys.argv[1:]))')
    process = subprocess.run(
        [sys.executable, '-c', program, 'evaluate', 'report', folder], capture_output=True,
        text=True, timeout=BROWSER_TIMEOUT_S)
    assert process.returncode == 1
    assert process.stderr.count('\n') == 1
    assert 'matplotlib' in process.stderr


def test_frames_are_read_as_they_were_written(tmp_path):
    folder = made_results.make(tmp_path / 'run', frames=8, dropped=[2], live=True)
    frames = result_folder.read(folder).frames
    lines = [json.loads(line) for line in (folder / 'frames.jsonl').read_text().splitlines()]
    assert frames.labelled.tolist() == [index != 2 for index in range(8)]
    assert frames.scored.tolist() == frames.labelled.tolist()
    assert frames.stamp_ns.tolist() == [line['stamp_ns'] for line in lines]
    assert np.isnan(frames.miou[2]) and np.isnan(frames.latency_ms[2])
    assert frames.true_positive[3].tolist() == lines[3]['true_positive']
    confusion = result_folder.read(folder).counts.confusion
    assert frames.true_positive.sum(axis=0).tolist() == np.diag(confusion).tolist()
    assert len(CAMVID) == frames.truth_pixels.shape[1]
