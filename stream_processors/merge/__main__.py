"""``python -m stream_processors.merge``: a merge worker."""

from stream_processors.merge.worker import create_app
from stream_processors.worker import run_process

if __name__ == "__main__":
    run_process(create_app)
