# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The launch files, run by ``ros2 launch`` from an install space."""

from __future__ import annotations

from contextlib import closing
import json
import os
from pathlib import Path
import re
import signal
import sys

import cv2
from lmii_ros.bags import ImageBagWriter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
import pytest

from test_install import START_TIMEOUT_S
from test_install import build
from test_install import in_install_space

pytest.importorskip('launch_ros')
pytest.importorskip('ros2launch')
ros_client = pytest.importorskip('ros_client')

from nav_msgs.msg import OccupancyGrid  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402
from rclpy.parameter import parameter_value_to_python  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

ROS2 = 'import sys; from ros2cli.cli import main; sys.exit(main())'
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
READY = r'the classes of camvid, engine'


@pytest.fixture(scope='module')
def install(tmp_path_factory):
    """Return the install space."""
    return build(tmp_path_factory.mktemp('workspace'))


@pytest.fixture
def launch(install, start_process):
    """Return a function that runs a launch file, with no Fast DDS profile but a given one."""
    def start(file, *arguments, **environment):
        unset = [part for name in PROFILE_VARIABLES for part in ('-u', name)]
        assignments = [f'{name}={value}' for name, value in environment.items()]
        return start_process('env', *unset, *assignments, *in_install_space(
            install, sys.executable, '-c', ROS2, 'launch', 'lmii_ros', file, *arguments))
    return start


@pytest.fixture
def params_file(tmp_path):
    """Return a parameter file as users write them."""
    path = tmp_path / 'params.yaml'
    path.write_text(
        '/**: {ros__parameters: {input_height: 128, opacity: 0.25, threads: 1}}\n'
        'segmentation_node: {ros__parameters: {input_height: 192, image_transport: compressed}}\n'
        '/front/segmentation_node: {ros__parameters: {input_height: 224, stale_after: 9.0}}\n')
    return path


@pytest.fixture
def client():
    """Return a node of the test's own."""
    with closing(ros_client.Client()) as client:
        yield client


def parameters(client, node, *names):
    """Return the values of a node's parameters."""
    service = client.node.create_client(GetParameters, f'{node}/get_parameters')
    client.until(service.service_is_ready)
    answer = service.call_async(GetParameters.Request(names=names))
    client.until(answer.done)
    return [parameter_value_to_python(value) for value in answer.result().values]


def wait_for_subscribers(client, *topics):
    """Wait until each topic has a subscriber."""
    client.until(lambda: all(map(client.node.count_subscribers, topics)))


def profiles(process):
    """Return the Fast DDS profiles of a launched node."""
    pid = process.wait_for_output(r'\[segmentation_node-1\]: process started with pid \[(\d+)\]')
    variables = dict(
        variable.split('=', 1)
        for variable in Path('/proc', pid[1], 'environ').read_text().split('\0') if variable)
    return {name: variables[name] for name in PROFILE_VARIABLES if name in variables}


@pytest.mark.parametrize('file, own', [
    ('segmentation.launch.py', {'params_file', 'rviz'}),
    ('demo.launch.py', {'params_file', 'rviz', 'source', 'labels', 'rate', 'encoding'}),
    ('replay.launch.py', {'bag', 'topic', 'labels', 'rate', 'tolerance_ms', 'out'}),
])
def test_arguments_are_listed_with_description_and_default(launch, file, own):
    process = launch(file, '--show-args')
    assert process.wait() == 0
    arguments = re.findall(
        r"^ {4}'(\w+)':\n {8}(\S.*)(?:\n {8}\(default: (.*)\))?$", process.output, re.MULTILINE)
    assert len(arguments) == process.output.count("':\n")
    assert own | {
        'image', 'camera_info', 'weights', 'engine', 'device', 'precision', 'input_height',
        'target_fps', 'image_transport', 'cameras', 'camera_pose', 'namespace', 'log_level',
        'use_sim_time'} <= {name for name, _, _ in arguments}


