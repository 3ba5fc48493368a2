# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What diagnostics make of frames that are not meant to be labelled."""

from __future__ import annotations

import time

import pytest

statistics = pytest.importorskip('lmii_ros.nodes.statistics')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402

STALE_AFTER_S = 0.1


@pytest.mark.parametrize('first_is_labelled, level', [
    (True, DiagnosticStatus.OK), (False, DiagnosticStatus.ERROR)])
def test_no_labels_are_expected_of_what_is_over_the_target(first_is_labelled, level):
    frames = statistics.FrameStatistics()
    frames.received()
    if first_is_labelled:
        frames.labelled(None, {})
    deadline = time.monotonic() + 2 * STALE_AFTER_S
    while time.monotonic() < deadline:
        frames.received()
        frames.dropped('over_target')
        time.sleep(0.01)
    assert frames.report('a', {}, active=True, stale_after=STALE_AFTER_S).level == level


def test_that_nobody_subscribes_is_told():
    frames = statistics.FrameStatistics()

    def message():
        return frames.report('a', {}, active=True, stale_after=STALE_AFTER_S).message

    assert message() == 'labelling'
    frames.received()
    frames.dropped('no_subscriber')
    assert message() == 'nobody subscribes, so nothing is labelled'
    frames.received()
    frames.labelled(None, {})
    assert message() == 'labelling'
