"""Shows the figures of this run below its results."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.figures import table, write_figures

Report = Callable[[str, dict[str, Any]], None]

_FIGURES = pytest.StashKey[dict[str, dict[str, Any]]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Call it with a test's name and its figures, also when it is about to fail."""

    def note(name: str, figures: dict[str, Any]) -> None:
        request.config.stash.setdefault(_FIGURES, {})[name] = figures
        write_figures(name, figures)

    return note


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for name, figures in config.stash.get(_FIGURES, {}).items():
        terminalreporter.section(f"crash: {name}")
        for line in table(figures):
            terminalreporter.line(line)
