"""Ends a worker whose consumer group has failed for good.

aiokafka hands such an error (another process of the same instance id, a group of another protocol,
no authorisation) to whoever asks for messages next. While it rebalances Faust does not ask: it
would sit there without partitions for ever. A process that ends is started again.
"""

from typing import Any

import faust
import mode

CHECK_INTERVAL_S = 1.0
CHECKS_MAX = 3
"""An error that is still there after so many checks has found nobody to take it."""


_WAY_TO_COORDINATOR = ("_consumer", "_thread", "_consumer", "_coordinator")


class GroupFailedError(Exception):
    """This process is no member of its consumer group and does not become one by waiting."""


class GroupWatch(mode.Service):
    """Watches the consumer group of ``app``; runs beside it."""

    def __init__(self, app: faust.App, **options: Any) -> None:
        self._watched = app
        super().__init__(**options)

    @mode.Service.task  # type: ignore[untyped-decorator]
    async def _watch(self) -> None:
        checks = 0
        while not self.should_stop:
            await self.sleep(CHECK_INTERVAL_S)
            error = _group_error(self._watched)
            checks = checks + 1 if error is not None else 0
            if checks == CHECKS_MAX:
                raise GroupFailedError(f"left without a consumer group: {error!r}")


def _group_error(app: faust.App) -> object | None:
    coordinator: Any = app
    for name in _WAY_TO_COORDINATOR:
        coordinator = getattr(coordinator, name, None)
    if coordinator is None or app.should_stop:
        return None
    if coordinator._coordination_task.done():  # noqa: SLF001  # there is no public way
        return "its coordination has ended"
    pending: object | None = coordinator._pending_exception  # noqa: SLF001
    return pending
