"""Decisions: which variant a unit gets, and why none. Pure, from memory.

A decision is a function of the definition and the unit alone, so it is the same in every process
and after every restart. It becomes an assignment only when it is logged.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from schemas.control import ControlState
from schemas.decisions import decide_variant
from schemas.definitions import Definition


class DecisionReason(StrEnum):
    """Why a decision is what it is: part of the public API."""

    ASSIGNED = "assigned"
    NOT_COVERED = "not_covered"
    NOT_RUNNING = "not_running"
    UNKNOWN_EXPERIMENT = "unknown_experiment"
    WRONG_UNIT_TYPE = "wrong_unit_type"


class Decision(NamedTuple):
    """What one experiment decided for a unit.

    Attributes:
        experiment_id: The experiment.
        variant: The variant; None when the unit is not in it.
        reason: Why.
        propensity: Probability with which a covered unit gets this variant.
        allocation_version: Which allocation decided; None while weights are fixed.
    """

    experiment_id: str
    variant: str | None
    reason: DecisionReason
    propensity: float | None = None
    allocation_version: int | None = None


def decide(
    control: ControlState,
    experiment_ids: Iterable[str] | None,
    *,
    unit_type: str,
    unit_id: str,
    now_ms: int,
) -> list[Decision]:
    """Return a decision for each of ``experiment_ids``, in their order.

    None stands for every experiment that runs now on units of this type.
    """
    if experiment_ids is None:
        running = (
            definition.id
            for definition in sorted(control.definitions.values(), key=lambda one: one.ordinal)
            if definition.unit_type == unit_type and definition.counts_at(now_ms)
        )
        experiment_ids = list(running)
    return [
        _decide(control.definitions.get(one), one, unit_type, unit_id, now_ms)
        for one in experiment_ids
    ]


def decision_event_id(experiment_id: str, unit_type: str, unit_id: str, variant: str) -> str:
    """Return the id of the assignment event that logs a decision.

    It is the same however often the decision is logged, so that within the horizon only the
    first one counts, and later ones change nothing: the first assignment by time decides.
    """
    content = f"{experiment_id}\x00{unit_type}\x00{unit_id}\x00{variant}".encode()
    return "decision:" + hashlib.blake2b(content, digest_size=16).hexdigest()


def _decide(
    definition: Definition | None, experiment_id: str, unit_type: str, unit_id: str, now_ms: int
) -> Decision:
    if definition is None:
        return Decision(experiment_id, None, DecisionReason.UNKNOWN_EXPERIMENT)
    if definition.unit_type != unit_type:
        return Decision(experiment_id, None, DecisionReason.WRONG_UNIT_TYPE)
    if not definition.counts_at(now_ms):
        return Decision(experiment_id, None, DecisionReason.NOT_RUNNING)
    variant_id = decide_variant(definition, unit_id)
    if variant_id is None:
        return Decision(experiment_id, None, DecisionReason.NOT_COVERED)
    weight = next(one.weight for one in definition.variants if one.id == variant_id)
    return Decision(experiment_id, variant_id, DecisionReason.ASSIGNED, weight)
