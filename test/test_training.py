# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training learns, survives a kill without a trace, and keeps labels on their pixels."""

from __future__ import annotations

from dataclasses import replace
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import cv2
from lmii_ros import cli
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.classes import UNKNOWN
from lmii_ros.datasets import DatasetError
from lmii_ros.datasets import camvid
from lmii_ros.simulation import RoadScene
from lmii_ros.training import checkpoint
from lmii_ros.training import images
from lmii_ros.training import recipe as recipes
from lmii_ros.training import trainer
from lmii_ros.training import weather
from lmii_ros.training.augmentation import crop
from lmii_ros.training.augmentation import paste_classes
from lmii_ros.training.augmentation import vary_color
from lmii_ros.training.checkpoint import CheckpointError
from lmii_ros.training.images import TrainingImages
from lmii_ros.training.loss import CrossEntropy
from lmii_ros.training.loss import missed_overlap
from lmii_ros.training.parallel import Processes
from lmii_ros.training.progress import Progress
from lmii_ros.training.recipe import RecipeError
from lmii_ros.training.teacher import teacher_of
from lmii_ros.training.trainer import train
from lmii_ros.training.weather import vary_weather
import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel
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
        # Weight files hold half precision.
        torch.testing.assert_close(tensor, others[name], rtol=2e-3, atol=1e-5, msg=name)


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
    paths = []
    for name, seed, workers in (('a', 1, 0), ('b', 1, 1), ('c', 2, 0)):
        recipe = write_recipe(tmp_path / f'{name}.yaml', epochs=2, seed=seed)
        # As processes of their own: workers are forked, which a process full of the threads of
        # other tests does not survive.
        subprocess.run([
            sys.executable, '-m', 'lmii_ros.cli', 'train', str(recipe), '--data', str(data),
            '--val', '', '--device', 'cpu', '--workers', str(workers),
            '--out', str(tmp_path / name)], check=True)
        paths.append(tmp_path / name / 'lpsnet.safetensors')
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
    done = torch.load(out / 'checkpoint.pt', weights_only=True)['epoch']
    kept = read_log(out)[:done]
    # What a kill in the middle of saving leaves.
    (out / 'checkpoint.part').write_bytes(b'half a checkpoint')

    assert cli.main([*arguments, '--out', str(out)]) == 0
    assert cli.main([*arguments, '--out', str(tmp_path / 'whole')]) == 0
    assert_same_weights(out / 'lpsnet.safetensors', tmp_path / 'whole' / 'lpsnet.safetensors')
    assert read_log(out)[:done] == kept, 'it did not start over'
    assert [record['epoch'] for record in read_log(out)] == list(range(1, 61))


