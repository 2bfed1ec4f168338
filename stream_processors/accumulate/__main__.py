"""``python -m stream_processors.accumulate``: an accumulate worker."""

import faust

from schemas.arrow import leave_pandas_out
from stream_processors.accumulate import telemetry
from stream_processors.accumulate.agent import LivePartitions
from stream_processors.accumulate.auditing import LiveAudit
from stream_processors.accumulate.preloading import preload_meanwhile
from stream_processors.accumulate.worker import create_app
from stream_processors.worker import Questions, run_process


def questions(app: faust.App, live: LivePartitions) -> Questions:
    """Return what the probe answers; the metrics of the state are shown from here on, too."""
    audit = LiveAudit(live.partitions, lambda: app.loop)
    telemetry.show(live, audit)
    return {"/audit": audit.answer}


if __name__ == "__main__":
    leave_pandas_out()
    preload_meanwhile()
    run_process(create_app, questions)
