"""A/A experiments through the whole stack: real doors, real hashing, real looks. Protocol 14."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, NamedTuple

import httpx
import numpy as np
from rich.console import Console
from scipy import stats

from schemas.times import format_time_ms
from stream_processors.stats.multiplicity import adjust_p_values
from tools.errors import LitmusError, NotRunningError
from tools.ports import free_ports
from tools.settings import SHARED, Settings
from tools.stack import start_detached, stop_stack
from tools.trust.bands import distance_from_uniform, uniform_distance
from tools.trust.checks import (
    Check,
    Found,
    Part,
    Protocol,
    Trial,
    UnavailableError,
    exactly_none,
)
from tools.trust.laws import Rng
from tools.trust.uniformity import uniform

HOME = SHARED / "trust"
EXPERIMENTS = 200
UNITS = 2_000
PAIRS = 50
PAIR_LEVEL = 0.01
EVENTS_A_POST = 5_000
SECONDS_MAX = 300.0
AGO_MS = 240_000
"""Units entered so long ago: a minute's window is over when the first look comes."""

METRICS: list[dict[str, Any]] = [
    {"id": "converted", "kind": "conversion", "event": "purchase"},
    {"id": "views", "kind": "count", "event": "view"},
    {"id": "revenue", "kind": "sum", "event": "purchase", "precision": 2},
    {"id": "seconds", "kind": "sum", "event": "view", "precision": 2},
    {
        "id": "value",
        "kind": "ratio",
        "numerator": "purchase",
        "denominator": "view",
        "precision": 2,
    },
]


class Decided(NamedTuple):
    """What the gateway decided.

    Attributes:
        units: Ids.
        variants: By experiment id, the variant of every unit.
    """

    units: list[str]
    variants: dict[str, list[str]]


def aa_end_to_end(trial: Trial) -> Found:
    """Run 200 A/A experiments on one population, from HTTP to the published looks.

    Raises:
        UnavailableError: If the stack cannot be started here.
    """
    experiments = trial.size(EXPERIMENTS, least=20)
    units = trial.size(UNITS, least=400)
    with _stack() as (gateway, query):
        ids = [f"aa-{number:03}" for number in range(experiments)]
        now_ms = time.time_ns() // 1_000_000
        _create(gateway, ids, now_ms - AGO_MS - 60_000)
        decided = _decide(gateway, ids, [f"u{number}" for number in range(units)])
        log = _post(gateway, _events(trial.rng, decided, now_ms - AGO_MS))
        results = _await_looks(query, ids, units, log)
    return Found(*_judged(decided, results))


def _judged(decided: Decided, results: dict[str, dict[str, Any]]) -> tuple[list[Check], list[Any]]:
    count = len(results)
    by_metric: dict[str, list[float]] = {one["id"]: [] for one in METRICS}
    miscounted = 0
    for experiment_id, found in results.items():
        variants = decided.variants[experiment_id]
        miscounted += sum(
            one["units"] != variants.count(one["variant"]) for one in found["variants"]
        )
        for metric in found["metrics"]:
            if metric["basis"] == "matured":
                fixed = metric["effects"][0]["absolute"]["fixed_horizon"]
                by_metric[metric["metric_id"]].append(fixed["p_value"])
    everything = [p for p_values in by_metric.values() for p in p_values]
    checks = [
        exactly_none(
            "14.units",
            "variants whose published units are not those that the gateway decided",
            miscounted,
            2 * count,
        ),
        Check(
            "14.all.ks",
            f"{len(everything)} p-values of {count} experiments: distance from uniform",
            distance_from_uniform(everything),
            uniform_distance(len(everything)),
            len(everything),
        ),
    ]
    checks += [
        Check(
            f"14.{metric_id}.ks",
            f"{metric_id}, one p-value an experiment: distance from uniform",
            distance_from_uniform(p_values),
            uniform_distance(len(p_values)),
            len(p_values),
        )
        for metric_id, p_values in by_metric.items()
    ]
    checks.append(_independence(decided))
    figure = uniform("14.all", "1,000 p-values through the whole stack", np.array(everything))
    return checks, list(figure.figures)


def _independence(decided: Decided) -> Check:
    """Return the check that being in a variant of one experiment says nothing of another."""
    ids = list(decided.variants)
    p_values = []
    for number in range(PAIRS):
        # Neighbours, and experiments ever farther apart.
        one = ids[number % len(ids)]
        other = ids[(number * (1 + number % 7) + 1 + number % len(ids)) % len(ids)]
        if one == other:
            other = ids[(ids.index(one) + 1) % len(ids)]
        table = np.zeros((2, 2))
        for pair in zip(decided.variants[one], decided.variants[other], strict=True):
            table[tuple(int(variant == "b") for variant in pair)] += 1
        p_values.append(float(stats.chi2_contingency(table, correction=False).pvalue))
    adjusted = adjust_p_values(p_values, procedure="benjamini_hochberg", alpha=PAIR_LEVEL)
    return exactly_none(
        "14.hash",
        f"pairs of experiments, of {PAIRS}, whose variants hang together (χ², BH at {PAIR_LEVEL})",
        sum(adjusted.rejects),
        len(decided.units),
    )


def _create(gateway: httpx.Client, ids: Sequence[str], from_ms: int) -> None:
    metrics = [one | {"window": "1m"} for one in METRICS]
    for experiment_id in ids:
        body = {"id": experiment_id, "variants": [{"id": "a"}, {"id": "b"}], "metrics": metrics}
        _answer(gateway.post("/v1/experiments", json=body))
        start = {"at": format_time_ms(from_ms)}
        _answer(gateway.post(f"/v1/experiments/{experiment_id}/start", json=start))