def test_a_killed_run_goes_on_at_once_though_what_prepared_its_images_ends_later(data, tmp_path):
    recipe = write_recipe(tmp_path / 'recipe.yaml', epochs=200)
    out = tmp_path / 'out'
    arguments = ['train', str(recipe), '--data', str(data), '--device', 'cpu', '--out', str(out)]
    process = subprocess.Popen(
        [sys.executable, '-m', 'lmii_ros.cli', *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not (out / 'checkpoint.pt').exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    done = torch.load(out / 'checkpoint.pt', weights_only=True)['epoch']
    assert cli.main([*arguments, '--stop-after', str(done + 1)]) == 0
    assert len(read_log(out)) == done + 1


def test_a_loss_that_is_not_finite_ends_it_before_it_is_saved(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path / 'recipe.yaml', learning_rate=1e30, warmup_epochs=0.0)
    out = tmp_path / 'out'
    assert cli.main(['train', str(recipe), '--data', str(data), '--out', str(out)]) == 1
    assert 'lmii train: the loss is not finite in epoch 1; a lower learning_rate than 1e+30' in (
        capsys.readouterr().err)
    assert not (out / 'log.jsonl').exists() and not (out / 'checkpoint.pt').exists()


def test_an_image_that_is_lost_meanwhile_is_told_in_a_line(data, tmp_path, capsys):
    copied = tmp_path / 'data'
    shutil.copytree(data, copied)
    recipe = write_recipe(tmp_path / 'recipe.yaml', epochs=1000)
    out = tmp_path / 'out'

    def lose():
        while not (out / 'checkpoint.pt').exists():
            time.sleep(0.01)
        (copied / 'train' / '3.png').unlink()

    thread = threading.Thread(target=lose)
    thread.start()
    assert cli.main(['train', str(recipe), '--data', str(copied), '--out', str(out)]) == 1
    thread.join()
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f'lmii train: {copied / "train" / "3.png"}')


def test_synthetic_scenes_are_of_their_own_classes(data, tmp_path, capsys):
    recipe = read_recipe(tmp_path, synthetic_share=0.5)
    own = replace(camvid(data, 'train'), classes=CITYSCAPES)
    with pytest.raises(RecipeError, match='synthetic_share is 0.5, expected 0'):
        train(recipe, own, None, tmp_path / 'out', device=CPU, workers=0)
    assert not (tmp_path / 'out').exists()


def test_two_runs_do_not_write_to_one_folder(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint, 'ORPHANS_S', 0.2)
    recipe = write_recipe(tmp_path / 'recipe.yaml', epochs=1)
    with checkpoint.claimed(tmp_path / 'out'):
        assert cli.main([
            'train', str(recipe), '--data', str(data), '--out', str(tmp_path / 'out')]) == 1
    assert 'another training writes to' in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / 'out').iterdir())


def test_a_finished_run_is_not_repeated(data, tmp_path):
    recipe = read_recipe(tmp_path, epochs=2)
    arguments = recipe, camvid(data, 'train'), None, tmp_path / 'out'
    path = train(*arguments, device=CPU, workers=0)
    content = path.read_bytes()
    path.unlink()
    assert train(*arguments, device=CPU, workers=0) == path
    assert path.read_bytes() == content
    assert len(read_log(tmp_path / 'out')) == 2


def test_a_run_ends_early_with_a_weight_file_and_goes_on(data, tmp_path):
    recipe = read_recipe(tmp_path, epochs=4)
    out = tmp_path / 'out'
    early = train(
        recipe, camvid(data, 'train'), None, out, device=CPU, workers=0, stop_after=2)
    assert len(read_log(out)) == 2
    weights.load(early)
    train(recipe, camvid(data, 'train'), None, out, device=CPU, workers=0)
    assert len(read_log(out)) == 4
    whole = train(
        recipe, camvid(data, 'train'), None, tmp_path / 'whole', device=CPU, workers=0)
    assert_same_weights(early, whole)


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


def test_other_images_in_the_same_folder_are_refused(data, tmp_path):
    recipe, out = read_recipe(tmp_path, epochs=1), tmp_path / 'out'
    path = train(recipe, camvid(data, 'train'), None, out, device=CPU, workers=0)
    content = path.read_bytes()
    moved = tmp_path / 'moved'
    shutil.copytree(data, moved)
    train(recipe, camvid(moved, 'train'), None, out, device=CPU, workers=0)
    (moved / 'train' / '7.png').rename(moved / 'train' / '8.png')
    (moved / 'trainannot' / '7.png').rename(moved / 'trainannot' / '8.png')
    with pytest.raises(CheckpointError, match='belongs to other training images'):
        train(recipe, camvid(moved, 'train'), None, out, device=CPU, workers=0)
    assert path.read_bytes() == content
    # One of an earlier version, which does not tell of the images.
    checkpoint = torch.load(out / 'checkpoint.pt', weights_only=True)
    del checkpoint['images']
    torch.save(checkpoint, out / 'checkpoint.pt')
    train(recipe, camvid(moved, 'train'), None, out, device=CPU, workers=0)


