"""``python -m stream_processors.merge``: a merge worker."""

import faust

from stream_processors.merge import telemetry
from stream_processors.merge.agent import LiveMerger
from stream_processors.merge.worker import create_app
from stream_processors.worker import Questions, run_process


def questions(_app: faust.App, live: LiveMerger) -> Questions:
    """Return what the probe answers beside the usual: nothing; its metrics are shown from here."""
    telemetry.show(lambda: live.merger)
    return {}


if __name__ == "__main__":
    run_process(create_app, questions)
