# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
from glob import glob

from setuptools import find_packages
from setuptools import setup

NAME = 'lmii_ros'
REPORT = ['jinja2>=3.0', 'matplotlib>=3.5']

setup(
    name=NAME,
    version='0.1.0',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={f'{NAME}.evaluation': ['templates/*.j2']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        (f'share/{NAME}/launch', glob('launch/*.launch.py')),
        (f'share/{NAME}/config', glob('config/*.*')),
        (f'share/{NAME}/config/training', glob('config/training/*.yaml')),
        (f'share/{NAME}/weights', glob('weights/*.safetensors') + glob('weights/*.md')),
    ],
    python_requires='>=3.10',
    install_requires=[
        'numpy>=1.21',
        'opencv-python-headless>=4.5',
        'PyYAML',
        'rosbags>=0.10.4',
        'safetensors>=0.4',
        'torch>=2.5',
        'tqdm',
    ],
    extras_require={
        # What a ROS 2 installation brings along, as wheels, for machines without one.
        'ros': [
            'ros-jazzy-diagnostic-msgs',
            'ros-jazzy-geometry-msgs',
            'ros-jazzy-nav-msgs',
            'ros-jazzy-rclpy[fastrtps]',
            'ros-jazzy-sensor-msgs',
            'ros-jazzy-std-srvs',
        ],
        # The fastest engine on x86 CPUs.
        'openvino': [
            'numba',
            'openvino>=2024.0',
        ],
        # Reports of evaluations, curves of trainings.
        'report': REPORT,
        # The fastest engine on arm64 CPUs; onnxruntime-gpu instead for CUDA and TensorRT.
        'onnxruntime': [
            'numba',
            'onnx',
            'onnxruntime>=1.17',
        ],
        # For `lmii evaluate bags --on ray`.
        'fleet': [
            'ray>=2.9',
        ],
        'test': [
            *REPORT,
            'catkin-pkg',
            'colcon-common-extensions',
            'flake8',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'pytest',
        ],
    },
    zip_safe=True,
    author='lmii_ros maintainers',
    maintainer='lmii_ros maintainers',
    maintainer_email='lmii-ros@users.noreply.github.com',
    description='Where a robot may drive: real-time semantic segmentation of camera frames.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'lmii = lmii_ros.cli:main',
            'segmentation_node = lmii_ros.nodes.segmentation_node:main',
            'camera_simulator_node = lmii_ros.nodes.camera_simulator_node:main',
            'evaluation_node = lmii_ros.nodes.evaluation_node:main',
        ],
    },
)