def command(data, recipe, out, *options):
    return [
        'train', str(recipe), '--data', str(data), '--out', str(out), '--val', '', '--device',
        'cpu', '--workers', '0', *options]


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_a_damaged_checkpoint_is_one_line(data, tmp_path, capsys):
    recipe, out = write_recipe(tmp_path / 'recipe.yaml', epochs=1), tmp_path / 'out'
    assert cli.main(command(data, recipe, out)) == 0
    path = out / 'checkpoint.pt'
    whole = path.read_bytes()
    checkpoint = torch.load(path, weights_only=True)
    damaged = [b'', whole[:len(whole) // 2], b'garbage' * 100, b'hello', b'PK\x03\x04']
    for content in ([], {'a': 1}, checkpoint | {'network': {}}, checkpoint | {'recipe': '{'}):
        torch.save(content, path)
        damaged.append(path.read_bytes())
    for content in damaged:
        path.write_bytes(content)
        assert cli.main(command(data, recipe, out)) == 1
        line = last_line(capsys)
        assert line.startswith(f'lmii train: {path}: not a whole checkpoint'), content[:9]
        assert 'remove it' in line


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no /dev/full')
def test_a_full_disk_is_one_line(data, tmp_path, capsys):
    recipe, out = write_recipe(tmp_path / 'recipe.yaml', epochs=1), tmp_path / 'out'
    out.mkdir()
    (out / 'checkpoint.part').symlink_to('/dev/full')
    assert cli.main(command(data, recipe, out)) == 1
    assert last_line(capsys).startswith(f'lmii train: {out / "checkpoint.pt"} cannot be written')
    (out / 'checkpoint.part').unlink()
    assert cli.main(command(data, recipe, out)) == 0


def test_a_weight_file_that_cannot_be_written_is_one_line(data, tmp_path, capsys):
    recipe, out = write_recipe(tmp_path / 'recipe.yaml', epochs=1), tmp_path / 'out'
    (out / 'lpsnet.safetensors.part').mkdir(parents=True)
    assert cli.main(command(data, recipe, out)) == 1
    assert last_line(capsys).startswith(
        f'lmii train: {out / "lpsnet.safetensors"} cannot be written')


def test_memory_that_runs_out_is_one_line(data, tmp_path, capsys, monkeypatch):
    recipe = write_recipe(tmp_path / 'recipe.yaml')
    # More than an address can tell.
    monkeypatch.setattr(images, 'synthetic_frames', lambda _: torch.empty(1 << 60))
    assert cli.main(command(data, recipe, tmp_path / 'out')) == 1
    line = last_line(capsys)
    assert line.startswith('lmii train: out of memory on cpu') and 'batch_size' in line


def test_no_epoch_at_all_is_refused(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path / 'recipe.yaml')
    for epochs in ('0', '-2'):
        assert cli.main(command(data, recipe, tmp_path / 'out', '--stop-after', epochs)) == 1
        assert f'stop after {epochs} epochs, expected 1 or more' in last_line(capsys)


def test_labels_of_another_size_than_the_image_are_refused(data, tmp_path):
    write_camvid(tmp_path, 'train', 2, 1)
    label = tmp_path / 'trainannot' / '1.png'
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[::2, ::2])
    with pytest.raises(ValueError, match=r'1\.png'):
        train(read_recipe(tmp_path, epochs=1), camvid(tmp_path, 'train'), None, tmp_path / 'out',
              device=CPU, workers=0)


def test_validation_images_that_cannot_be_used_are_refused_before_the_first_epoch(data, tmp_path):
    write_camvid(tmp_path, 'val', 2, 1)
    label = tmp_path / 'valannot' / '1.png'
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[::2, ::2])
    with pytest.raises(ValueError, match=r'valannot.1\.png'):
        train(read_recipe(tmp_path), camvid(data, 'train'), camvid(tmp_path, 'val'),
              tmp_path / 'out', device=CPU, workers=0)
    assert not (tmp_path / 'out' / 'checkpoint.pt').exists()


