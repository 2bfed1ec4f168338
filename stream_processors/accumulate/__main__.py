"""``python -m stream_processors.accumulate``: an accumulate worker."""

import faust

from stream_processors.accumulate import telemetry
from stream_processors.accumulate.agent import LivePartitions
from stream_processors.accumulate.worker import create_app
from stream_processors.settings import WorkerSettings
from stream_processors.worker import run_process


def create_shown_app(settings: WorkerSettings) -> tuple[faust.App, LivePartitions]:
    """Return the app, with metrics of its state for the probe to show."""
    app, live = create_app(settings)
    telemetry.show(live)
    return app, live


if __name__ == "__main__":
    run_process(create_shown_app)
