"""An event as the doors admit it: every default filled in, every rule kept."""

import msgspec

from schemas.batch import KIND_ASSIGNMENT, KIND_METRIC

__all__ = ["KIND_ASSIGNMENT", "KIND_METRIC", "Admitted"]


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """One admitted event, a row of a packed batch.

    Attributes:
        kind: ``KIND_ASSIGNMENT`` or ``KIND_METRIC``.
        experiment_id: None for a metric event that counts for every experiment.
        variant: None unless it is an assignment.
        metric: None unless it is a metric event.
        attributes: Canonical JSON of an object, None when there are none.
        value: As sent; 0 for an assignment.
        timestamp_ms: The event's own time, or that of receipt.
        timestamp_given: Whether it was the event's own.
        received_at_ms: When a door took it.
        allocation_version: Which allocation decided the variant, where the client knows.
    """

    kind: int
    unit_type: str
    unit_id: str
    event_id: str
    experiment_id: str | None
    variant: str | None
    metric: str | None
    attributes: str | None
    value: float
    timestamp_ms: int
    timestamp_given: bool
    received_at_ms: int
    allocation_version: int | None
