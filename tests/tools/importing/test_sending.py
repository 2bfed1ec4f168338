"""However often it is interrupted, whichever gateway answers: every row is in once."""

import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from schemas.imports import DAY_MS
from tests.tools.importing.served import Served, two_gateways
from tools.cli import app
from tools.importing import sending
from tools.importing.sending import Gateways

FIRST_DAY = 20_000


class KilledError(BaseException):
    """Stands for SIGKILL: nothing of the program runs after it."""


class DyingGateways(Gateways):
    """Dies before or after a request; what it knew is gone."""

    requests_left = 0
    answer_is_read = True

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        if DyingGateways.requests_left == 0:
            if not DyingGateways.answer_is_read:
                super().ask(method, path, **request)
            raise KilledError
        DyingGateways.requests_left -= 1
        return super().ask(method, path, **request)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with two_gateways() as running:
        yield running


def write_rows(path: Path, count: int, metric: str) -> list[tuple[int, float]]:
    """Write a file; return day and value of its rows."""
    rows = [(FIRST_DAY + number % 9, number / 4) for number in range(count)]
    lines = (
        {
            "unit_id": f"u-{number % 17}",
            "metric": metric,
            "value": value,
            "timestamp": day * DAY_MS + number,
        }
        for number, (day, value) in enumerate(rows)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return sorted(rows)


def run(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["import", *map(str, arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.stdout, result.output
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_import_goes_on_where_it_was(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, metric = random.Random(seed), f"buy-{uuid.uuid4().hex[:8]}"
    path = tmp_path / "a.ndjson"
    rows = write_rows(path, 95, metric)
    command = [path, "--keep-days", 30, "--rows-per-batch", 10]
    urls = [("--gateway", url) for url in served.urls]
    monkeypatch.setattr("tools.importing.command.Gateways", DyingGateways)
    kills = 0
    while True:
        DyingGateways.requests_left = rng.randrange(1, 9)
        DyingGateways.answer_is_read = rng.random() < 0.5
        rng.shuffle(urls)
        try:
            code, report = run(*command, *(word for url in urls for word in url))
        except KilledError:
            kills += 1
            continue
        break

    assert kills >= 2
    assert (code, report["rows"], report["batches"], report["bad_rows"]) == (0, 95, 10, 0)
    assert served.counted(report["import_id"]) == rows
    DyingGateways.requests_left = 1_000
    again = run(*command, "--gateway", served.urls[0])[1]
    assert (again["import_id"], again["sent_count"]) == (report["import_id"], 0)
    assert served.counted(report["import_id"]) == rows


def test_a_gateway_that_is_away_is_passed_over(served: Served, tmp_path: Path) -> None:
    metric = f"buy-{uuid.uuid4().hex[:8]}"
    rows = write_rows(tmp_path / "a.ndjson", 12, metric)
    away = "http://127.0.0.1:9"
    code, report = run(
        tmp_path / "a.ndjson", "--keep-days", 5, "--gateway", away, "--gateway", served.urls[1]
    )

    assert code == 0
    assert served.counted(report["import_id"]) == rows


def test_no_gateway_at_all_says_that_it_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "GIVE_UP_S", 0.0)
    write_rows(tmp_path / "a.ndjson", 3, "buy")
    code, report = run(tmp_path / "a.ndjson", "--gateway", "http://127.0.0.1:9")

    assert code == 1
    assert "goes on where it was" in report["error"]


def test_a_bad_row_stops_it_before_anything_is_sent(served: Served, tmp_path: Path) -> None:
    metric = f"buy-{uuid.uuid4().hex[:8]}"
    path, aside = tmp_path / "a.ndjson", tmp_path / "bad.ndjson"
    rows = write_rows(path, 30, metric)
    lines = path.read_text().splitlines()
    lines.insert(20, '{"unit_id": "u"}')
    lines.insert(7, "nonsense")
    path.write_text("\n".join(lines))
    command = [path, "--keep-days", 5, "--gateway", served.urls[0], "--id", f"i-{metric}"]
    stopped, refusal = run(*command)
    entry = httpx.get(f"{served.urls[0]}/v1/metrics/{metric}")
    code, report = run(*command, "--skip-bad", aside, "--rows-per-batch", 7)

    assert stopped == 1
    assert f"{path}:8: not JSON" in refusal["error"]
    assert f"{path}:22: metric is missing" in refusal["error"]
    assert "Nothing was sent" in refusal["error"]
    assert entry.status_code == 404
    assert (code, report["bad_rows"], report["rows"]) == (0, 2, 30)
    assert [json.loads(line)["line"] for line in aside.read_text().splitlines()] == [8, 22]
    assert served.counted(f"i-{metric}") == rows


def test_other_files_or_options_under_a_begun_id_are_refused(
    served: Served, tmp_path: Path
) -> None:
    metric = f"buy-{uuid.uuid4().hex[:8]}"
    path, other = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    rows = write_rows(path, 30, metric)
    write_rows(other, 18, metric)
    command = ["--keep-days", 5, "--gateway", served.urls[0], "--id", f"i-{metric}"]
    assert run(path, *command, "--rows-per-batch", 10)[0] == 0
    written = served.parts(f"i-{metric}")

    for arguments in ((path, "--rows-per-batch", 4), (other, "--rows-per-batch", 10)):
        code, report = run(*arguments, *command)
        assert code == 1
        assert "begun with" in report["error"]
    assert served.parts(f"i-{metric}") == written
    assert served.counted(f"i-{metric}") == rows


def test_a_metric_without_entry_needs_days_to_keep(served: Served, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.ndjson", 3, "unheard-of")
    code, report = run(tmp_path / "a.ndjson", "--gateway", served.urls[0])

    assert code == 1
    assert "--keep-days" in report["error"]


def test_a_dry_run_says_what_would_be_imported(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.ndjson", 30, "buy")
    code, report = run(tmp_path / "a.ndjson", "--dry-run", "--rows-per-batch", 8)

    assert code == 0
    assert (report["rows"], report["batches"], report["metrics"]) == (30, 4, ["buy"])
    assert (report["from"], report["to"]) == ("2024-10-04", "2024-10-12")
