"""The query API as a process of its own, and what it stored, read by another process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from tools.ports import free_ports

READY_SECONDS_MAX = 120.0
_ROWS = """
import json, sys
from query_api.history.database import connect
client = connect(sys.argv[1])
print(json.dumps(client.query(sys.argv[2]).result_rows))
"""


class QueryApi:
    """A process that is started, killed and started again on the same home and port."""

    def __init__(self, home: Path, kafka: str) -> None:
        self._port = free_ports(1)[0]
        self._log = home / "query-api.log"
        self._dsn = f"chdb://{home / 'clickhouse'}"
        self._environment = os.environ | {
            "LITMUS_HOME": str(home),
            "LITMUS_KAFKA": kafka,
            "LITMUS_QUERY_PORT": str(self._port),
        }
        self.address = f"127.0.0.1:{self._port}"
        self.http = httpx.Client(base_url=f"http://{self.address}", timeout=60)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "query_api"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    def ready(self) -> dict[str, Any] | None:
        """Return what /ready says once it is 200 and the history has caught up too."""
        try:
            answer = self.http.get("/ready")
        except httpx.TransportError:
            return None
        is_ready = answer.status_code == 200 and answer.json()["history"]["caught_up"]
        return answer.json() if is_ready else None

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.ready() is not None, "ready", self.explain)

    def explain(self) -> str:
        """Return what it wrote last, for the message of a failed test."""
        return self._log.read_text()[-2_000:]

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stored(self, query: str) -> list[list[Any]]:
        """Return the rows of a query, of a history that nobody has open."""
        command = [sys.executable, "-c", _ROWS, self._dsn, query]
        found = subprocess.run(command, check=True, capture_output=True)
        rows: list[list[Any]] = json.loads(found.stdout)
        return rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(60)


def wait_until(is_true: Callable[[], bool], what: str, explain: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not is_true():
        assert time.monotonic() < deadline, f"not {what}\n{explain()}"
        time.sleep(0.05)