def test_given_arguments_win_over_the_parameter_file(install, launch, client, params_file):
    process = launch(
        'segmentation.launch.py', 'namespace:=front', 'image:=/camera/image_raw',
        f'params_file:={params_file}', 'input_height:=256', 'device:=cpu',
        'use_sim_time:=true', 'camera_pose:=[1.0, 0.0, 1.5, 0.0, 0.1, 0.0]')
    process.wait_for_output(READY, START_TIMEOUT_S)
    assert parameters(
        client, '/front/segmentation_node', 'input_height', 'device', 'use_sim_time', 'opacity',
        'threads', 'stale_after', 'image_transport') == [256, 'cpu', True, 0.25, 1, 9.0, 'raw']
    assert parameters(client, '/front/segmentation_node', 'camera_pose') == [
        [1.0, 0.0, 1.5, 0.0, 0.1, 0.0]]
    wait_for_subscribers(client, '/camera/image_raw', '/camera/camera_info')
    profile = str(install / 'lmii_ros' / 'share' / 'lmii_ros' / 'config' / 'fastdds.xml')
    assert profiles(process) == dict.fromkeys(PROFILE_VARIABLES, profile)
    assert process.signal(signal.SIGINT)[0] == 0
    assert 'finished cleanly' in process.output
    assert not process.has_left_processes()


def test_arguments_not_given_leave_the_parameter_file_alone(launch, client, params_file, tmp_path):
    own_profile = tmp_path / 'own.xml'
    own_profile.write_text('<profiles xmlns="http://www.eprosima.com"/>')
    process = launch(
        'segmentation.launch.py', f'params_file:={params_file}', 'image:=left/image_raw',
        FASTRTPS_DEFAULT_PROFILES_FILE=own_profile)
    process.wait_for_output(READY, START_TIMEOUT_S)
    assert parameters(
        client, '/segmentation_node', 'input_height', 'image_transport', 'opacity', 'weights',
        'use_sim_time') == [192, 'compressed', 0.25, 'lpsnet_s_camvid', False]
    wait_for_subscribers(client, '/left/image_raw/compressed', '/left/camera_info')
    assert profiles(process) == {'FASTRTPS_DEFAULT_PROFILES_FILE': str(own_profile)}


@pytest.mark.parametrize('arguments, rate', [
    (['target_fps:=2'], 2.0),
    (['params_file:=SHARE/config/preset_10fps.yaml'], 10.0),
])
def test_a_target_rate_is_taken_up(install, launch, client, arguments, rate):
    share = str(install / 'lmii_ros' / 'share' / 'lmii_ros')
    process = launch(
        'demo.launch.py', 'rviz:=false', 'rate:=5', 'width:=320', 'height:=240',
        *(argument.replace('SHARE', share) for argument in arguments))
    images = client.listen(Image, '/segmentation_node/labels')
    client.until(lambda: images, START_TIMEOUT_S)
    assert parameters(client, '/segmentation_node', 'target_fps') == [rate]
    process.wait_for_output(
        rf'320x240 at {rate:g} frames/s: \w+ in \w+ at height \d+, expected mIoU')
    assert (images[0].width, images[0].height) == (320, 240)


def test_a_missing_weight_file_ends_the_launch(launch):
    process = launch('segmentation.launch.py', 'weights:=/nowhere.safetensors')
    assert process.wait(START_TIMEOUT_S) == 1
    assert 'Traceback' not in process.output
    line, = (line for line in process.lines if 'FATAL' in line)
    assert 'no weight file /nowhere.safetensors' in line
    assert process.lines[-1].endswith('segmentation_node failed with exit code 1')


def test_others_go_on_without_a_node_that_is_not_required(launch, client):
    process = launch(
        'demo.launch.py', 'rviz:=false', 'required:=false', 'weights:=/nowhere.safetensors')
    process.wait_for_output('process has died', START_TIMEOUT_S)
    images = client.listen(Image, '/image')
    client.until(lambda: images, START_TIMEOUT_S)
    assert process.running


def test_a_missing_parameter_file_ends_the_launch(launch):
    process = launch('segmentation.launch.py', 'params_file:=/nowhere.yaml')
    assert process.wait() == 1
    assert process.lines[-1].endswith('no parameter file /nowhere.yaml')
    assert 'process started' not in process.output


