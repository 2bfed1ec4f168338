"""The auditor is silent about a run that is right, whatever its world was."""

import pytest

from tests.tools.torture_audit.worlds import make_world, run_world
from tools.torture.audit import audit


@pytest.mark.parametrize("seed", range(25))
def test_a_run_that_counted_right_has_no_differences(seed: int) -> None:
    world = make_world(seed)
    outcome = run_world(world, partition_count=1 + seed % 3)

    report = audit(outcome.evidence, outcome.run, processes=1)

    assert report.differences == []
    assert report.looks_compared == len(outcome.evidence.look_records) > 50
    assert report.events_compared == len(set(world.events)) + len(world.late)
    assert report.compared["cells"] > 5