def test_an_epoch_is_kept_whose_measuring_fails(data, tmp_path, monkeypatch):
    arguments = read_recipe(tmp_path, epochs=7), camvid(data, 'train'), camvid(data, 'val')
    whole = train(*arguments, tmp_path / 'whole', device=CPU, workers=0)

    def killed(*_):
        raise KeyboardInterrupt

    out = tmp_path / 'out'
    with monkeypatch.context() as patch:
        patch.setattr(trainer, '_validate', killed)
        with pytest.raises(KeyboardInterrupt):
            train(*arguments, out, device=CPU, workers=0)
    assert torch.load(out / 'checkpoint.pt', weights_only=True)['epoch'] == 5
    path = train(*arguments, out, device=CPU, workers=0)
    assert_same_weights(path, whole)
    # All but the seconds, which differ.
    logs = [
        [record | {'seconds': 0} for record in read_log(folder)]
        for folder in (out, tmp_path / 'whole')]
    assert logs[0] == logs[1]
    assert [record['epoch'] for record in logs[0] if 'val_miou' in record] == [5, 7]


def test_all_void_pixels_do_not_spoil_the_weights(data, tmp_path):
    (tmp_path / 'void').mkdir()
    (tmp_path / 'voidannot').mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / 'void' / f'{index}.png'), np.zeros((64, 64, 3), np.uint8))
        labels = np.full((64, 64), 11 if index else 3, np.uint8)
        cv2.imwrite(str(tmp_path / 'voidannot' / f'{index}.png'), labels)

    def trained(out):
        return train(
            read_recipe(tmp_path, epochs=2, batch_size=1, split='void'), camvid(tmp_path, 'void'),
            None, tmp_path / out, device=CPU, workers=0)

    weights.load(trained('out'))
    cv2.imwrite(str(tmp_path / 'voidannot' / '0.png'), np.full((64, 64), 11, np.uint8))
    with pytest.raises(DatasetError, match='no pixel in .*voidannot has a class'):
        trained('none')


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
    ({'loss_stride': 65}, 'loss_stride is 65, expected at most the crop_size of 64'),
    ({'synthetic_share': 1.1}, 'synthetic_share is 1.1, expected 0 to 1'),
    ({'class_mix': -0.1}, 'class_mix is -0.1, expected 0 to 1'),
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
    ({'arguments': {1: 2}}, 'arguments'),
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


# What raises accuracy

def test_a_crop_around_a_pixel_has_it():
    image = np.zeros((40, 60, 3), np.uint8)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.zeros((40, 60), np.uint8)
        x, y = rng.choice([0, 59, rng.integers(60)]), rng.choice([0, 39, rng.integers(40)])
        # As large as a pixel at the smallest scale, so that none is lost between two.
        labels[max(0, y - 1):y + 2, max(0, x - 1):x + 2] = 1
        _, truth = crop(
            image, labels, (40, 60), (20, 30), (0.5, 3.0), rng, (int(x), int(y)))
        assert (truth == 1).any()


def test_rare_classes_are_seen_more_often(data, tmp_path):
    labels = np.zeros((64, 64), np.uint8)
    labels[5:8, 50:53] = 2
    write_camvid(tmp_path, 'train', 1, 1)
    cv2.imwrite(str(tmp_path / 'trainannot' / '0.png'), labels)
    dataset = camvid(tmp_path, 'train')
    seen = []
    for share in (0.0, 1.0):
        recipe = read_recipe(tmp_path, crop_size=[32, 32], rare_crops=share)
        seen.append(sum(
            (TrainingImages(dataset, [], images.frequencies(dataset), recipe, epoch)[0][1]
             == 2).any() for epoch in range(40)))
    assert seen[0] < 25
    assert seen[1] > 35


