# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The shared-memory profile is used where the user has set none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from lmii_ros import share
from lmii_ros.share import PROFILE_VARIABLES
from lmii_ros.share import shared_memory_profile
import pytest


@pytest.fixture(autouse=True)
def free_memory(monkeypatch):
    """Set the free bytes of /dev/shm, many unless told, as not every machine has them."""
    def free(size):
        monkeypatch.setattr(share.shutil, 'disk_usage', lambda _: SimpleNamespace(free=size))

    free(1 << 30)
    return free


def test_the_shipped_profile_for_every_fast_dds():
    variables = shared_memory_profile({'HOME': '/'})
    assert variables.keys() == set(PROFILE_VARIABLES)
    for path in variables.values():
        assert '<type>SHM</type>' in Path(path).read_text()


@pytest.mark.parametrize('name', PROFILE_VARIABLES)
def test_a_profile_of_the_users_own_is_left_alone(name):
    assert shared_memory_profile({name: '/own.xml'}) == {}


def test_where_memory_does_not_suffice_that_is_told(free_memory, capsys):
    # As a container of Docker has it.
    free_memory(64 << 20)
    assert shared_memory_profile({}) == {}
    assert 'images over 512 KB will be lost: /dev/shm has 64 MiB free' in capsys.readouterr().err
