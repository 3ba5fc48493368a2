# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the node does where memory runs out."""

from __future__ import annotations

import logging
import weakref

from lmii_ros.engines import OutOfMemory
import numpy as np
import pytest

operation = pytest.importorskip('lmii_ros.nodes.operation')

from lmii_ros.nodes.parameters import Settings  # noqa: E402

FRAME = np.zeros((128, 192, 3), np.uint8)


def test_a_smaller_input_has_the_memory_of_the_attempt_that_failed(rated_weights):
    settings = Settings(
        weights=str(rated_weights), engine='torch', device='cpu', input_height=256)
    running = operation.Operation(settings, logging.getLogger('test'))
    running.segment('', lambda: FRAME, FRAME, settings, confidence=False, finish=list)
    segment = running.segmenter.segment
    taken, free = [], []

    def little_memory(frames, **options):
        if not taken:
            memory = np.zeros(8)
            taken.append(weakref.ref(memory))
            raise OutOfMemory('out of memory')
        free.append(taken[0]() is None)
        return segment(frames, **options)

    running.segmenter.segment = little_memory
    found = running.segment('', lambda: FRAME, FRAME, settings, confidence=False, finish=list)
    assert found.labels.shape == FRAME.shape[:2]
    assert running.segmenter.input_height == 128
    assert free == [True]
    assert running.warning() == (
        'memory ran out: at input height 128 instead of 256; set input_height to try again')
    running.segment('', lambda: FRAME, FRAME, settings, confidence=False, finish=list)
    assert running.segmenter.input_height == 128
    running.retry()
    running.segment('', lambda: FRAME, FRAME, settings, confidence=False, finish=list)
    assert running.segmenter.input_height == 256
    assert not running.warning()
