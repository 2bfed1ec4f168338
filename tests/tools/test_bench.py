"""The benchmark compares answers before it compares speed."""

import json

import pytest
from typer.testing import CliRunner

from schemas.partials import Sums
from tools.bench import speed
from tools.cli import app


def test_both_peers_give_the_same_answer_and_both_speeds_are_told() -> None:
    run = CliRunner().invoke(
        app,
        ["bench", "--messages", "5", "--rows", "200", "--units", "50", "--pairs", "1", "--json"],
    )

    assert run.exit_code == 0, run.output
    figures = json.loads(run.stdout)
    assert figures["rows"] == 1_000
    assert figures["ratio_median"] == pytest.approx(
        figures["engine_events_per_cpu_second"] / figures["peer_events_per_cpu_second"], abs=0.01
    )


def test_a_peer_with_another_answer_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_peer", lambda _workload: (1.0, [[Sums(1, 2, 3)]]))

    run = CliRunner().invoke(app, ["bench", "--messages", "1", "--rows", "10", "--units", "5"])

    assert run.exit_code == 1
    assert "The answers differ" in run.output
