"""``python -m stream_processors.accumulate``: an accumulate worker."""

import sys

from prometheus_client import generate_latest

from schemas.probe import serve_probe
from stream_processors.accumulate import telemetry
from stream_processors.accumulate.worker import create_app
from stream_processors.settings import MissingSettingsError, WorkerSettings
from stream_processors.worker import run_worker


def main() -> None:
    """Run the worker until it is told to stop."""
    try:
        settings = WorkerSettings.from_environment()
        app, live = create_app(settings)
    except MissingSettingsError as error:
        sys.exit(str(error))
    telemetry.show(live)
    serve_probe(
        settings.probe_port,
        readiness=live.readiness,
        metrics=generate_latest,
        host=settings.bind,
    )
    run_worker(app)


if __name__ == "__main__":
    main()
