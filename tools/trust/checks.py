"""What a protocol is, what it draws from, and what it finds."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from tools.trust.bands import EXACT, Band

Kind = Literal["promise", "control", "exact"]
"""``promise``: must hold of the product. ``control``: a known error that the harness must see.
``exact``: nothing is drawn that could be unlucky, so there is no second try."""


class UnavailableError(Exception):
    """Something that a part needs is not on this machine; the message says what."""


class Check(NamedTuple):
    """One number and where it must lie.

    Attributes:
        id: Protocol, case, measure: ``1.normal.reject_05``.
        name: The same in words.
        value: What was found.
        band: Where it must lie.
        replications: Simulated experiments behind it.
        kind: Why it is checked.
    """

    id: str
    name: str
    value: float
    band: Band
    replications: int
    kind: Kind = "promise"

    @property
    def passed(self) -> bool:
        """Return whether the value lies in its band."""
        return self.band.holds(self.value)


class Figure(NamedTuple):
    """A plot of the report.

    Attributes:
        id: Of its protocol, with a name: ``2.peeking``.
        kind: How it is drawn: ``lines`` or ``bars``.
        title: What it shows.
        x: Label of the horizontal axis.
        y: Label of the vertical one.
        at: Places on the horizontal axis.
        series: Label to values at these places; None where there is none.
        bands: Label to (low, high) at these places.
        note: What to see in it.
    """

    id: str
    kind: Literal["lines", "bars"]
    title: str
    x: str
    y: str
    at: list[float]
    series: dict[str, list[float | None]]
    bands: dict[str, tuple[list[float], list[float]]] | None = None
    note: str = ""


class Found(NamedTuple):
    """What a part of a protocol found."""

    checks: list[Check]
    figures: Sequence[Figure] = ()


class Trial:
    """What a part draws from.

    Attributes:
        rng: Its own stream of random numbers.
        scale: Share of the full sizes.
    """

    def __init__(self, rng: np.random.Generator, scale: float = 1.0) -> None:
        self.rng = rng
        self.scale = scale

    def size(self, full: int, *, least: int = 50) -> int:
        """Return how many replications to make where the protocol asks for ``full``."""
        return full if self.scale == 1 else max(least, min(full, round(full * self.scale)))


class Part(NamedTuple):
    """A piece of a protocol that runs by itself, in a process of its own.

    Attributes:
        name: Unique within the protocol.
        run: The work; a function of a module, so that it can be sent to a process.
        seconds: What it takes of one core at full size, about; for the progress bar.
    """

    name: str
    run: Callable[[Trial], Found]
    seconds: float = 1.0


class Protocol(NamedTuple):
    """One promise and how it is tried.

    Attributes:
        id: Its number.
        name: Of a few words.
        claim: One sentence: what is checked.
        method: One or two sentences: how, and in which band.
        parts: The work.
        not_run: Why it is not run, where it is not; None: it is.
        is_whole_stack: Whether it starts the stack, and needs the machine for itself.
    """

    id: str
    name: str
    claim: str
    method: str
    parts: Sequence[Part] = ()
    not_run: str | None = None
    is_whole_stack: bool = False


def share(flags: "np.ndarray[Any, Any] | Sequence[bool]") -> float:
    """Return the share of true ones."""
    return float(np.mean(np.asarray(flags, dtype=bool)))


def exactly_none(check_id: str, name: str, differences: int, replications: int) -> Check:
    """Return the check that there is no difference at all."""
    return Check(check_id, name, float(differences), EXACT, replications, "exact")
