"""Asks a running stack what its experiments measured."""

from typing import Any

import httpx

from query_api.measuring import Measured, NotMeasuredError, UnknownMetricError, read
from tools.errors import LitmusError

REQUEST_TIMEOUT_S = 20.0


def measure(query: str, experiment_id: str, metric_id: str | None) -> Measured:
    """Return what the present look of an experiment says.

    Args:
        query: Address of the query API.
        experiment_id: A running, paused or stopped experiment.
        metric_id: Which metric; without it the first that decides.

    Raises:
        LitmusError: If there is no such experiment or metric, or no numbers yet.
    """
    base = f"{query.rstrip('/')}/v1/experiments/{experiment_id}"
    with httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
        definition, results = _get(client, base), _get(client, f"{base}/results")
    try:
        return read(definition, results, metric_id)
    except NotMeasuredError as error:
        raise LitmusError(f"{error}: plan with --baseline meanwhile.") from error
    except UnknownMetricError as error:
        raise LitmusError(str(error)) from error


def _get(client: httpx.Client, url: str) -> dict[str, Any]:
    try:
        answer = client.get(url)
    except httpx.TransportError as error:
        raise LitmusError(f"{url} does not answer: {error or type(error).__name__}") from error
    found: dict[str, Any] = answer.json()
    if answer.status_code >= 300:
        raise LitmusError(f"{answer.status_code} {found.get('code')}: {found.get('detail')}")
    return found
