# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training learns, survives a kill without a trace, and keeps labels on their pixels."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import cv2
from lmii_ros import cli
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.classes import UNKNOWN
from lmii_ros.datasets import camvid
from lmii_ros.simulation import RoadScene
from lmii_ros.training import images
from lmii_ros.training import recipe as recipes
from lmii_ros.training import trainer
from lmii_ros.training.augmentation import crop
from lmii_ros.training.augmentation import vary_color
from lmii_ros.training.images import TrainingImages
from lmii_ros.training.recipe import RecipeError
from lmii_ros.training.trainer import CheckpointError
from lmii_ros.training.trainer import train
import numpy as np
import pytest
import torch
import yaml

COLORS = {0: (250, 180, 90), 3: (90, 90, 90), 5: (40, 140, 40), 8: (30, 30, 200)}
"""Class index to the blue, green and red of its pixels in the images made here."""
VALUES = {
    'network': 'lpsnet',
    'arguments': {
        'depths': [1, 1, 1, 1, 1], 'widths': [8, 8, 16, 16, 16], 'ratios': [1.0]},
    'split': 'train',
    'input_size': [64, 64],
    'crop_size': [64, 64],
    'epochs': 20,
    'batch_size': 4,
    'learning_rate': 0.01,
    'warmup_epochs': 1.0,
    'ema_decay': 0.8,
    'scale': [1.0, 1.0],
    'color': 0.0,
}
CPU = torch.device('cpu')
FREQUENCIES = np.full(11, 1 / 11)


def write_camvid(root, split, count, seed):
    """Write pictures of four quarters, each of a class with a colour of its own."""
    rng = np.random.default_rng(seed)
    for folder in (split, f'{split}annot'):
        (root / folder).mkdir()
    for index in range(count):
        quarters = rng.permutation(list(COLORS)).astype(np.uint8).reshape(2, 2)
        labels = quarters.repeat(32, axis=0).repeat(32, axis=1)
        image = np.zeros((64, 64, 3))
        for label, color in COLORS.items():
            image[labels == label] = color
        image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / split / f'{index}.png'), image)
        cv2.imwrite(str(root / f'{split}annot' / f'{index}.png'), labels)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('camvid')
    write_camvid(root, 'train', 8, 1)
    write_camvid(root, 'val', 4, 2)
    return root


def write_recipe(path, **change):
    """Write a recipe file; a change to None leaves the key out."""
    path.write_text(yaml.safe_dump({
        key: value for key, value in (VALUES | change).items() if value is not None}))
    return path


def read_recipe(folder, **change):
    return recipes.read(write_recipe(folder / 'recipe.yaml', **change))


def read_log(out):
    return [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()]


def assert_same_weights(first, second):
    tensors, others = (weights.load(path)[1].state_dict() for path in (first, second))
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize('precision, loss_stride', [('fp32', 1), ('bf16', 3)])
def test_it_learns(data, tmp_path, precision, loss_stride):
    recipe = read_recipe(tmp_path, precision=precision, loss_stride=loss_stride)
    out = tmp_path / 'a' / 'b'
    path = train(
        recipe, camvid(data, 'train'), camvid(data, 'val'), out, device=CPU, workers=0)
    log = read_log(out)
    assert [record['epoch'] for record in log] == list(range(1, 21))
    assert log[-1]['loss'] < 0.5 * log[0]['loss']
    assert [record['epoch'] for record in log if 'val_miou' in record] == [5, 10, 15, 20]
    # Chance is 1/7 for four equally frequent classes.
    assert log[-1]['val_miou'] > 0.6
    info, network = weights.load(path)
    assert (info.network, info.classes, info.input_size) == ('lpsnet', CAMVID, (64, 64))
    assert info.arguments == VALUES['arguments']
    assert info.data == 'camvid train, 8 images'
    assert info.recipe['epochs'] == 20
    assert (info.mean, info.std) == (recipe.mean, recipe.std)
    assert trainer._validate(network, recipe, camvid(data, 'val'), CPU) > 0.6


def test_the_seed_decides_the_result(data, tmp_path):
    paths = [
        train(read_recipe(tmp_path, epochs=2, seed=seed), camvid(data, 'train'), None,
              tmp_path / name, device=CPU, workers=workers)
        for name, seed, workers in (('a', 1, 0), ('b', 1, 1), ('c', 2, 0))]
    assert_same_weights(*paths[:2])
    with pytest.raises(AssertionError):
        assert_same_weights(paths[0], paths[2])


