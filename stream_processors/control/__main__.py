"""``python -m stream_processors.control``: the control worker."""

from stream_processors.control.worker import create_app
from stream_processors.worker import run_process

if __name__ == "__main__":
    run_process(create_app)