@pytest.mark.parametrize('others', [[0], [0, 3], [0, 3, 5], [0, 3, 5, UNKNOWN], [UNKNOWN]])
def test_half_the_classes_of_another_image_are_pasted_with_their_labels(others):
    rng = np.random.default_rng(1)
    labels, other_labels = np.full((40, 60), 8, np.uint8), rng.choice(others, (40, 60))
    image, other = np.full((40, 60, 3), 8, np.uint8), other_labels[..., None].repeat(3, 2)
    seen = set()
    for _ in range(20):
        mixed, truth = paste_classes(image, labels, other, other_labels.astype(np.uint8), rng)
        # The images are coloured by their labels.
        np.testing.assert_array_equal(mixed, truth[..., None].repeat(3, 2))
        pasted = set(np.unique(truth[truth != 8]))
        assert len(pasted) == (len(set(others) - {UNKNOWN}) + 1) // 2
        for label in pasted:
            np.testing.assert_array_equal(truth == label, other_labels == label)
        seen |= pasted
    assert seen == set(others) - {UNKNOWN}


@pytest.mark.parametrize('key, changes_labels', [('class_mix', True), ('weather', False)])
def test_as_many_images_are_changed_as_told(data, tmp_path, key, changes_labels):
    dataset = camvid(data, 'train')
    fine, changed = (read_recipe(tmp_path, **{key: share}) for share in (0.0, 0.5))
    count = 0
    for epoch in range(20):
        pairs = [
            TrainingImages(dataset, [], FREQUENCIES, recipe, epoch) for recipe in (fine, changed)]
        for index in range(len(dataset)):
            (image, labels), (other, truth) = (shown[index] for shown in pairs)
            count += (image != other).any()
            assert changes_labels or (labels == truth).all()
    # Of 160; a few are mixed with themselves.
    assert 50 < count < 110


def test_all_weathers_keep_the_kind_of_image():
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    before = image.copy()
    for change in weather._CHANGES:
        for seed in range(5):
            changed = change(image.astype(np.float32) / 255, np.random.default_rng(seed))
            assert changed.shape == image.shape
            assert changed.dtype == np.float32
            assert np.isfinite(changed).all()
            assert np.abs(changed - image / 255).mean() > 0.005, change
    changed = vary_weather(image, np.random.default_rng(1))
    assert (changed.dtype, changed.shape) == (np.uint8, image.shape)
    np.testing.assert_array_equal(image, before)


def test_the_loss_is_that_of_the_hardest_pixels():
    torch.manual_seed(1)
    logits = torch.randn(2, 3, 8, 8)
    truth = torch.randint(3, (2, 8, 8))
    truth[0, :4] = UNKNOWN
    weights_ = torch.tensor([1.0, 2.0, 3.0])
    total, weight = CrossEntropy(weights_)(logits, truth)
    torch.testing.assert_close(
        total / weight,
        torch.nn.functional.cross_entropy(logits, truth, weights_, ignore_index=UNKNOWN))
    every = torch.nn.functional.cross_entropy(
        logits, truth, weights_, ignore_index=UNKNOWN, reduction='none')[truth != UNKNOWN]
    hard, _ = CrossEntropy(weights_, 0.25)(logits, truth)
    torch.testing.assert_close(hard, every.sort().values[-24:].sum())
    none, weight = CrossEntropy(weights_, 0.25)(logits, torch.full_like(truth, UNKNOWN))
    assert (none, weight) == (0, 0)


def test_the_missed_overlap_is_one_less_the_iou_of_sure_labels():
    truth = torch.tensor([[[0, 0, 1, 1, 2, UNKNOWN]]])
    labels = torch.tensor([[[0, 1, 1, 1, 0, 2]]])
    logits = 100 * torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    # Of three classes that occur: 1 of 3 pixels, 2 of 3, and none.
    missed = missed_overlap(logits, truth)
    torch.testing.assert_close(missed, torch.tensor(1 - (1 / 3 + 2 / 3) / 3))
    nothing = logits.requires_grad_()
    loss = missed_overlap(nothing, torch.full_like(truth, UNKNOWN))
    loss.backward()
    assert loss == 0 and not nothing.grad.any()


def test_a_network_learns_from_the_missed_overlap(data, tmp_path):
    recipe = read_recipe(tmp_path, overlap_weight=1.0)
    train(recipe, camvid(data, 'train'), camvid(data, 'val'), tmp_path / 'out', device=CPU,
          workers=0)
    assert read_log(tmp_path / 'out')[-1]['val_miou'] > 0.6