def test_several_cameras_are_below_their_names(launch, client, tmp_path):
    params_file = tmp_path / 'params.yaml'
    params_file.write_text(
        '/**: {ros__parameters: {left.camera_pose: [0.0, 0.0, 2.0, 0.0, 0.0, 1.5]}}')
    process = launch(
        'segmentation.launch.py', 'namespace:=car', 'cameras:=[front, left]',
        'image:=camera/image_raw', f'params_file:={params_file}')
    process.wait_for_output(READY, START_TIMEOUT_S)
    wait_for_subscribers(client, *(
        f'/car/{camera}/camera/{topic}'
        for camera in ('front', 'left') for topic in ('image_raw', 'camera_info')))
    assert parameters(
        client, '/car/segmentation_node', 'cameras', 'front.camera_pose', 'left.camera_pose') == [
            ['front', 'left'], [0.0] * 6, [0.0, 0.0, 2.0, 0.0, 0.0, 1.5]]


@pytest.mark.parametrize('arguments, reason', [
    (['cameras:=front'], 'cameras is front, expected a list of names: "[front, left]"'),
    (['cameras:=[1]'], 'cameras is [1], expected a list of names: "[front, left]"'),
    (['cameras:=[front]', 'image:=/camera/image'],
     'image is /camera/image, expected a topic below the name of each camera'),
    (['cameras:=[front, left]', 'camera_pose:=[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]'],
     'camera_pose is of a single camera; give NAME.camera_pose of each in a params_file'),
])
def test_cameras_that_do_not_fit_end_the_launch(launch, arguments, reason):
    process = launch('segmentation.launch.py', *arguments)
    assert process.wait() == 1
    assert process.lines[-1].endswith(reason)
    assert 'process started' not in process.output


@pytest.mark.parametrize('arguments, reason', [
    (['demo.launch.py'], 'the demo has a single camera'),
    (['replay.launch.py', 'bag:=/nowhere'], 'a replay has a single camera'),
])
def test_cameras_are_not_for_every_launch_file(launch, arguments, reason):
    process = launch(*arguments, 'cameras:=[front, left]')
    assert process.wait() == 1
    assert reason in process.lines[-1]
    assert 'process started' not in process.output


@pytest.fixture
def rviz(tmp_path):
    """Return what has launch find an rviz2 that tells how it was called, in its environment."""
    (tmp_path / 'share/ament_index/resource_index/packages').mkdir(parents=True)
    (tmp_path / 'share/ament_index/resource_index/packages/rviz2').touch()
    rviz = tmp_path / 'lib/rviz2/rviz2'
    rviz.parent.mkdir(parents=True)
    rviz.write_text('#!/bin/sh\necho rviz2 "$@" >&2\n')
    rviz.chmod(0o755)
    return {'AMENT_PREFIX_PATH': os.pathsep.join(
        filter(None, [str(tmp_path), os.environ.get('AMENT_PREFIX_PATH')]))}


def test_rviz_follows_namespace_and_image(launch, rviz):
    process = launch(
        'segmentation.launch.py', 'rviz:=true', 'namespace:=front', 'image:=/camera/image_raw',
        **rviz)
    called = process.wait_for_output(r'rviz2 -d (\S+) (.*)')
    assert Path(called[1]).is_file()
    assert '-r __ns:=/front' in called[2] and '-r image:=/camera/image_raw' in called[2]
    process.wait_for_output(READY, START_TIMEOUT_S)
    assert process.running


def test_rviz_shows_the_first_of_several_cameras(launch, rviz):
    process = launch('segmentation.launch.py', 'rviz:=true', 'cameras:=[front, left]', **rviz)
    called = process.wait_for_output(r'rviz2 -d (\S+) (.*)')
    remapped = dict(re.findall(r'-r (\S+):=(\S+)', called[2]))
    config = Path(called[1]).read_text()
    shown = set(re.findall(r'Value: (image|segmentation_node/\w+)$', config, re.MULTILINE))
    assert len(shown) == 6
    assert {topic: remapped.get(topic) for topic in shown} == {
        topic: topic.replace('segmentation_node/', 'segmentation_node/front/')
        if topic != 'image' else 'front/image' for topic in shown}


