"""Batches to gateways: the one that answers, from the first batch that is not done.

The gateway keeps the count. A batch without an answer is sent again, to whichever gateway answers;
it is counted once. So this program may be killed at any point and started again.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import httpx
import zstandard

from schemas.times import format_day
from tools.errors import LitmusError
from tools.importing.survey import Line, Survey

REQUEST_TIMEOUT_S = 30.0
GIVE_UP_S = 120.0
"""Without an answer from any gateway for so long, the command ends; started again it goes on."""

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 2.0

_HEADERS = {"Content-Type": "application/x-ndjson", "Content-Encoding": "zstd"}


class RefusedImportError(LitmusError):
    """The gateway does not take it; sending it again does not help."""


class GatewayAwayError(LitmusError):
    """No gateway answers."""


class Sent(NamedTuple):
    """How an import went.

    Attributes:
        batch_count: Batches of the files.
        sent_count: Of these the ones sent by this run; the others were done.
    """

    batch_count: int
    sent_count: int


class Gateways:
    """Asks gateways in turn until one answers.

    Args:
        urls: Their addresses.
        sleep: Waits for so many seconds.
        clock_s: Monotonic seconds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._sleep = sleep
        self._clock_s = clock_s
        self._client = httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False)

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Return the answer of the first gateway that has one.

        Raises:
            GatewayAwayError: If none has for two minutes.
        """
        started_s, backoff_s, reason = self._clock_s(), BACKOFF_S_MIN, ""
        while True:
            try:
                answer = self._client.request(method, self._urls[0] + path, **request)
            except httpx.TransportError as error:
                reason = f"{self._urls[0]}: {error or type(error).__name__}"
            else:
                if answer.status_code < 500:
                    return answer
                reason = f"{self._urls[0]}: {answer.status_code} {answer.text[:200]}"
            if self._clock_s() - started_s > GIVE_UP_S:
                raise GatewayAwayError(
                    f"No gateway answers ({reason}). Start the same command again: it goes on "
                    "where it was."
                )
            self._urls.append(self._urls.pop(0))
            self._sleep(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def prepare(
    gateways: Gateways, import_id: str, survey: Survey, *, keep_days: int | None, precision: int
) -> int:
    """Make missing entries of the catalogue, declare the import; return which batch is next.

    Raises:
        RefusedImportError: If the gateway refuses.
    """
    for name in survey.metrics:
        if gateways.ask("GET", f"/v1/metrics/{name}").status_code == 200:
            continue
        if keep_days is None:
            raise RefusedImportError(
                f"Metric {name!r} is not in the catalogue. --keep-days N makes its entry: so many "
                "days of every unit are kept, and that never changes."
            )
        entry = {"keep_days": keep_days, "precision": precision}
        _require(gateways.ask("PUT", f"/v1/metrics/{name}", json=entry))
    body = {"metrics": survey.metrics} | shown_span(survey)
    declared = _require(gateways.ask("PUT", f"/v1/imports/{import_id}", json=body))
    return int(declared["next"])


def send_batches(
    gateways: Gateways,
    import_id: str,
    batches: Iterable[Sequence[Line]],
    *,
    following: int,
    on_done: Callable[[int], None],
) -> Sent:
    """Send every batch that is not done, in order.

    The last one that is done is sent again first: its answer says whether this import was begun
    with the same rows in the same batches.

    Args:
        gateways: Where to.
        import_id: The import.
        batches: All of them, from 1.
        following: Which is next.
        on_done: Told how many rows more are in.

    Raises:
        RefusedImportError: If a batch is refused, or the import was begun with other rows.
    """
    number, sent_count = 0, 0
    compressor = zstandard.ZstdCompressor()
    for number, batch in enumerate(batches, 1):
        if number >= following - 1:
            body = compressor.compress(b"\n".join(line.line for line in batch))
            path = f"/v1/imports/{import_id}/{number}"
            answer = gateways.ask("POST", path, content=body, headers=_HEADERS)
            sent_count += not _is_done(answer)
        on_done(len(batch))
    if number < following - 1:
        raise RefusedImportError(
            f"Import {import_id!r} has {following - 1} batches already, these files make {number}: "
            "it was begun with other files or options. Another --id begins another one."
        )
    return Sent(number, sent_count)


def shown_span(survey: Survey) -> dict[str, str]:
    """Return the days of an import as the gateway is told them."""
    return {"from": format_day(survey.span.first_day), "to": format_day(survey.span.last_day)}


def _is_done(answer: httpx.Response) -> bool:
    """Return whether a batch was done before; raise if it is refused."""
    if answer.status_code == 409 and answer.json().get("code") == "import_batch_done":
        return True
    if answer.status_code == 409 and answer.json().get("code") == "import_batch_differs":
        raise RefusedImportError(
            f"{answer.json()['detail']}. The files or the options (--rows-per-batch, --skip-bad, "
            "columns) are not those that this import was begun with."
        )
    return bool(_require(answer)["already"])


def _require(answer: httpx.Response) -> dict[str, Any]:
    content: dict[str, Any] = answer.json()
    if answer.status_code < 300:
        return content
    errors = [
        f"  {error.get('field')}: {error['message']}" for error in content.get("errors", [])[:20]
    ]
    refusal = f"The gateway refuses ({answer.status_code} {content.get('code')}): "
    raise RefusedImportError("\n".join([refusal + str(content.get("detail")), *errors]))
