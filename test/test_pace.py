# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which frames of a camera are let through for a target rate."""

from __future__ import annotations

import numpy as np
import pytest

Pace = pytest.importorskip('lmii_ros.nodes.pace').Pace


def admitted(times_s, fps):
    """Return the times of the frames that are let through."""
    pace = Pace()
    return [time_s for time_s in times_s if pace.admits(time_s, 1 / fps)]


def test_a_camera_at_the_target_loses_none():
    rng = np.random.default_rng(3)
    times_s = 100 + np.arange(3000) / 30 + rng.uniform(0, 0.015, 3000)
    # One waits for the executor, and comes together with the next.
    times_s[1000] = times_s[1001] - 1e-4
    assert len(admitted(times_s, 30)) == 3000
    assert len(admitted(np.arange(100) / 12, 30)) == 100


@pytest.mark.parametrize('camera_fps', [33, 45, 60, 100])
def test_a_faster_camera_gives_the_target(camera_fps):
    times_s = admitted(np.arange(20 * camera_fps) / camera_fps, 30)
    assert len(times_s) == pytest.approx(600, abs=2)
    # Evenly: half a period early, and the next frame of the camera late.
    assert max(np.diff(times_s)) <= 1.5 / 30 + 1 / camera_fps


def test_a_pause_is_not_made_up_for():
    times_s = admitted(np.concatenate((np.arange(100), np.arange(10_000, 10_100))) / 100, 10)
    assert len(times_s) == pytest.approx(20, abs=4)


def test_another_target_holds_at_once():
    pace = Pace()
    assert pace.admits(5.0, 10.0) and pace.admits(6.0, 10.0)
    assert not pace.admits(7.0, 10.0)
    assert pace.admits(7.1, 0.1)
