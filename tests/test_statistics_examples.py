"""The analysts' document computes what it says: its examples run, its tables are the code's."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_processors.merge.verdict import Reading
from stream_processors.stats.edges import EDGE_RULES, Hides
from tools.cli import app
from tools.settings import CHECKOUT

DOCUMENT = (CHECKOUT / "docs" / "statistics.md").read_text()


def section(title: str) -> str:
    return re.split(r"^## ", DOCUMENT.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def first_column(title: str) -> list[str]:
    """The names in the first column of a section's table."""
    return re.findall(r"^\| `(\w+)`", section(title), re.MULTILINE)


def test_every_example_prints_what_it_says() -> None:
    """All blocks together are one session, in the order of the document."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "statistics.md", None, 0)
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert results.attempted >= 30
    assert results.failed == 0, "".join(said)


def test_the_table_of_edge_rules_is_the_one_that_is_applied() -> None:
    assert first_column("Edge rules") == [rule.status for rule in EDGE_RULES]
    left = re.findall(r"^\| `\w+` \|[^|]*\| ([^|]*) \|$", section("Edge rules"), re.MULTILINE)
    for rule, rest in zip(EDGE_RULES, left, strict=True):
        assert ("all but the relative effect" in rest) == (rule.hides is Hides.RELATIVE), rule
        assert ("without test" in rest) == (rule.hides is Hides.TESTS), rule
        assert rest.startswith("everything") == (rule.hides is Hides.NOTHING), rule


def test_every_reading_of_a_verdict_is_explained() -> None:
    assert first_column("Verdict") == [reading.value for reading in Reading]


def test_every_method_is_explained_where_methods_are_chosen() -> None:
    assert set(first_column("Which method when")) == {
        "always_valid",
        "group_sequential",
        "fixed_horizon",
        "bayesian",
    }


def test_the_commands_of_the_document_are_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LITMUS_HOME", str(tmp_path))
    blocks = re.findall(r"^```sh\n(.*?)^```$", section("Planning"), re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) == 5
    for program, *arguments in commands:
        result = CliRunner().invoke(app, arguments)
        needs_a_stack = "--experiment" in arguments
        assert program == "litmus"
        assert result.exit_code == int(needs_a_stack), result.output
        assert ("litmus up" in result.output) == needs_a_stack


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(#([^)]*)\)", DOCUMENT))))
def test_links_inside_lead_somewhere(link: str) -> None:
    titles = re.findall(r"^##+ (.*)$", DOCUMENT, re.MULTILINE)
    assert link in {title.lower().replace(" ", "-") for title in titles}
