"""The control log as a person reads it: which records count, and the times of their ticks.

The rule: the first record that is number ``last + 1``, starts at the command where its predecessor
ended and repeats its predecessor's times is the one; all others are void. Log time is the broker's
time of appending, never less than before and never more than a minute ahead of it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from schemas.control import Change, Settings, SettingsChange, Times, decode_record
from tools.torture.audit.findings import Findings

MINUTE_MS = 60_000
FORGOTTEN_AFTER_MS = 10 * MINUTE_MS
"""Beyond the lateness, before an id is forgotten."""

CHECK = "control"


class ControlMessage(NamedTuple):
    """A record of ``litmus.control`` as it stands there."""

    offset: int
    appended_ms: int
    value: bytes


class TickFacts(NamedTuple):
    """A tick of the control log.

    Attributes:
        number: From 1.
        times: Its three times.
        settings: In force from it on.
        changes: What takes effect with it.
    """

    number: int
    times: Times
    settings: Settings
    changes: list[Change]


class ControlLog(NamedTuple):
    """What the control log amounts to; tick n stands at place n - 1."""

    log_id: str
    ticks: list[TickFacts]


def read_control(messages: Iterable[ControlMessage], findings: Findings) -> ControlLog:
    """Return the ticks of the whole control log, from its first record on."""
    ticks: list[TickFacts] = []
    log_id, settings, commands_end = "", Settings(), 0
    times = Times(0, 0, 0)
    for message in messages:
        record = decode_record(message.value)
        is_next = record.number == len(ticks) + 1 and record.before == times
        follows = not ticks or (record.log_id == log_id and record.commands_from == commands_end)
        if not is_next or not follows or record.commands_to < record.commands_from:
            findings.count("control records that lost")
            continue
        for change in record.changes:
            if isinstance(change, SettingsChange):
                settings = change.settings
        if not ticks:
            log_id = record.log_id
        commands_end = record.commands_to
        times = _times_after(
            times, message.appended_ms, record.low_water_ms, settings, is_first=not ticks
        )
        shown = msgspec.structs.replace(settings, sources=[])
        ticks.append(TickFacts(record.number, times, shown, record.changes))
        findings.count(CHECK)
    return ControlLog(log_id, ticks)


def _times_after(
    before: Times, appended_ms: int, low_water_ms: int | None, settings: Settings, *, is_first: bool
) -> Times:
    log_ms = appended_ms
    if not is_first:
        log_ms = max(before.log_ms, min(appended_ms, before.log_ms + MINUTE_MS))
    seen_ms = log_ms if low_water_ms is None else min(log_ms, low_water_ms)
    settled_ms = max(before.settled_ms, seen_ms)
    # What was accepted while the lateness was longer is given as long to arrive as anything else.
    lateness_ms = settings.lateness_ms
    if log_ms < settings.lowered_until_ms:
        lateness_ms = max(lateness_ms, settings.lowered_from_ms)
    oldest_ms = settled_ms - lateness_ms - FORGOTTEN_AFTER_MS
    return Times(log_ms, settled_ms, max(before.horizon_ms, oldest_ms))
