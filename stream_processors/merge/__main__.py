"""``python -m stream_processors.merge``: a merge worker."""

import sys

from prometheus_client import generate_latest

from schemas.probe import serve_probe
from stream_processors.merge.worker import create_app
from stream_processors.settings import MissingSettingsError, WorkerSettings
from stream_processors.worker import run_worker


def main() -> None:
    """Run the worker until it is told to stop."""
    try:
        settings = WorkerSettings.from_environment()
    except MissingSettingsError as error:
        sys.exit(str(error))
    app, live = create_app(settings)
    serve_probe(
        settings.probe_port,
        readiness=live.readiness,
        metrics=generate_latest,
        host=settings.bind,
    )
    run_worker(app)


if __name__ == "__main__":
    main()