def test_a_killed_run_goes_on_as_if_nothing_had_been(data, tmp_path):
    recipe = write_recipe(tmp_path / 'recipe.yaml', epochs=60, ema_decay=0.995, color=0.5)
    arguments = ['train', str(recipe), '--data', str(data), '--device', 'cpu', '--workers', '0']
    out = tmp_path / 'killed'
    process = subprocess.Popen(
        [sys.executable, '-m', 'lmii_ros.cli', *arguments, '--out', str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 100
    while not (out / 'log.jsonl').exists() or len(read_log(out)) < 3:
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    assert not (out / 'lpsnet.safetensors').exists(), 'killed too late to show anything'
    done = len(read_log(out))
    # What a kill in the middle of saving leaves.
    (out / 'checkpoint.part').write_bytes(b'half a checkpoint')

    assert cli.main([*arguments, '--out', str(out)]) == 0
    assert cli.main([*arguments, '--out', str(tmp_path / 'whole')]) == 0
    assert_same_weights(out / 'lpsnet.safetensors', tmp_path / 'whole' / 'lpsnet.safetensors')
    epochs = [record['epoch'] for record in read_log(out)]
    assert epochs[:done] == list(range(1, done + 1)), 'it did not start over'
    assert len(set(epochs)) == len(epochs)
    assert epochs[-1] == 60


def test_a_finished_run_is_not_repeated(data, tmp_path):
    recipe = read_recipe(tmp_path, epochs=2)
    arguments = recipe, camvid(data, 'train'), None, tmp_path / 'out'
    path = train(*arguments, device=CPU, workers=0)
    content = path.read_bytes()
    path.unlink()
    assert train(*arguments, device=CPU, workers=0) == path
    assert path.read_bytes() == content
    assert len(read_log(tmp_path / 'out')) == 2


def test_another_recipe_in_the_same_folder_is_refused(data, tmp_path, capsys):
    out = tmp_path / 'out'
    path = train(
        read_recipe(tmp_path, epochs=1), camvid(data, 'train'), None, out, device=CPU, workers=0)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match='belongs to another recipe'):
        train(read_recipe(tmp_path, epochs=1, learning_rate=0.02), camvid(data, 'train'), None,
              out, device=CPU, workers=0)
    assert cli.main([
        'train', str(tmp_path / 'recipe.yaml'), '--data', str(data), '--out', str(out),
        '--val', '', '--device', 'cpu', '--workers', '0']) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith('lmii train: ')
    assert 'another recipe' in errors[-1]
    assert path.read_bytes() == content


def test_labels_of_another_size_than_the_image_are_refused(data, tmp_path):
    write_camvid(tmp_path, 'train', 2, 1)
    label = tmp_path / 'trainannot' / '1.png'
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[::2, ::2])
    with pytest.raises(ValueError, match=r'1\.png'):
        train(read_recipe(tmp_path, epochs=1), camvid(tmp_path, 'train'), None, tmp_path / 'out',
              device=CPU, workers=0)


def test_all_void_pixels_do_not_spoil_the_weights(data, tmp_path):
    (tmp_path / 'void').mkdir()
    (tmp_path / 'voidannot').mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / 'void' / f'{index}.png'), np.zeros((64, 64, 3), np.uint8))
        labels = np.full((64, 64), 11 if index else 3, np.uint8)
        cv2.imwrite(str(tmp_path / 'voidannot' / f'{index}.png'), labels)
    path = train(
        read_recipe(tmp_path, epochs=2, batch_size=1, split='void'), camvid(tmp_path, 'void'),
        None, tmp_path / 'out', device=CPU, workers=0)
    weights.load(path)


# Recipes