def _decide(gateway: httpx.Client, ids: Sequence[str], units: list[str]) -> Decided:
    variants: dict[str, list[str]] = {one: [] for one in ids}
    for unit in units:
        asked = {"unit_id": unit, "experiment_ids": list(ids)}
        for one in _answer(gateway.post("/v1/decisions", json=asked))["decisions"]:
            if one["variant"] is None:
                raise LitmusError(f"{one['experiment_id']} has no variant for {unit}: {one}")
            variants[one["experiment_id"]].append(one["variant"])
    return Decided(units, variants)


def _events(rng: Rng, decided: Decided, entry_ms: int) -> Iterator[dict[str, Any]]:
    """Yield every assignment, and what the units do, whatever variants they are in."""
    for experiment_id, variants in decided.variants.items():
        for unit, variant in zip(decided.units, variants, strict=True):
            yield {
                "type": "assignment",
                "event_id": f"a-{experiment_id}",
                "experiment_id": experiment_id,
                "unit_id": unit,
                "variant": variant,
                "timestamp": entry_ms,
            }
    for unit in decided.units:
        for number in range(1 + int(rng.poisson(3))):
            yield _measured(unit, f"v{number}", "view", float(rng.gamma(2.0, 20.0)), entry_ms)
        for number in range(int(rng.poisson(0.4))):
            value = float(rng.lognormal(3.0, 1.0))
            yield _measured(unit, f"p{number}", "purchase", value, entry_ms)


def _measured(unit: str, event_id: str, metric: str, value: float, entry_ms: int) -> dict[str, Any]:
    return {
        "type": "metric",
        "event_id": event_id,
        "unit_id": unit,
        "metric": metric,
        "value": round(value, 2),
        "timestamp": entry_ms + 1_000,
    }


def _post(gateway: httpx.Client, events: Iterator[dict[str, Any]]) -> dict[str, int]:
    """Post events; return the offset from which a look holds them all, by partition."""
    log: dict[str, int] = {}
    while some := list(islice(events, EVENTS_A_POST)):
        body = "\n".join(json.dumps(one) for one in some).encode()
        answer = _answer(
            gateway.post(
                "/v1/events", content=body, headers={"Content-Type": "application/x-ndjson"}
            )
        )
        if answer["accepted"] != len(some):
            raise LitmusError(f"{answer['accepted']} of {len(some)} accepted: {answer}")
        log |= {place: max(offset, log.get(place, 0)) for place, offset in answer["log"].items()}
    return log


def _await_looks(
    query: httpx.Client, ids: Sequence[str], units: int, log: dict[str, int]
) -> dict[str, dict[str, Any]]:
    """Return the results of every experiment as of a look that holds everything.

    Raises:
        LitmusError: If that takes too long.
    """
    deadline = time.monotonic() + SECONDS_MAX
    found: dict[str, dict[str, Any]] = {}
    while len(found) < len(ids):
        for experiment_id in ids:
            if experiment_id in found:
                continue
            answer = query.get(f"/v1/experiments/{experiment_id}/results")
            if answer.status_code == 200 and _is_complete(answer.json(), units, log):
                found[experiment_id] = answer.json()
        if time.monotonic() > deadline:
            raise LitmusError(f"{len(ids) - len(found)} experiments have no complete look")
        time.sleep(0.5)
    return found


def _is_complete(results: dict[str, Any], units: int, log: dict[str, int]) -> bool:
    offsets = results["look"]["offsets"]
    if any(offsets.get(place, 0) <= offset for place, offset in log.items()):
        return False
    return all(
        sum(one["units"] for one in metric["variants"]) == units for metric in results["metrics"]
    )


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.status_code >= 300:
        raise LitmusError(f"{response.request.url}: {response.status_code} {response.text[:400]}")
    answer: dict[str, Any] = response.json()
    return answer


@contextmanager
def _stack() -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Run a fresh stack in a home of its own; clients of its gateway and its query API.

    Raises:
        UnavailableError: If it does not start.
    """
    gateway_port, query_port = free_ports(2)
    settings = Settings(
        home=HOME,
        kafka=None,
        clickhouse=None,
        gateway_port=gateway_port,
        query_port=query_port,
        bind="127.0.0.1",
        lateness="1h",
    )
    with suppress(NotRunningError):
        stop_stack(settings)
    shutil.rmtree(HOME, ignore_errors=True)
    try:
        described = start_detached(settings, [], Console(quiet=True))
    except LitmusError as error:
        raise UnavailableError(f"the stack does not start on this machine: {error}") from error
    try:
        with (
            httpx.Client(base_url=described["gateway"], timeout=60, trust_env=False) as gateway,
            httpx.Client(base_url=described["query"], timeout=60, trust_env=False) as query,
        ):
            yield gateway, query
    finally:
        stop_stack(settings)
        shutil.rmtree(HOME, ignore_errors=True)


END_TO_END = Protocol(
    "14",
    "A/A end to end",
    "Through real doors, real hashing and published looks, experiments in which nothing happens "
    "have uniform p-values, and experiments on the same units know nothing of each other.",
    "200 experiments with five metrics on one population of 2,000 units; p-values of one metric "
    "are independent between experiments; 99.9 % bands.",
    [Part("whole_stack", aa_end_to_end, 120.0)],
    is_whole_stack=True,
)
