"""Logged settings from the command line: what is asked for, refused and shown."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from tests.tools.importing.served import Served, two_gateways
from tools.cli import app
from tools.errors import LitmusError
from tools.logged_settings import body_of


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with two_gateways() as running:
        yield running


def test_arguments_say_what_to_change() -> None:
    assert body_of(["lateness=2h", "stride=auto", "retire_sources=a/0,a/1"]) == {
        "lateness": "2h",
        "stride": None,
        "retire_sources": ["a/0", "a/1"],
    }
    for wrong in ("lateness", "stride=x", "colour=red"):
        with pytest.raises(LitmusError, match="must be"):
            body_of([wrong])


def test_a_change_is_in_use_and_explained(served: Served) -> None:
    changed = CliRunner().invoke(
        app, ["settings", "lateness=2h", "stride=3", "--gateway", served.urls[0]]
    )
    shown = CliRunner().invoke(app, ["settings", "--json", "--gateway", served.urls[1]])

    assert changed.exit_code == 0, changed.output
    assert "received up to 2h" in changed.output
    assert json.loads(shown.output) == {"lateness": "2h", "stride": 3, "sources": []}


@pytest.mark.parametrize("change", ["lateness=1ms", "retire_sources=a/0"])
def test_a_refusal_says_why(served: Served, change: str) -> None:
    refused = CliRunner().invoke(app, ["settings", change, "--gateway", served.urls[0]])

    assert refused.exit_code == 1
    assert "422" in refused.output
    assert "must be" in refused.output


def test_a_gateway_that_is_away_is_named() -> None:
    away = CliRunner().invoke(app, ["settings", "--gateway", "http://127.0.0.1:9"])

    assert away.exit_code == 1
    assert "http://127.0.0.1:9 does not answer" in away.output