def test_a_recipe_is_read(tmp_path):
    recipe = read_recipe(tmp_path)
    assert recipe.to_dict().items() >= {
        'network': 'lpsnet', 'input_size': (64, 64), 'scale': (1.0, 1.0), 'epochs': 20}.items()
    assert recipe.synthetic_share == 0
    assert recipe.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize('change, message', [
    ({'epochs': None}, 'epochs'),
    ({'network': None}, 'network'),
    ({'speed': 3}, "unknown key 'speed'; known: .*batch_size"),
    ({'network': 'unet'}, 'network is unet, expected one of .*lmiinet'),
    ({'precision': 'fp64'}, 'precision is fp64, expected fp32 or bf16'),
    ({'input_size': [64]}, 'input_size'),
    ({'crop_size': [64, 31]}, 'at least 32'),
    ({'epochs': 0}, 'epochs is 0, expected at least 1'),
    ({'batch_size': -1}, 'batch_size'),
    ({'loss_stride': 0}, 'loss_stride'),
    ({'synthetic_share': 1.1}, 'synthetic_share is 1.1, expected 0 to 1'),
    ({'scale': [0, 1]}, 'scale'),
    ({'scale': [2, 1]}, 'scale'),
    # Values of the wrong kind or number.
    ({'epochs': 'many'}, 'epochs'),
    ({'epochs': 1.5}, 'epochs'),
    ({'crop_size': 64}, 'crop_size'),
    ({'input_size': ['a', 'b']}, 'input_size'),
    ({'scale': [1]}, 'scale'),
    ({'scale': 1}, 'scale'),
    ({'network': {'name': 'lpsnet'}}, 'network'),
    ({'synthetic_share': 'half'}, 'synthetic_share'),
    ({'learning_rate': -1}, 'learning_rate'),
    ({'mean': [0.5]}, 'mean'),
    ({'std': [0, 0, 0]}, 'std'),
    ({'ema_decay': 2}, 'ema_decay'),
    ({'color': -1}, 'color'),
    ({'seed': -1}, 'seed'),
    ({'arguments': [1]}, 'arguments'),
])
def test_a_recipe_that_makes_no_sense_is_refused(tmp_path, change, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(tmp_path, **change)
    assert 'recipe.yaml' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_learning_rate_in_powers_of_ten(tmp_path):
    """YAML takes 1e-3 for a string, unlike everyone who writes it."""
    path = write_recipe(tmp_path / 'recipe.yaml', learning_rate=None)
    path.write_text(path.read_text() + 'learning_rate: 1e-3\n')
    try:
        assert recipes.read(path).learning_rate == 0.001
    except RecipeError as error:
        assert 'learning_rate' in str(error)


@pytest.mark.parametrize('text', [
    '', '- a', 'text', 'a: [', 'a: b: c', '\0', '1: 2\na: 3'], ids=repr)
def test_what_is_no_recipe_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / 'recipe.yaml'
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        recipes.read(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [None, b'\xff\xfe\x00'])
def test_an_unreadable_recipe_is_refused(tmp_path, content):
    path = tmp_path / 'recipe.yaml'
    if content:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=r'recipe\.yaml cannot be read'):
        recipes.read(path)


