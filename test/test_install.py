# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What colcon installs is complete, and runs without the source tree."""

from __future__ import annotations

import ast
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import made_results
import pytest
import yaml

SOURCE = Path(__file__).resolve().parents[1]
BUILD_TIMEOUT_S = 300
START_TIMEOUT_S = 120
NODES = ('segmentation_node', 'camera_simulator_node')


def colcon(workspace, *arguments):
    """Return what a colcon of this interpreter says."""
    process = subprocess.run(
        [sys.executable, '-m', 'colcon', *arguments], cwd=workspace, timeout=BUILD_TIMEOUT_S,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.returncode == 0, process.stdout
    return process.stdout


def build(workspace):
    """Build what a clone of this tree would hold, in a workspace of its own."""
    pytest.importorskip('colcon_ros')
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'], cwd=SOURCE,
        capture_output=True, text=True)
    if listed.returncode:
        pytest.skip('the source tree is no git checkout')
    for name in filter(None, listed.stdout.split('\0')):
        if (SOURCE / name).is_file():
            copy = workspace / 'src' / 'lmii_ros' / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, copy)
    colcon(workspace, 'build')
    return workspace / 'install'


def in_install_space(install, *command):
    """Return a command that runs another one as a user would, after sourcing the workspace."""
    return ['sh', '-c', '. "$0" && cd / && exec "$@"', install / 'setup.sh', *command]


@pytest.fixture(scope='module')
def install(tmp_path_factory):
    """Return the install space."""
    return build(tmp_path_factory.mktemp('workspace'))


@pytest.fixture(scope='module')
def prefix(install):
    """Return the folder of the package in the install space."""
    return install / 'lmii_ros'


def test_colcon_knows_the_build_type(install):
    assert '(ros.ament_python)' in colcon(install.parent, 'list')


def test_launch_files_need_none_of_the_packages_of_pip():
    # `ros2 launch` runs in the system's Python, which does not see the virtual environment.
    modules = {
        node.module for path in SOURCE.glob('launch/*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module.startswith('lmii_ros')}
    assert modules
    subprocess.run([sys.executable, '-c', (
        'import sys\n'
        'for name in ("numba", "onnxruntime", "openvino", "rosbags", "safetensors", "torch"):\n'
        '    sys.modules[name] = None\n'
        f'import {", ".join(sorted(modules))}')], cwd=SOURCE, check=True)


def test_all_shared_files_are_installed(prefix):
    share = prefix / 'share' / 'lmii_ros'
    for pattern in (
            'package.xml', 'launch/*.launch.py', 'config/*.yaml', 'config/*.rviz', 'config/*.xml',
            'config/training/*.yaml', 'weights/*.safetensors'):
        names = {path.relative_to(SOURCE) for path in SOURCE.glob(pattern)}
        assert names, pattern
        assert {path.relative_to(share) for path in share.glob(pattern)} == names


def test_the_package_is_in_the_ament_index(prefix):
    assert (prefix / 'share/ament_index/resource_index/packages/lmii_ros').is_file()


@pytest.mark.parametrize('name', NODES)
def test_the_interpreter_of_an_executable_is_that_of_colcon(prefix, name):
    script = prefix / 'lib' / 'lmii_ros' / name
    assert script.read_text().splitlines()[0] == f'#!{sys.executable}'


def test_package_and_weights_are_those_of_the_install_space(install, prefix):
    program = (
        'import lmii_ros; from lmii_ros import weights;'
        'print(lmii_ros.__file__); print(weights.find("lpsnet_s_camvid"))')
    process = subprocess.run(
        in_install_space(install, sys.executable, '-c', program), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    for path in process.stdout.splitlines():
        assert Path(path).is_relative_to(prefix)


def test_the_installed_command_makes_a_report(install, prefix, tmp_path):
    folder = made_results.make(tmp_path / 'run', 5)
    process = subprocess.run(
        in_install_space(install, prefix / 'lib/lmii_ros/lmii', 'evaluate', 'report', folder),
        capture_output=True, text=True, timeout=START_TIMEOUT_S)
    assert process.returncode == 0, process.stderr
    assert process.stdout == f'{folder / "report.html"}\n'
    assert '<h2>Confusion</h2>' in (folder / 'report.html').read_text()


def test_installed_nodes_label_images_and_end(install, prefix, start_process):
    ros_client = pytest.importorskip('ros_client')
    processes = [
        start_process(*in_install_space(install, prefix / 'lib' / 'lmii_ros' / name))
        for name in NODES]
    with closing(ros_client.Client()) as client:
        labels = client.listen(ros_client.Image, 'segmentation_node/labels')
        client.until(lambda: labels, START_TIMEOUT_S)
    for process in processes:
        code, _ = process.signal(signal.SIGINT)
        assert code == 0, process.output
        assert 'Traceback' not in process.output


def test_the_parameter_file_holds_every_parameter_with_its_default():
    parameters = pytest.importorskip('lmii_ros.nodes.parameters')
    text = (SOURCE / 'config' / 'segmentation.yaml').read_text()
    values = yaml.safe_load(text)['/**']['ros__parameters']
    # It is of a single camera, and a node with several would ignore it.
    assert '    # camera_pose: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]\n' in text
    assert values.pop('autostart') is True
    for name in ('cameras', 'drivable_classes', 'offered_weights'):
        values[name] = tuple(values[name])
    values['camera_poses'] = {}
    defaults = asdict(parameters.Settings())
    assert values == defaults
    assert {name: type(value) for name, value in values.items()} == {
        name: type(value) for name, value in defaults.items()}


@pytest.mark.parametrize('rate', [10, 30, 60])
def test_presets_set_the_rate_and_what_the_node_knows(rate):
    parameters = pytest.importorskip('lmii_ros.nodes.parameters')
    path = SOURCE / 'config' / f'preset_{rate}fps.yaml'
    values = yaml.safe_load(path.read_text())['/**']['ros__parameters']
    defaults = asdict(parameters.Settings())
    assert values['target_fps'] == rate
    assert values.keys() <= defaults.keys()
    assert isinstance(values['target_fps'], float)


def test_rviz_shows_topics_that_the_node_publishes():
    outputs = pytest.importorskip('lmii_ros.nodes.outputs')
    config = yaml.safe_load((SOURCE / 'config' / 'segmentation.rviz').read_text())
    displays = config['Visualization Manager']['Displays']
    topics = {display['Topic']['Value'] for display in displays}
    displayable = {
        'Image': 'Image', 'OccupancyGrid': 'Map', 'PolygonStamped': 'Polygon'}
    published = {
        f'segmentation_node/{name}': displayable[message_type.__name__]
        for name, message_type in {**outputs.TOPICS, **outputs.GROUND_TOPICS}.items()
        if message_type.__name__ in displayable}
    assert {'image', 'segmentation_node/overlay'} < topics <= {'image', *published}
    for display in displays:
        kind = published.get(display['Topic']['Value'], 'Image')
        assert display['Class'] == f'rviz_default_plugins/{kind}'
        if kind != 'Image':
            continue
        # The window's state, which is binary, holds the place of each display by its name.
        state = bytes.fromhex(config['Window Geometry']['QMainWindow State'])
        assert display['Name'].encode('utf-16-be') in state
