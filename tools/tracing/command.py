"""``litmus trace UNIT EVENT``: reads the log, asks the query API, tells the story."""

import json
import sys
from typing import Any

from rich.console import Console

from tools.tracing.asking import QueryApi
from tools.tracing.explaining import Story, as_json, explain
from tools.tracing.reading import LogScanner
from tools.tracing.rows import Unit
from tools.tracing.telling import tell

Json = dict[str, Any]

UNSEEN = ("not_tracked", "not_running")
"""Outcomes that no look shows anything of."""


def trace(
    bootstrap: str, query_url: str | None, unit: Unit, event_id: str, *, as_machine: bool
) -> bool:
    """Print what became of an event; return whether there is any trace of it.

    Args:
        bootstrap: Address of the broker.
        query_url: Address of the query API; None: none is known.
        unit: Whose event.
        event_id: Which.
        as_machine: Print JSON instead of the story.

    Raises:
        tools.errors.LitmusError: If the broker does not answer.
    """
    progress = Console(stderr=True) if sys.stderr.isatty() else None
    found = follow(LogScanner(bootstrap, progress), QueryApi(query_url), unit, event_id)
    if as_machine:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(tell(found)))
    return bool(found["found"] or found["late"] or found["dead_letters"])


def follow(scanner: LogScanner, api: QueryApi, unit: Unit, event_id: str) -> Json:
    """Return all that is known of an event."""
    event_hash = unit.event_hash(event_id)
    partition, log = scanner.read_unit(unit)
    story = explain(log, event_hash)
    found = {
        "event_id": event_id,
        "unit": {
            "unit_type": unit.unit_type,
            "unit_id": unit.unit_id,
            "partition": partition,
        },
        **as_json(story),
        "late": scanner.read_late(unit, event_hash),
        "dead_letters": scanner.read_dead_letters(unit, event_id),
    }
    _add_looks(found, story, api)
    found["clickhouse"] = api.stored_rows(unit.unit_type, unit.unit_id, event_id)
    found["query_api_failure"] = api.failure
    found["searched"] = {
        "partitions": [one._asdict() for one in scanner.searched],
        "rows": log.row_count,
        "unit_rows": len(log.rows),
        "event_ids": list(dict.fromkeys(row.event.event_id for row in log.rows))[-1_000:],
        "tick": log.tick,
        "other_types": [] if log.rows else sorted(log.other_types),
        "door_backlog": {} if story.occurrences else scanner.door_backlog(),
    }
    return found


def _add_looks(found: Json, story: Story, api: QueryApi) -> None:
    fresh = story.fresh
    if fresh is None:
        return
    for one in found["experiments"]:
        if one["outcome"] in UNSEEN:
            continue
        one["first_look"] = api.first_look(one["experiment_id"], fresh.tick_after)
