"""What is asked of a running supervisor, as files in its home: it looks for them all the time."""

from typing import Literal, NamedTuple
from uuid import uuid4

from tools.home import Home, read_json, write_json


class Request(NamedTuple):
    """Something to be done.

    Attributes:
        action: ``add`` starts an accumulate worker, ``drain`` lets one leave for good.
        name: Of the worker.
    """

    action: Literal["add", "drain"]
    name: str


def ask(home: Home, request: Request) -> None:
    """Leave a request for the supervisor of a home."""
    home.requests.mkdir(parents=True, exist_ok=True)
    write_json(home.requests / f"{uuid4().hex}.json", request._asdict())


def take_requests(home: Home) -> list[Request]:
    """Return what was asked since the last time, in no order."""
    found = []
    for path in home.requests.glob("*.json"):
        asked = read_json(path)
        path.unlink(missing_ok=True)
        if asked is not None:
            found.append(Request(**asked))
    return found
