# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The shared-memory profile is used where the user has set none."""

from __future__ import annotations

from pathlib import Path

from lmii_ros.share import PROFILE_VARIABLES
from lmii_ros.share import shared_memory_profile
import pytest


def test_the_shipped_profile_for_every_fast_dds():
    variables = shared_memory_profile({'HOME': '/'})
    assert variables.keys() == set(PROFILE_VARIABLES)
    for path in variables.values():
        assert '<type>SHM</type>' in Path(path).read_text()


@pytest.mark.parametrize('name', PROFILE_VARIABLES)
def test_a_profile_of_the_users_own_is_left_alone(name):
    assert shared_memory_profile({name: '/own.xml'}) == {}
