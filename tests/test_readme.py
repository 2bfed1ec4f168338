"""What the README and the docs say of topics, settings, commands and files is so."""

import json
import re
from pathlib import Path

import msgspec
import pytest
import typer

from schemas.definitions import DefinitionBody, define
from schemas.topics import DAY_MS, FOR_EVER, TOPICS, Topic
from tools.cli import app
from tools.settings import CHECKOUT, Settings

README = (CHECKOUT / "README.md").read_text()
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
HOUR_MS = 3_600_000

BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def kept(topic: Topic) -> str:
    if topic.cleanup_policy == "compact":
        return "latest per key"
    if topic.retention_ms == FOR_EVER:
        return "for ever"
    if topic.retention_ms < DAY_MS:
        return f"{topic.retention_ms // HOUR_MS} h"
    days = topic.retention_ms // DAY_MS
    return "1 day" if days == 1 else f"{days} days"


def test_the_table_of_topics_is_that_of_the_schemas() -> None:
    rows = re.findall(r"^\| `(litmus\.[a-z-]+)` \| (.+) \| (.+) \| (.+) \|$", README, re.MULTILINE)

    assert rows == [
        (
            topic.name,
            topic.value,
            str(topic.partition_count or "`LITMUS_PARTITIONS`"),
            kept(topic),
        )
        for topic in TOPICS
    ]


def test_the_table_of_variables_is_that_of_the_settings() -> None:
    rows = re.findall(r"^\| `(LITMUS_\w+)` \| (.+?) \|", README, re.MULTILINE)

    assert [name for name, _ in rows] == [
        f"LITMUS_{name.upper()}" for name in Settings.model_fields
    ]
    for name, shown in rows:
        default = Settings.model_fields[name.removeprefix("LITMUS_").lower()].default
        assert default is None or shown == f"`{default}`"


def test_the_commands_are_there() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    table = README.split("| `.venv/bin/litmus` | |")[1].split("\n\n")[0]

    named = set(re.findall(r"^\| `(\w+)", table, re.MULTILINE))

    assert named == {name for name, command in commands.items() if not command.hidden}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", text)
    files = re.findall(
        r"`((?:schemas|ingest_gateway|stream_processors|query_api|tools|docs)/[\w./-]+)`", text
    )

    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [file for file in files if not (CHECKOUT / file).exists()] == []


def test_no_page_names_a_folder_of_one_machine() -> None:
    assert not [page for page in PAGES if re.search(r"/(home|work|Users|root)/", page.read_text())]


def test_the_experiment_of_the_example_is_one_that_the_platform_takes() -> None:
    shell = "\n".join(text for language, text in BLOCKS if language == "sh")
    [body] = re.findall(r"/v1/experiments -H .*? -d '(.*?)'\n", shell, re.DOTALL)

    definition = define(
        msgspec.json.decode(body, type=DefinitionBody), ordinal=0, version=0, created_at_ms=0
    )

    assert definition.control == "control"


def test_every_example_of_json_is_json_and_every_example_of_python_compiles() -> None:
    for language, text in BLOCKS:
        if language == "json":
            json.loads(text)
        if language == "python":
            compile(text, "README.md", "exec")
