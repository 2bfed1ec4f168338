"""A schedule of faults follows from its seed, and can be carried out on the machine at hand."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.torture.schedule import (
    DISKS,
    JOINERS_MAX,
    PROCESSES,
    SESSION_TIMEOUT_S,
    SUBSTITUTED,
    Kind,
    UnknownFaultError,
    expected_seconds,
    make_schedule,
)

seeds = st.integers(0, 2**32)
counts = st.integers(0, 400)
OPTIONAL = [Kind.FULL_DISK, Kind.CLOCK_STEP, Kind.SLOW_LINK, Kind.ZOMBIE, Kind.LOSE, Kind.DRAIN]
STEPS = {Kind.JOIN: 1, Kind.LEAVE: -1, Kind.LOSE: -1, Kind.DRAIN: -1}


@given(seeds, counts, st.sets(st.sampled_from(OPTIONAL)))
def test_a_seed_gives_one_schedule_of_the_length_asked_for(
    seed: int, count: int, impossible: set[Kind]
) -> None:
    faults = make_schedule(seed, count, impossible=impossible)

    assert faults == make_schedule(seed, count, impossible=impossible)
    assert [fault.number for fault in faults] == list(range(1, count + 1))
    assert not impossible & {fault.kind for fault in faults}


@given(seeds, counts)
def test_only_workers_that_joined_leave_and_never_too_many_are_there(seed: int, count: int) -> None:
    joined = 0
    for fault in make_schedule(seed, count):
        joined += STEPS.get(fault.kind, 0)
        assert 0 <= joined <= JOINERS_MAX


@given(seeds)
def test_every_kind_comes_when_there_are_as_many_faults_as_kinds(seed: int) -> None:
    joins_beside_the_first = 2
    count = len(Kind) + joins_beside_the_first
    assert {fault.kind for fault in make_schedule(seed, count)} == set(Kind)


@given(seeds, st.integers(12, 14))
def test_a_short_run_has_many_kinds(seed: int, count: int) -> None:
    assert len({fault.kind for fault in make_schedule(seed, count)}) >= 6


@given(seeds)
def test_what_is_frozen_is_frozen_longer_than_its_group_waits(seed: int) -> None:
    faults = make_schedule(seed, 100)
    frozen = [fault for fault in faults if fault.kind in (Kind.FREEZE, Kind.ZOMBIE)]

    assert {fault.kind for fault in frozen} == {Kind.FREEZE, Kind.ZOMBIE}
    assert all(fault.hold_s > SESSION_TIMEOUT_S for fault in frozen)
    assert all(fault.target in SUBSTITUTED for fault in frozen if fault.kind is Kind.ZOMBIE)


@given(seeds)
def test_targets_of_a_kind_are_hit_equally_often(seed: int) -> None:
    kills = Counter(fault.target for fault in make_schedule(seed, 300) if fault.kind is Kind.KILL)

    assert len(kills) == 6
    assert max(kills.values()) - min(kills.values()) <= 1


@given(seeds, st.sets(st.sampled_from(DISKS), min_size=1))
def test_only_disks_that_are_there_are_filled(seed: int, disks: set[str]) -> None:
    faults = make_schedule(seed, 200, disks=sorted(disks))

    assert {fault.target for fault in faults if fault.kind is Kind.FULL_DISK} == disks


@given(seeds)
def test_three_hundred_faults_fit_into_fifty_minutes(seed: int) -> None:
    assert expected_seconds(make_schedule(seed, 300)) < 50 * 60


def test_other_seeds_give_other_schedules() -> None:
    assert len({tuple(make_schedule(seed, 20)) for seed in range(50)}) == 50


def test_a_fault_is_named_by_what_it_does_and_to_whom() -> None:
    labels = {fault.label for fault in make_schedule(7, 300)}

    assert {"kill accumulate", "zombie control", "worker drained", "broker kill"} <= labels
    assert {"cut link clients", "freeze kafka", "full disk kafka", "kill everything"} <= labels


def test_only_what_was_asked_for_is_broken() -> None:
    faults = make_schedule(3, 40, only=["kill accumulate", "terminate"])
    assert {fault.label for fault in faults if fault.kind is Kind.KILL} == {"kill accumulate"}
    assert {fault.kind for fault in faults} == {Kind.KILL, Kind.TERMINATE}
    assert {fault.target for fault in faults if fault.kind is Kind.TERMINATE} == set(PROCESSES)
    assert len(faults) == 40


def test_a_worker_that_is_to_be_lost_joins_before() -> None:
    labels = [fault.label for fault in make_schedule(3, 7, only=["worker lost"])]
    assert sorted(labels) == ["worker joins"] * 3 + ["worker lost"] * 3
    assert labels[0] == "worker joins"


def test_a_fault_that_is_not_there_is_refused_and_those_that_are_are_named() -> None:
    with pytest.raises(UnknownFaultError, match=r"kill merger; there are: .*kill merge"):
        make_schedule(3, 6, only=["kill merger"])
    with pytest.raises(UnknownFaultError, match="full disk"):
        make_schedule(3, 6, only=["full disk"], impossible=[Kind.FULL_DISK])