def test_arguments_that_the_network_refuses(data, tmp_path, capsys):
    path = write_recipe(tmp_path / 'recipe.yaml', arguments={'depths': [1]})
    assert cli.main([
        'train', str(path), '--data', str(data), '--out', str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().err.startswith("lmii train: network 'lpsnet': ")


# Augmentation

def blocks(height, width, seed=1):
    """Return an image of black and white blocks whose labels are 0 and 1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (height // 8, width // 8), np.uint8)
    labels = labels.repeat(8, axis=0).repeat(8, axis=1)
    return np.dstack([255 * labels] * 3), labels


@pytest.mark.parametrize('scale', [(1.0, 1.0), (1.0, 2.0), (1.7, 1.7), (0.5, 1.0)])
@pytest.mark.parametrize('crop_size', [(96, 128), (64, 48), (128, 160)])
def test_labels_stay_on_their_pixels(scale, crop_size):
    image, labels = blocks(96, 128)
    wrong = known = 0
    for seed in range(20):
        cropped, truth = crop(
            image, labels, (96, 128), crop_size, scale, np.random.default_rng(seed))
        assert cropped.shape == (*crop_size, 3)
        assert truth.shape == crop_size
        assert cropped.dtype == truth.dtype == np.uint8
        assert set(np.unique(truth)) <= {0, 1, UNKNOWN}
        inside = truth != UNKNOWN
        wrong += ((cropped[..., 0] > 127) != truth)[inside].sum()
        known += inside.sum()
    assert known > 0.2 * 20 * crop_size[0] * crop_size[1]
    assert wrong / known < 0.01


def test_beyond_the_image_is_unknown():
    image = np.full((40, 60, 3), 200, np.uint8)
    labels = np.full((40, 60), 5, np.uint8)
    for seed in range(10):
        cropped, truth = crop(
            image, labels, (40, 60), (40, 60), (0.5, 0.5), np.random.default_rng(seed))
        inside = truth == 5
        assert set(np.unique(truth)) == {5, UNKNOWN}
        assert abs(int(inside.sum()) - 20 * 30) <= 50
        known = np.pad(inside.astype(np.uint8), 1)
        core = cv2.erode(known, np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
        outside = cv2.dilate(known, np.ones((3, 3), np.uint8))[1:-1, 1:-1] == 0
        assert (cropped[core] == 200).all()
        assert not cropped[outside].any()


def test_at_scale_one_it_is_the_image_or_its_mirror():
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    labels = np.random.default_rng(2).integers(0, 11, (40, 60), np.uint8)
    mirrored = 0
    for seed in range(40):
        cropped, truth = crop(
            image, labels, (40, 60), (40, 60), (1.0, 1.0), np.random.default_rng(seed))
        flip = (cropped != image).any()
        mirrored += flip
        np.testing.assert_array_equal(cropped, image[:, ::-1] if flip else image)
        np.testing.assert_array_equal(truth, labels[:, ::-1] if flip else labels)
    assert 8 < mirrored < 32


def test_at_scale_one_it_is_the_resize_of_inference():
    small = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(small, (60, 45), interpolation=cv2.INTER_CUBIC)
    expected = cv2.resize(image, (120, 90), interpolation=cv2.INTER_LINEAR).astype(int)
    for seed in range(4):
        cropped, _ = crop(
            image, np.zeros((45, 60), np.uint8), (90, 120), (90, 120), (1.0, 1.0),
            np.random.default_rng(seed))
        differences = [
            np.abs(cropped[2:-2, 2:-2].astype(int) - other[2:-2, 2:-2]).mean()
            for other in (expected, expected[:, ::-1])]
        assert min(differences) < 1


def test_an_image_of_another_aspect_covers_the_input_size():
    image, labels = blocks(96, 256)
    _, truth = crop(
        image, labels, (48, 64), (48, 64), (1.0, 1.0), np.random.default_rng(1))
    assert (truth != UNKNOWN).all()


def test_no_colour_change_at_strength_zero():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(vary_color(image, 0, np.random.default_rng(1)), image)


@pytest.mark.parametrize('strength', [0.3, 1.0])
def test_colour_changes_keep_the_kind_of_image(strength):
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    before = image.copy()
    means = []
    for seed in range(20):
        changed = vary_color(image, strength, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        assert (changed != image).any()
        means.append(changed.mean())
    np.testing.assert_array_equal(image, before)
    assert np.std(means) > 3


def test_training_images_depend_on_seed_epoch_and_index_alone(data, tmp_path):
    recipe = read_recipe(tmp_path, scale=[0.5, 2.0], color=0.5)
    dataset = camvid(data, 'train')
    first, again, later = (
        TrainingImages(dataset, [], FREQUENCIES, recipe, epoch) for epoch in (3, 3, 4))
    assert len(first) == len(dataset)
    first[1]
    for ours, theirs in zip(first[5], again[5]):
        np.testing.assert_array_equal(ours, theirs)
    assert (first[5][0] != later[5][0]).any()


@pytest.mark.parametrize('share, low, high', [(0.0, 0, 0), (0.5, 60, 100), (1.0, 160, 160)])
def test_the_share_of_synthetic_scenes(data, tmp_path, share, low, high):
    recipe = read_recipe(tmp_path, synthetic_share=share)
    frame = RoadScene(seed=1).render(0.0)
    # The classes of the data set are four; a road scene has others too.
    assert set(np.unique(frame.labels)) - set(COLORS)
    dataset = camvid(data, 'train')
    count = 0
    for epoch in range(20):
        shown = TrainingImages(
            dataset, [frame] if share else [], FREQUENCIES, recipe, epoch)
        for index in range(len(shown)):
            image, labels = shown[index]
            assert image.shape == (64, 64, 3)
            count += bool(set(np.unique(labels)) - set(COLORS))
    assert low <= count <= high


def test_training_on_synthetic_scenes(data, tmp_path, monkeypatch):
    monkeypatch.setattr(images, 'SYNTHETIC_SCENES', 1)
    path = train(
        read_recipe(tmp_path, epochs=1, synthetic_share=0.25), camvid(data, 'train'), None,
        tmp_path / 'out', device=CPU, workers=0)
    assert weights.load(path)[0].data == (
        'camvid train, 8 images, 25% of each epoch replaced by synthetic scenes')
