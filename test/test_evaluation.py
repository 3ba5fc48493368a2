# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The scores of `lmii evaluate dataset` are those of a count by hand; `lmii` fails in a line."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
from lmii_ros import cli
from lmii_ros import datasets
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.classes import UNKNOWN
from lmii_ros.evaluation import dataset as evaluation
from lmii_ros.evaluation.dataset import EvaluationError
from lmii_ros.segmenter import Segmenter
from lmii_ros.weights import WeightInfo
import numpy as np
import pytest
import torch

ARGUMENTS = {'depths': [1, 1, 1, 1, 1], 'widths': [8, 8, 16, 16, 16], 'ratios': [1.0]}
SIZE = (48, 64)


def save(path, classes, **told):
    """Write a weight file of a random network."""
    torch.manual_seed(4)
    network = networks.build('lpsnet', len(classes), **ARGUMENTS)
    with torch.no_grad():
        # One class that is never given.
        network.classifier.bias[1] = -1e4
    weights.save(path, WeightInfo(
        network='lpsnet', arguments=ARGUMENTS, classes=classes, mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3), input_size=SIZE, **told), network)
    return path


@pytest.fixture(scope='module')
def weight_file(tmp_path_factory):
    return save(tmp_path_factory.mktemp('weights') / 'tiny.safetensors', CAMVID)


@pytest.fixture
def data(tmp_path):
    """Return a folder of three images; class 10 is not in the truth, 11 is void."""
    root = tmp_path / 'camvid'
    rng = np.random.default_rng(1)
    for folder in ('val', 'valannot'):
        (root / folder).mkdir(parents=True)
    for index in range(3):
        image = cv2.resize(
            rng.integers(0, 256, (4, 5, 3), np.uint8), SIZE[::-1],
            interpolation=cv2.INTER_CUBIC)
        labels = rng.integers(0, 10, SIZE, np.uint8)
        labels[:5] = 11
        cv2.imwrite(str(root / 'val' / f'{index}.png'), image)
        cv2.imwrite(str(root / 'valannot' / f'{index}.png'), labels)
    return root


def count(root, weight_file):
    """Return the confusion of a data set, pixel by pixel."""
    segmenter = Segmenter(weight_file, device='cpu')
    counts = np.zeros((11, 12), int)
    for path in sorted((root / 'val').iterdir()):
        truth = cv2.imread(str(root / 'valannot' / path.name), cv2.IMREAD_UNCHANGED)
        labels = segmenter.segment([cv2.imread(str(path))])[0].labels
        for true, label in zip(truth.ravel().tolist(), labels.ravel().tolist()):
            if true != 11:
                counts[true, 11 if label == UNKNOWN else label] += 1
    return counts


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def evaluate(data, weight_file, *more):
    return run('evaluate', 'dataset', data, '--weights', weight_file, '--device', 'cpu', *more)


def strict(text):
    """Parse JSON as other programs do: without NaN."""
    def refuse(name):
        raise ValueError(f'{name} is not JSON')
    return json.loads(text, parse_constant=refuse)


def error_line(capsys):
    """Return the one line on stderr."""
    error = capsys.readouterr().err
    assert error.count('\n') == 1, error
    return error


def test_scores_are_those_of_a_count_by_hand(data, weight_file, tmp_path, capsys):
    report = tmp_path / 'report.json'
    assert evaluate(data, weight_file, '--json', report) == 0
    counts = count(data, weight_file)
    result = strict(report.read_text())
    assert result['confusion'] == counts.tolist()

    assert counts[:, 1].sum() == 0 and counts[1].sum() > 0, 'class 1 is never given'
    expected = {}
    for index, name in enumerate(CAMVID.classes):
        hits = counts[index, index]
        union = counts[index].sum() + counts[:, index].sum() - hits
        expected[name] = hits / union if union else None
    assert list(result['iou']) == list(CAMVID.classes)
    assert result['iou'] == pytest.approx(expected)
    known = [value for value in expected.values() if value is not None]
    assert result['miou'] == pytest.approx(np.mean(known))
    accuracy = np.trace(counts[:, :11]) / counts.sum()
    assert result['pixel_accuracy'] == pytest.approx(accuracy)

    rows = capsys.readouterr().out.splitlines()
    assert [row[:16].strip() for row in rows] == [*CAMVID.classes, 'mIoU', 'pixel accuracy']
    shown = [float(row[16:].removesuffix('%')) for row in rows]
    numbers = [np.nan if value is None else value for value in expected.values()]
    np.testing.assert_allclose(
        shown, 100 * np.array([*numbers, result['miou'], accuracy]), atol=0.0051)


