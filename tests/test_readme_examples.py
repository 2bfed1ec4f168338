"""The README's examples, pasted as they stand into a shell and Python, on a real stack."""

import json
import re
import shutil
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.stack import Stack, wait_until
from tools.settings import CHECKOUT

EXPERIMENT = "readme-example"
README = (CHECKOUT / "README.md").read_text()


def example(language: str, containing: str, stack: Stack) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    [block] = [text for text in blocks if containing in text]
    return (
        block.replace("http://127.0.0.1:8000", stack.gateway_url)
        .replace("http://127.0.0.1:8001", stack.query_url)
        .replace("checkout-color", EXPERIMENT)
        .replace(".litmus/stack.json", str(stack.home.stack))
    )


def answers_of(shell: str) -> list[dict[str, Any]]:
    """Run the commands one by one; every one of them answers with JSON."""
    commands = re.split(r"\n(?=curl )", shell.strip())
    return [
        json.loads(subprocess.run(["bash", "-c", one], capture_output=True, check=True).stdout)
        for one in commands
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_work_line_by_line(stack: Stack) -> None:
    results_url = f"{stack.query_url}/v1/experiments/{EXPERIMENT}/results"

    def units() -> int:
        answer = httpx.get(results_url)
        return sum(one["units"] for one in answer.json()["variants"]) if answer.is_success else 0

    created, started = answers_of(example("sh", "/start", stack))
    [posted] = answers_of(example("sh", "/v1/events -H", stack))
    wait_until(lambda: units() == 2, "both units are in a look")
    python = example("python", "Producer", stack)
    subprocess.run([sys.executable, "-c", python], check=True)
    wait_until(lambda: units() == 3, "the unit that came through Kafka is in a look")
    results, ledger = answers_of(example("sh", "/v1/ledger", stack))

    assert (created["status"], started["status"]) == ("draft", "running")
    assert posted["accepted"] == 3
    assert posted["rejected"] == []
    assert [one["units"] for one in results["variants"]] == [1, 2]
    assert ledger["experiments"][EXPERIMENT]["counted"] == 1
