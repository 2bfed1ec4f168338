"""What docs/reliability.md names is there: tests, kinds of faults, metrics, settings, topics."""

import re

import pytest

from ingest_gateway.settings import GatewaySettings, KafkaDoorSettings
from schemas.topics import CHANGELOGS, TOPICS
from stream_processors.settings import WorkerSettings
from tools.settings import CHECKOUT, Settings
from tools.torture.schedule import Kind

PAGE = (CHECKOUT / "docs" / "reliability.md").read_text()
ROWS = dict(re.findall(r"^\| (F\d+) \| (.+) \|$", PAGE, re.MULTILINE))
CODE = "\n".join(
    path.read_text()
    for folder in ("ingest_gateway", "query_api", "stream_processors")
    for path in (CHECKOUT / folder).rglob("*.py")
)


def test_every_row_of_the_fault_plan_is_there_in_order() -> None:
    assert list(ROWS) == [f"F{number}" for number in range(1, 29)]


@pytest.mark.parametrize("row", ROWS)
def test_every_test_that_a_row_names_exists_and_every_row_names_one_or_says_why_not(
    row: str,
) -> None:
    text = ROWS[row]
    files = re.findall(r"`(tests/[\w/]+\.py)`", text)
    # A test is named in parentheses behind the file that holds it.
    named = re.findall(r"`(tests/[\w/]+\.py)` \(`(test_\w+)`\)", text)

    assert files or "torture" in text or "not run" in text
    assert [file for file in files if not (CHECKOUT / file).is_file()] == []
    for file, test in named:
        assert f"def {test}(" in (CHECKOUT / file).read_text(), f"{file} has no {test}"
    assert len(re.findall(r"`test_\w+`", text)) == len(named)


def test_kinds_of_faults_are_those_of_torture() -> None:
    kinds = {
        kind
        for listed in re.findall(r"torture: ((?:`[a-z ]+`(?:, )?)+)", PAGE)
        for kind in re.findall(r"`([a-z ]+)`", listed)
    }

    assert kinds == {str(kind) for kind in Kind}


def test_metrics_that_it_names_are_exposed() -> None:
    named = set(re.findall(r"`(litmus_\w+)`", PAGE))

    # The client library adds _total to counters whose declared name lacks it.
    missing = {
        name
        for name in named
        if f'"{name}"' not in CODE and f'"{name.removesuffix("_total")}"' not in CODE
    }
    assert named
    assert missing == set()


def test_settings_and_topics_that_it_names_exist() -> None:
    settings = {
        f"LITMUS_{name.upper()}"
        for model in (Settings, GatewaySettings, KafkaDoorSettings, WorkerSettings)
        for name in model.model_fields
    }
    topics = {topic.name for topic in (*TOPICS, *CHANGELOGS)}

    assert set(re.findall(r"LITMUS_[A-Z_]+", PAGE)) <= settings
    assert set(re.findall(r"`(litmus\.[a-z-]+)`", PAGE)) <= topics