def test_the_scores_of_a_weight_file_are_those_in_fp32(data, tmp_path):
    # Which has lower precisions too, in which the node may run it.
    for name, more in (('default', ()), ('fp32', ('--precision', 'fp32'))):
        assert evaluate(data, 'lpsnet_s_camvid', '--json', tmp_path / name, *more) == 0
    assert (tmp_path / 'default').read_bytes() == (tmp_path / 'fp32').read_bytes()


@pytest.mark.parametrize('split, told', [('train+val', True), ('train', False)])
def test_a_split_that_the_weights_were_trained_on_is_told(data, tmp_path, capsys, split, told):
    trained = save(
        tmp_path / 'w.safetensors', CAMVID, data=f'camvid {split}', recipe={'split': split})
    assert evaluate(data, trained) == 0
    if told:
        assert error_line(capsys).startswith('note: the weights were trained on val (camvid ')
    else:
        assert capsys.readouterr().err == ''


def test_an_absent_class_is_null(data, weight_file, tmp_path):
    classes = CAMVID
    counts = np.zeros((11, 12), np.int64)
    counts[0, 0] = 3
    result = strict(evaluation.to_json(counts, classes))
    assert result['iou']['Sky'] == 1
    assert result['iou']['Road'] is None
    assert result['miou'] == 1


def test_a_data_set_of_void_alone_still_gives_json(data, weight_file, tmp_path):
    for path in (data / 'valannot').iterdir():
        cv2.imwrite(str(path), np.full(SIZE, 11, np.uint8))
    report = tmp_path / 'report.json'
    assert evaluate(data, weight_file, '--json', report) == 0
    assert strict(report.read_text())['miou'] is None


def test_counts_are_at_label_resolution_whatever_the_input_height(data, weight_file, tmp_path):
    report = tmp_path / 'report.json'
    confusions = []
    for height in (32, 96):
        assert evaluate(
            data, weight_file, '--input-height', height, '--json', report) == 0
        confusions.append(np.array(strict(report.read_text())['confusion']))
    assert confusions[0].sum() == confusions[1].sum() == 3 * (SIZE[0] - 5) * SIZE[1]
    assert (confusions[0] != confusions[1]).any()


def test_other_classes_are_refused(data, tmp_path, capsys):
    path = save(tmp_path / 'other.safetensors', CITYSCAPES)
    assert evaluate(data, path) == 1
    line = error_line(capsys)
    assert line.startswith('lmii evaluate: ')
    assert 'cityscapes' in line
    assert 'camvid' in line


def test_labels_of_another_size_than_the_image_are_refused(data, weight_file):
    cv2.imwrite(str(data / 'valannot' / '1.png'), np.zeros((24, 32), np.uint8))
    with pytest.raises(EvaluationError, match=r'1\.png is \(48, 64\), its labels are \(24, 32\)'):
        evaluation.evaluate(
            Segmenter(weight_file, device='cpu'), datasets.camvid(data, 'val'))


def test_faults_of_the_data_are_one_line(data, weight_file, capsys):
    assert evaluate(data, weight_file, '--split', 'test') == 1
    assert 'no folder' in error_line(capsys)
    assert evaluate(data / 'nowhere', weight_file) == 1
    assert 'no folder' in error_line(capsys)
    (data / 'valannot' / '1.png').unlink()
    assert evaluate(data, weight_file) == 1
    assert 'no label image' in error_line(capsys)
    (data / 'valannot' / '1.png').write_bytes(b'x')
    assert evaluate(data, weight_file) == 1
    assert 'not a readable label image' in error_line(capsys).splitlines()[-1]


def test_what_an_earlier_evaluation_left_is_not_taken_for_the_result(
        data, weight_file, tmp_path, capsys):
    report = tmp_path / 'report.json'
    report.write_text('{"miou": 0.9}')
    assert evaluate(data, weight_file, '--split', 'test', '--json', report) == 1
    assert report.read_text() == ''


def test_faults_of_the_weights_are_one_line(data, weight_file, tmp_path, capsys):
    assert evaluate(data, 'nothing') == 1
    assert 'shipped with the package are' in error_line(capsys)
    (tmp_path / 'x.safetensors').write_bytes(weight_file.read_bytes()[:1000])
    assert evaluate(data, tmp_path / 'x.safetensors') == 1
    assert 'expected a safetensors file' in error_line(capsys)


def test_a_device_that_is_not_there_is_one_line(data, weight_file, capsys):
    assert run(
        'evaluate', 'dataset', data, '--weights', weight_file, '--device', 'cuda:63') == 1
    assert "device 'cuda:63' was asked for" in error_line(capsys)