def test_what_is_trained_on_all_images_tells_the_miou_of_before(tmp_path):
    data = tmp_path / 'data'
    data.mkdir()
    write_camvid(data, 'train', 8, 1)
    write_camvid(data, 'val', 4, 2)

    def run(name, *options, **change):
        recipe = write_recipe(tmp_path / f'{name}.yaml', epochs=1, **change)
        out = tmp_path / name
        assert cli.main([
            'train', str(recipe), '--data', str(data), '--out', str(out), '--device', 'cpu',
            '--workers', '0', *options]) == 0
        return out / 'lpsnet.safetensors'

    first = run('first')
    before = weights.read_info(first)
    assert before.miou and before.precision_loss
    second = run('second', split='train+val', initial_weights=str(first))
    info = weights.read_info(second)
    assert (info.miou, info.precision_loss) == (before.miou, before.precision_loss)
    assert info.data == (
        'camvid train+val, 12 images; its mIoU is that of the weights before val was trained on')
    third = weights.read_info(run('third', split='train+val', initial_weights=str(second)))
    assert (third.miou, third.data) == (before.miou, info.data)
    assert not weights.read_info(run('scratch', split='train+val')).miou
    named = run('named', split='train+val', miou_of=str(first))
    assert weights.read_info(named).miou == before.miou
    shutil.copytree(data / 'val', data / 'test')
    shutil.copytree(data / 'valannot', data / 'testannot')
    partly = weights.read_info(run(
        'partly', '--val', 'val+test', split='train+val', initial_weights=str(first)))
    assert (partly.miou, partly.data) == (before.miou, info.data)
    assert not weights.read_info(run('none', '--val', 'test+val', split='train+val')).miou
    unknown = tmp_path / 'unknown.safetensors'
    weights.save(unknown, replace(before, recipe={}), weights.load(first)[1])
    assert not weights.read_info(
        run('fourth', split='train+val', initial_weights=str(unknown))).miou


@pytest.mark.skipif(not shutil.which('g++'), reason='there is no C++ compiler')
def test_compiled_blocks_train_alike(data, tmp_path):
    paths = [
        train(read_recipe(tmp_path, epochs=1), camvid(data, 'train'), None, tmp_path / name,
              device=CPU, workers=0, compiled=compiled)
        for name, compiled in (('plain', False), ('compiled', True))]
    (_, plain), (_, compiled) = map(weights.load, paths)
    frame = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(plain(frame), compiled(frame), rtol=0.02, atol=0.02)


def test_a_network_learns_from_a_teacher_where_there_are_no_labels(data, tmp_path):
    teacher = train(
        read_recipe(tmp_path), camvid(data, 'train'), None, tmp_path / 'teacher', device=CPU,
        workers=0)
    blank = tmp_path / 'blank'
    write_camvid_without_labels(data, blank)

    def trained(out, **change):
        return train(
            read_recipe(tmp_path, seed=2, **change), camvid(blank, 'train'), None,
            tmp_path / out, device=CPU, workers=0)

    with pytest.raises(DatasetError, match='and there is no teacher: nothing to learn from'):
        trained('alone')
    network = weights.load(trained('taught', teacher=str(teacher)))[1]
    miou = trainer._validate(network, read_recipe(tmp_path), camvid(data, 'val'), CPU)
    assert miou > 0.5


def test_a_teacher_sees_images_at_the_scale_of_its_own_training(data, tmp_path):
    recipe = read_recipe(tmp_path, epochs=1)
    path = train(
        recipe, camvid(data, 'train'), None, tmp_path / 'out', device=CPU, workers=0)
    frame = torch.randint(256, (1, 64, 64, 3), dtype=torch.uint8)
    doubled = frame.repeat_interleave(2, 1).repeat_interleave(2, 2)
    logits = [
        teacher_of(
            replace(recipe, teacher=str(path), input_size=size), camvid(data, 'train'), CPU)(seen)
        for size, seen in (((64, 64), frame), ((128, 128), doubled))]
    torch.testing.assert_close(*logits)


