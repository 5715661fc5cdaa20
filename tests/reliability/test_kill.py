"""Builds that are killed anywhere go on where they were and end as if nobody had disturbed them."""

from __future__ import annotations

import secrets

import pytest

from tests.labs.kill import KillLab


@pytest.fixture
def seed() -> int:
    """Another one every time, printed where the test fails."""
    print("seed", seed := secrets.randbelow(2**32))
    return seed


def test_a_build_that_is_killed_at_random_moments_ends_as_if_undisturbed(tmp_path, seed: int) -> None:
    KillLab(tmp_path, seed).live(max_kills=8)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_lose_nothing_and_repeat_nothing(tmp_path, seed: int) -> None:
    lab = KillLab(tmp_path, seed)
    while lab.kills < 50:
        lab.live(max_kills=8)
    print(f"{lab.kills} kills of {lab.lives} data sets")


@pytest.mark.slow
@pytest.mark.parametrize("address", ["none", "local"], ids=["worker processes", "Ray"])
def test_a_build_survives_the_kill_of_workers_of_its_driver_and_of_everything(tmp_path, seed: int, address) -> None:
    lab = KillLab(tmp_path, seed, slowness_s=0.03)
    while lab.kills < 5:  # some come when all is done
        lab.live_in_workers(address, ["worker", "worker", "driver", "worker", "everything", "driver"])
    print(f"{lab.kills} kills")