@pytest.mark.parametrize('encoding, topic', [
    ('bgr8', '/front/camera/image_raw'),
    ('jpeg', '/front/camera/image_raw/compressed'),
])
def test_the_demo_labels_images(launch, client, encoding, topic):
    process = launch(
        'demo.launch.py', 'rviz:=false', 'namespace:=front', 'image:=camera/image_raw',
        f'encoding:={encoding}', 'rate:=5', 'width:=320', 'height:=240')
    images = client.listen(Image, '/front/segmentation_node/labels')
    client.until(lambda: images, START_TIMEOUT_S)
    assert (images[0].width, images[0].height) == (320, 240)
    wait_for_subscribers(client, topic, '/front/camera/camera_info')
    assert process.signal(signal.SIGINT)[0] == 0
    assert 'Traceback' not in process.output


def test_the_demo_knows_where_its_camera_is(launch, client):
    launch('demo.launch.py', 'rviz:=false', 'rate:=5', 'width:=320', 'height:=240')
    grids = client.listen(OccupancyGrid, '/segmentation_node/drivable_grid')
    client.until(lambda: any(0 in grid.data for grid in grids), START_TIMEOUT_S)
    assert grids[0].header.frame_id == 'base_link'


def test_the_demo_ends_with_its_camera(launch):
    process = launch('demo.launch.py', 'rviz:=false', 'source:=/nowhere')
    process.wait(START_TIMEOUT_S)
    assert '/nowhere: no such file or folder' in process.output
    assert not process.has_left_processes()


@pytest.fixture
def bag(tmp_path):
    """Return a bag of JPEG images with labels."""
    scene = RoadScene(seed=2, camera=PinholeCamera.from_fov(160, 120))
    with ImageBagWriter(tmp_path / 'bag') as writer:
        for index in range(8):
            frame = scene.render(index / 4)
            stamp_ns = 10 ** 9 + index * 25 * 10 ** 7
            writer.write_compressed(
                '/left/compressed', stamp_ns, 'camera',
                cv2.imencode('.jpg', frame.image)[1].tobytes(), 'jpeg')
            writer.write_image('/truth', stamp_ns, 'camera', frame.labels, 'mono8')
    return tmp_path / 'bag'


def test_a_replay_is_evaluated(launch, bag, tiny_weights, tmp_path):
    out = tmp_path / 'out'
    # What ROS installs, up to its own implementation.
    (tmp_path / 'ros2bag').mkdir()
    (tmp_path / 'ros2bag' / '__init__.py').touch()
    (tmp_path / 'ros2').write_text(
        f'#!/bin/sh\necho ros2 "$@" >&2\nfor image; do :; done\n'
        f'exec {sys.executable} -m lmii_ros.nodes.bag_player_node --ros-args -p "bag:=$3" '
        '-p rate:=$5 -p wait_for_subscribers:=2 -p topic:=/left/compressed '
        '-r "image/compressed:=${image##*:=}"\n')
    (tmp_path / 'ros2').chmod(0o755)
    process = launch(
        'replay.launch.py', f'bag:={bag}', 'topic:=/left/compressed', 'labels:=/truth',
        'rate:=2.0', f'out:={out}', 'namespace:=front', 'image:=/camera/image_raw',
        f'weights:={tiny_weights}', 'device:=cpu',
        PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        PYTHONPATH=os.pathsep.join(filter(None, [str(tmp_path), os.environ.get('PYTHONPATH')])))
    assert process.wait(START_TIMEOUT_S) == 0, process.output
    assert re.search(
        r'ros2 bag play \S+/bag --rate 2\.0 .*--topics /left/compressed '
        r'--remap /left/compressed:=/camera/image_raw/compressed$', process.output, re.MULTILINE)
    frames = json.loads((out / 'metrics.json').read_text())['frames']
    assert frames['total'] == frames['truth']['exact'] == 8
    assert frames['labelled'] + sum(frames['dropped'].values()) == 8
    assert frames['labelled'] > 0
    run = json.loads((out / 'run.json').read_text())
    assert run['player'] == 'ros2 bag play'
    assert run['command'][-1].startswith('device:=')
    assert not process.has_left_processes()


def test_a_replay_of_a_bag_that_is_not_there_ends(launch):
    process = launch('replay.launch.py', 'bag:=/nowhere')
    assert process.wait() == 1
    assert process.lines[-1].endswith('/nowhere: no such bag')
    assert 'process started' not in process.output