def write_camvid_without_labels(data, root):
    shutil.copytree(data, root)
    for path in (root / 'trainannot').iterdir():
        cv2.imwrite(str(path), np.full((64, 64), 11, np.uint8))


def test_a_teacher_of_other_classes_is_refused(data, tmp_path):
    info = trainer.weight_info(read_recipe(tmp_path), camvid(data, 'train'))
    network = networks.build('lpsnet', 19, **VALUES['arguments'])
    path = tmp_path / 'teacher.safetensors'
    weights.save(path, replace(info, classes=CITYSCAPES), network)
    with pytest.raises(RecipeError, match='expected the classes of camvid, found .*cityscapes'):
        train(read_recipe(tmp_path, teacher=str(path)), camvid(data, 'train'), None,
              tmp_path / 'out', device=CPU, workers=0)


def test_drives_held_out_are_measured_and_not_trained_on(data, tmp_path):
    for folder in ('train', 'trainannot'):
        (tmp_path / folder).mkdir()
        for index in range(8):
            drive = 'one' if index < 6 else 'two'
            shutil.copy(
                data / folder / f'{index}.png', tmp_path / folder / f'{drive}_{index}.png')
    path = train(
        read_recipe(tmp_path, epochs=1, held_out_drives='two'), camvid(tmp_path, 'train'), None,
        tmp_path / 'out', device=CPU, workers=0)
    assert weights.load(path)[0].data == 'camvid train, 6 images, without two'
    assert 'val_miou' in read_log(tmp_path / 'out')[0]


def test_the_weight_file_tells_the_miou_on_the_drives_held_out(tmp_path, capsys):
    root = tmp_path / 'data'
    root.mkdir()
    write_camvid(root, 'train', 8, 1)
    for folder in ('train', 'trainannot'):
        for path in (root / folder).iterdir():
            path.rename(path.with_name(f'{"one" if path.stem < "6" else "two"}_{path.name}'))
    recipe = write_recipe(tmp_path / 'recipe.yaml', epochs=8, held_out_drives='two')
    out = tmp_path / 'out'
    # No folder val: nothing but the drive can be measured on.
    assert cli.main([
        'train', str(recipe), '--data', str(root), '--out', str(out), '--device', 'cpu',
        '--workers', '0']) == 0
    told = weights.read_info(out / 'lpsnet.safetensors').miou[64]
    assert f'mIoU on two at input height 64: {100 * told:.2f} %' in capsys.readouterr().out
    assert abs(told - read_log(out)[-1]['val_miou']) < 0.02


def test_training_starts_from_a_narrower_network(data, tmp_path):
    small = train(
        read_recipe(tmp_path), camvid(data, 'train'), None, tmp_path / 'small', device=CPU,
        workers=0)
    arguments = VALUES['arguments'] | {'widths': [8, 12, 16, 24, 24]}
    recipe = read_recipe(
        tmp_path, epochs=1, learning_rate=1e-9, initial_weights=str(small), arguments=arguments)
    path = train(recipe, camvid(data, 'train'), None, tmp_path / 'out', device=CPU, workers=0)
    info, network = weights.load(path)
    assert info.arguments == arguments
    assert trainer._validate(network, recipe, camvid(data, 'val'), CPU) > 0.6


# Progress

def test_the_average_follows_the_network_early():
    average = AveragedModel(
        torch.nn.Linear(1, 1, bias=False), multi_avg_fn=trainer._averaging(0.999))
    network = torch.nn.Linear(1, 1, bias=False)
    for step in range(50):
        torch.nn.init.constant_(network.weight, step)
        average.update_parameters(network)
    assert 40 < average.module.weight.item() < 49


