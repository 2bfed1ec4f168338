"""The recursion is the joint normal distribution, at any times, boundaries and drifts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stream_processors.stats.sub_density import (
    START,
    Exits,
    Region,
    advance,
    exit_high,
    exit_low,
    exits,
    grid_after,
    grids,
)

STEPS = st.lists(st.floats(0.05, 0.6), min_size=1, max_size=3)


def all_exits(path: list[Region], drift: float) -> Exits:
    return exits(path, list(grids(path)), drift=drift)


def inside(path: list[Region], drift: float) -> float:
    """P(low_j < Z_j < high_j at every look), from the joint normal of the Z."""
    times = np.array([region.information for region in path])
    covariance = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    mean = drift * np.sqrt(times)
    return float(
        stats.multivariate_normal(mean, covariance, allow_singular=True).cdf(
            np.array([region.high for region in path]),
            lower_limit=np.array([region.low for region in path]),
            rng=np.random.default_rng(1),
        )
    )


@given(STEPS, st.data())
@settings(deadline=None, max_examples=40)
def test_the_chance_to_go_on_is_that_of_the_joint_normal(
    steps: list[float], data: st.DataObject
) -> None:
    path = [
        Region(time, -data.draw(st.floats(0.3, 4)), data.draw(st.floats(0.3, 4)))
        for time in np.cumsum(steps).tolist()
    ]
    drift = data.draw(st.floats(-2, 2))
    assert 1 - all_exits(path, drift).total == pytest.approx(inside(path, drift), abs=2e-5)


@given(STEPS, st.floats(-3, 3), st.floats(1, 3))
@settings(deadline=None, max_examples=30)
def test_a_drift_mirrored_swaps_the_sides(steps: list[float], drift: float, z: float) -> None:
    path = [Region(time, -z, z) for time in np.cumsum(steps).tolist()]
    there, back = all_exits(path, drift), all_exits(path, -drift)
    np.testing.assert_allclose(there.high, back.low, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(there.low, back.high, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("drift", [-4.0, 0.0, 1.0, 6.0])
def test_a_drift_that_tilts_is_a_drift_that_was_there(drift: float) -> None:
    """Shifting every boundary by the drift is the other way to have it; the two must agree."""
    times, z = [0.3, 0.7, 1.0], 2.0
    path = [Region(time, -z, z) for time in times]
    shifted = [
        Region(time, -z - drift * math.sqrt(time), z - drift * math.sqrt(time)) for time in times
    ]
    tilted, moved = all_exits(path, drift), all_exits(shifted, 0.0)
    np.testing.assert_allclose(tilted.high, moved.high, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(tilted.low, moved.low, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("drift", [-6.0, 0.0, 5.0])
def test_a_side_without_a_boundary_loses_nobody(drift: float) -> None:
    path = [Region(time, -math.inf, math.inf) for time in (0.2, 0.5, 1.0)]
    found = all_exits(path, drift)
    assert found.total == pytest.approx(0.0, abs=1e-14)
    last = list(grids(path))[-1]
    beyond = exit_high(last, 1.0, 0.0, drift=drift)
    assert beyond == pytest.approx(stats.norm.sf(-drift), rel=1e-9)
    assert beyond + exit_low(last, 1.0, 0.0, drift=drift) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("step", [1e-5, 1e-4, 1e-2])
def test_looks_close_together_are_still_resolved(step: float) -> None:
    """Two looks a moment apart, then one more: against a look in between that stops nobody."""
    z, times = 1.5, (0.5, 0.5 + step, 1.0)
    path = [Region(times[0], -z, z), Region(times[1], -9.0, 9.0), Region(times[2], -z, z)]
    without = [path[0], path[2]]
    assert all_exits(path, 0.0).total == pytest.approx(all_exits(without, 0.0).total, abs=1e-7)


def test_what_is_remembered_is_what_is_computed() -> None:
    path = (Region(0.2, -2.5, 2.5), Region(0.5, -2.2, 2.2))
    grid = START
    for region, step in zip(path, (0.3, 0.5), strict=True):
        grid = advance(grid, region, step=step)
    remembered = grid_after(path, 0.5)
    assert np.array_equal(grid.nodes, remembered.nodes)
    assert np.array_equal(grid.masses, remembered.masses)