def test_weights_that_overflow_are_one_line(data, weight_file, tmp_path, capsys):
    info, network = weights.load(weight_file)
    with torch.no_grad():
        network.classifier.weight[:] = 3e38
    weights.save(tmp_path / 'x.safetensors', info, network)
    assert evaluate(data, tmp_path / 'x.safetensors') == 1
    assert 'not finite' in error_line(capsys)


@pytest.mark.parametrize('height', [-5, -1])
def test_an_absurd_input_height_is_one_line(data, weight_file, capsys, height):
    assert evaluate(data, weight_file, '--input-height', height) != 0
    assert 'height' in error_line(capsys)


def test_a_report_that_cannot_be_written_is_one_line(data, weight_file, tmp_path, capsys):
    assert evaluate(data, weight_file, '--json', tmp_path / 'missing' / 'report.json') == 1
    assert 'report.json' in error_line(capsys)


def test_the_command_as_a_process(data, weight_file, tmp_path):
    command = [sys.executable, '-m', 'lmii_ros.cli', 'evaluate', 'dataset', str(data)]
    report = tmp_path / 'report.json'
    result = subprocess.run(
        [*command, '--weights', str(weight_file), '--device', 'cpu', '--json', str(report)],
        capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert 'mIoU' in result.stdout
    assert strict(report.read_text())['confusion'] == count(data, weight_file).tolist()
    result = subprocess.run(
        [*command, '--weights', 'nothing'], capture_output=True, text=True, timeout=100)
    assert result.returncode == 1
    assert result.stdout == ''
    assert result.stderr.startswith('lmii evaluate: no weight file nothing;')
    assert result.stderr.count('\n') == 1


@pytest.mark.parametrize('arguments', [
    ['--help'], ['evaluate', '--help'], ['evaluate', 'dataset', '--help'],
    ['evaluate', 'bag', '--help'], ['bag', 'make', '--help'], ['train', '--help'],
    ['demo', '--help']], ids=' '.join)
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    assert 'usage: lmii' in capsys.readouterr().out


def test_help_does_not_wait_for_heavy_imports():
    program = (
        'import sys\n'
        'from lmii_ros import cli\n'
        'try:\n'
        '    cli.main(["--help"])\n'
        'finally:\n'
        '    print("heavy:", *sorted({"torch", "cv2", "rclpy"} & set(sys.modules)))\n')
    result = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert 'evaluate' in result.stdout
    assert result.stdout.splitlines()[-1].split() == ['heavy:']


@pytest.mark.parametrize('arguments', [
    [], ['unknown'], ['evaluate'], ['evaluate', 'weather'], ['evaluate', 'dataset'],
    ['train', 'recipe.yaml'], ['evaluate', 'dataset', 'x', '--input-height', 'high']],
    ids=' '.join)
def test_a_wrong_command_line_is_exit_code_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert 'usage: lmii' in capsys.readouterr().err


def test_pictures_show_the_confusion_and_the_worst_images(data, weight_file, tmp_path, capsys):
    out = tmp_path / 'some' / 'pictures'
    for index in range(3, 14):
        for folder in ('val', 'valannot'):
            image = cv2.imread(str(data / folder / f'{index % 3}.png'), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(data / folder / f'{index}.png'), image)
    # What is labelled as it is true is not among the worst; what is void has no score.
    labels = Segmenter(weight_file, device='cpu').segment(
        [cv2.imread(str(data / 'val' / '0.png'))])[0].labels
    cv2.imwrite(str(data / 'valannot' / '0.png'), labels)
    cv2.imwrite(str(data / 'valannot' / '1.png'), np.full(SIZE, 11, np.uint8))
    assert evaluate(data, weight_file, '--out', out) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert sorted(path.name for path in out.iterdir()) == ['confusion.png', 'worst.png']
    confusion = cv2.imread(str(out / 'confusion.png'))
    assert min(confusion.shape[:2]) > 400
    assert len(np.unique(confusion.reshape(-1, 3), axis=0)) > 50
    worst = cv2.imread(str(out / 'worst.png'))
    assert worst.shape == (10 * (22 + 300), 4 * 400, 3)
    difference = worst[22:322, 1200:].reshape(-1, 3)
    colors = {tuple(color) for color in difference.tolist()}
    assert {(255, 255, 255), (0, 0, 255), (0, 0, 0)} <= colors


def test_pictures_that_cannot_be_written_are_one_line(data, weight_file, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert evaluate(data, weight_file, '--out', tmp_path / 'file' / 'x') == 1
    assert 'file' in error_line(capsys)
