"""An operator who sends commands one by one to the fold, and what they send."""

from typing import Any

import msgspec

from schemas.control import Change, Command, ControlState, Outcome, Settings
from schemas.definitions import Definition
from stream_processors.control.commands import Folded, Received, fold

HOUR_MS = 3_600_000
NOW_MS = 1_795_000_000_000
BODY: dict[str, Any] = {
    "id": "x",
    "variants": [{"id": "a", "weight": 1}, {"id": "b", "weight": 1}, {"id": "c", "weight": 1}],
    "metrics": [{"id": "m", "kind": "count"}],
    "coverage": 0.5,
}


class Operator:
    """Sends commands one by one, each a second after the one before."""

    def __init__(self) -> None:
        self.state = ControlState(settings=Settings(lateness_ms=HOUR_MS))
        self.answered: dict[str, Outcome] = {}
        self.offset = 0
        self.changes: list[Change] = []

    @property
    def now_ms(self) -> int:
        return NOW_MS + 1_000 * self.offset

    @property
    def x(self) -> Definition:
        return self.state.definitions["x"]

    def send(
        self,
        action: str,
        experiment_id: str = "x",
        expected_version: int | None = None,
        command_id: str = "",
        **body: Any,
    ) -> Outcome:
        command = Command(
            command_id or f"c{self.offset}", action, experiment_id, expected_version, body
        )
        (outcome,) = self.fold(msgspec.json.encode(command)).outcomes
        return outcome

    def fold(self, value: bytes) -> Folded:
        folded = fold(
            self.state,
            [Received(self.offset, self.now_ms, value)],
            tick=self.offset + 1,
            from_offset=self.offset,
            answered=self.answered,
        )
        assert folded.next_offset == self.offset + 1
        self.offset += 1
        self.state = self.state.after(folded.changes)
        self.changes = folded.changes
        self.answered |= {outcome.command_id: outcome for outcome in folded.outcomes}
        return folded
