"""Runs parts of protocols in two processes; what misses a band gets one more try, on a new seed."""

import hashlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import NamedTuple

import numpy as np

from tools.trust.checks import Check, Found, Part, Protocol, Trial, UnavailableError

PROCESSES = 2
SECOND = 1
"""Number of the second try; it goes into the seed."""


class Judged(NamedTuple):
    """A check with its second try, if it needed one.

    Attributes:
        check: As first found.
        again: As found with another seed; None: there was no need, or nothing was drawn.
    """

    check: Check
    again: Check | None = None

    @property
    def passed(self) -> bool:
        """Return whether it held, at the latest the second time."""
        return self.check.passed or (self.again is not None and self.again.passed)


class Ran(NamedTuple):
    """A part that was run.

    Attributes:
        protocol: Whose part.
        part: Which.
        judged: Its checks.
        found: All that the last try found, for the figures.
        seconds: It took of one core.
        error: Why it broke off; empty: it did not.
        unavailable: Why it cannot be run on this machine; empty: it was run.
    """

    protocol: Protocol
    part: Part
    judged: list[Judged]
    found: Found
    seconds: float
    error: str = ""
    unavailable: str = ""

    @property
    def passed(self) -> bool:
        """Return whether all held."""
        broke_off = self.error or self.unavailable
        return not broke_off and all(bool(one.passed) for one in self.judged)


def rng_of(seed: int, protocol_id: str, part: str, attempt: int = 0) -> np.random.Generator:
    """Return a stream of random numbers that belongs to one part alone, whatever else runs."""
    name = int.from_bytes(hashlib.sha256(f"{protocol_id}/{part}".encode()).digest()[:8])
    return np.random.default_rng(np.random.SeedSequence([seed, attempt, name]))


def run_part(protocol: Protocol, part: Part, *, seed: int, scale: float) -> Ran:
    """Run a part, twice if something that was drawn missed its band."""
    began = time.process_time()
    found = part.run(Trial(rng_of(seed, protocol.id, part.name), scale))
    judged = [Judged(check) for check in found.checks]
    if any(not one.passed and one.check.kind != "exact" for one in judged):
        again = part.run(Trial(rng_of(seed, protocol.id, part.name, SECOND), scale))
        second = {check.id: check for check in again.checks}
        judged = [
            one
            if one.passed or one.check.kind == "exact"
            else Judged(one.check, second.get(one.check.id))
            for one in judged
        ]
    return Ran(protocol, part, judged, found, time.process_time() - began)


def run_all(
    protocols: Sequence[Protocol],
    *,
    seed: int,
    scale: float,
    processes: int = PROCESSES,
    started: Callable[[Protocol, Part], None] = lambda _protocol, _part: None,
) -> Iterator[Ran]:
    """Yield parts as they end: simulations side by side, then what needs the machine alone."""
    together = [(one, part) for one in protocols if not one.is_whole_stack for part in one.parts]
    alone = [(one, part) for one in protocols if one.is_whole_stack for part in one.parts]
    # The longest first, or the last process works alone at the end.
    together.sort(key=lambda pair: -pair[1].seconds)
    yield from _side_by_side(together, seed=seed, scale=scale, processes=processes)
    for protocol, part in alone:
        started(protocol, part)
        yield _guarded(protocol, part, seed, scale)


def _side_by_side(
    work: list[tuple[Protocol, Part]], *, seed: int, scale: float, processes: int
) -> Iterator[Ran]:
    if not work:
        return
    # Not forked: the parent has threads that draw the progress.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running: set[Future[Ran]] = {
            pool.submit(_guarded, protocol, part, seed, scale) for protocol, part in work
        }
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _guarded(protocol: Protocol, part: Part, seed: int, scale: float) -> Ran:
    """Run a part; what breaks it is a failure of that part, not of the suite."""
    began = time.process_time()
    try:
        return run_part(protocol, part, seed=seed, scale=scale)
    except UnavailableError as error:
        return Ran(protocol, part, [], Found([]), 0.0, unavailable=str(error))
    except Exception as error:  # noqa: BLE001  # reported as the part's failure
        reason = f"{type(error).__name__}: {error}"
        return Ran(protocol, part, [], Found([]), time.process_time() - began, reason)
