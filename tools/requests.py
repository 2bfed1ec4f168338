"""What is asked of a running supervisor, as files in its home: it looks for them all the time.

It alone decides: two who ask at once do not see each other. What it refuses it says in a file.
"""

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


def ask(home: Home, request: Request) -> str:
    """Leave a request for the supervisor of a home; return the id to look for a refusal with."""
    home.requests.mkdir(parents=True, exist_ok=True)
    asked_as = uuid4().hex
    write_json(home.requests / f"{asked_as}.json", request._asdict())
    return asked_as


def take_requests(home: Home) -> dict[str, Request]:
    """Return by id what was asked since the last time, in no order."""
    found = {}
    for path in home.requests.glob("*.json"):
        asked = read_json(path)
        path.unlink(missing_ok=True)
        if asked is not None:
            found[path.stem] = Request(**asked)
    return found


def refuse(home: Home, asked_as: str, reason: str) -> None:
    """Tell who asked that it is not done, and why."""
    write_json(home.requests / f"{asked_as}.refused", {"reason": reason})


def refusal(home: Home, asked_as: str) -> str | None:
    """Return why a request was refused; None if it was not, or not yet looked at."""
    answer = read_json(home.requests / f"{asked_as}.refused")
    return None if answer is None else str(answer["reason"])


def forget_requests(home: Home) -> None:
    """Remove what was asked of a supervisor before this one, and its refusals."""
    for path in home.requests.glob("*"):
        path.unlink(missing_ok=True)
