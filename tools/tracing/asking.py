"""What the query API adds to a trace: the first look that holds the event, and ClickHouse's row."""

from typing import Any

import httpx

Json = dict[str, Any]

ANSWER_S = 15.0


class QueryApi:
    """Asks a query API; one that does not answer costs its part of the story only.

    Attributes:
        failure: Why it could not be asked last; None: it answered.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self.failure = None if address else "no stack runs from this home"

    def first_look(self, experiment_id: str, tick: int | None) -> Json | None:
        """Return the first look of an experiment at or after a tick; None: there is none yet."""
        if tick is None:
            return None
        query = {"from_tick": tick, "limit": 1}
        answer = self._get(f"/v1/experiments/{experiment_id}/looks", query)
        looks: list[Json] = answer["looks"] if answer else []
        return looks[0] if looks else None

    def stored_rows(self, unit_type: str, unit_id: str, event_id: str) -> Json | None:
        """Return what the history holds of an event; None: it could not be asked."""
        query = {"unit_type": unit_type, "unit_id": unit_id, "event_id": event_id}
        return self._get("/v1/history/rows", query)

    def _get(self, path: str, query: Json) -> Json | None:
        if self._address is None:
            return None
        try:
            answer = httpx.get(self._address + path, params=query, timeout=ANSWER_S)
        except httpx.HTTPError as error:
            self.failure = f"{self._address} does not answer: {error}"
            return None
        if answer.status_code == httpx.codes.OK:
            found: Json = answer.json()
            return found
        if answer.status_code != httpx.codes.NOT_FOUND:
            self.failure = f"{path} says {answer.status_code}: {answer.text[:200]}"
        return None