def test_the_log_is_whole_after_a_kill_at_any_moment(tmp_path):
    (tmp_path / 'log.jsonl').write_text(
        '{"epoch": 1, "loss": 2.0, "seconds": 1.0}\n'
        '{"epoch": 2, "loss": 1.5, "seconds": 1.0, "val_miou": 0.3}\n'
        'null\n[]\n{"epoch": "x"}\n7\n'
        '{"epoch": 3, "lo')
    progress = Progress(tmp_path, 4, 2, 1)
    for loss in (1.0, 2.0):
        progress.step(loss)
    progress.epoch(2)
    progress.measured(0.25)
    progress.close()
    log = read_log(tmp_path)
    assert [record['epoch'] for record in log] == [1, 2]
    assert (log[1]['loss'], log[1]['val_miou']) == (1.5, 0.25)
    assert cv2.imread(str(tmp_path / 'curve.png')).shape[0] > 100


def test_a_checkpoint_outlives_a_new_recipe_key(data, tmp_path):
    recipe = read_recipe(tmp_path, epochs=2)
    out = tmp_path / 'out'
    train(recipe, camvid(data, 'train'), None, out, device=CPU, workers=0)
    checkpoint = torch.load(out / 'checkpoint.pt', weights_only=True)
    values = json.loads(checkpoint['recipe'])
    del values['weather']
    torch.save(checkpoint | {'recipe': json.dumps(values)}, out / 'checkpoint.pt')
    train(recipe, camvid(data, 'train'), None, out, device=CPU, workers=0)
    with pytest.raises(CheckpointError):
        train(read_recipe(tmp_path, epochs=2, weather=0.1), camvid(data, 'train'), None, out,
              device=CPU, workers=0)


# Several processes

def start_two(arguments):
    return subprocess.Popen([
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
        '-m', 'lmii_ros.cli', *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_a_process_without_an_image_is_refused(data, tmp_path):
    recipe = write_recipe(tmp_path / 'recipe.yaml', batch_size=1)
    process = start_two([
        'train', str(recipe), '--data', str(data), '--device', 'cpu', '--workers', '0',
        '--out', str(tmp_path / 'out')])
    _, errors = process.communicate(timeout=200)
    assert process.returncode
    assert 'batch_size 1 and 8 images, expected at least 2, one for each process' in (
        errors.decode())


def test_two_processes_train_resume_and_come_close_to_one(data, tmp_path):
    """Close, as batch normalisation on a CPU sees the share of a process alone."""
    # Shares of four and three.
    recipe = write_recipe(tmp_path / 'recipe.yaml', epochs=12, batch_size=7)
    arguments = ['train', str(recipe), '--data', str(data), '--device', 'cpu', '--workers', '0']

    def two(out):
        return start_two([*arguments, '--out', str(out)])

    process = two(tmp_path / 'two')
    (tmp_path / 'resumed').mkdir()
    deadline = time.monotonic() + 200
    while not (tmp_path / 'two' / 'checkpoint.pt').exists():
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    for name in ('checkpoint.pt', 'log.jsonl'):
        shutil.copy(tmp_path / 'two' / name, tmp_path / 'resumed' / name)
    done = torch.load(tmp_path / 'resumed' / 'checkpoint.pt', weights_only=True)['epoch']
    for process in (process, two(tmp_path / 'resumed')):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()[-3000:]
    assert done < 12
    assert cli.main([*arguments, '--out', str(tmp_path / 'one')]) == 0

    assert_same_weights(
        tmp_path / 'two' / 'lpsnet.safetensors', tmp_path / 'resumed' / 'lpsnet.safetensors')
    logs = [read_log(tmp_path / name) for name in ('one', 'two', 'resumed')]
    for log in logs:
        assert [record['epoch'] for record in log] == list(range(1, 13))
    one, two = ([record['loss'] for record in log] for log in logs[:2])
    np.testing.assert_allclose(one, two, rtol=0.2)


def test_the_shares_of_processes_are_the_batch():
    batch = [7, 3, 5, 1, 2]
    shares = [Processes(rank, 2).share(batch) for rank in range(2)]
    assert shares == [[7, 5, 2], [3, 1]]
    assert Processes().share(batch) == batch
