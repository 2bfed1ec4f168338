"""Everything that the gateway can refuse: single events, and whole requests.

GatewayError
    MalformedBodyError           400  sending it again will not help
    BodyTooLargeError            413  send less at a time
        TooManyEventsError       413  send fewer at a time
    UnsupportedMediaTypeError    415  send JSON or NDJSON
        UnsupportedEncodingError 415  send it plain, as gzip or as zstd
    NoEventAcceptedError         422  sending it again will not help
    UnavailableError             503  send it again, with the same event ids
        SinkUnavailableError     503  the log did not take the events
            NotSentError         503  they were not even sent
        QueueFullError           503  too much is on its way to the log
        ViewUnavailableError     503  the doors do not know yet what is running
        DeadLettersFullError     503  send it again without the events that are refused
        SettledBehindError       503  a Kafka door, or control, has been down for too long
        ClockSkewedError         503  this gateway's clock is not that of the log
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar

import msgspec


class RejectionCode(StrEnum):
    """Why an event was refused: part of the public API, and the ``code`` label of its metric."""

    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknown_type"
    EVENT_ID_MISSING = "event_id_missing"
    UNKNOWN_EXPERIMENT = "unknown_experiment"
    UNKNOWN_VARIANT = "unknown_variant"
    EXPERIMENT_NOT_RUNNING = "experiment_not_running"
    TIMESTAMP_AHEAD = "timestamp_ahead"
    VALUE_NOT_FINITE = "value_not_finite"
    VALUE_OUT_OF_RANGE = "value_out_of_range"
    ID_INVALID = "id_invalid"
    TOO_LARGE = "too_large"


CONTROL_CODES = frozenset(
    {
        RejectionCode.UNKNOWN_EXPERIMENT,
        RejectionCode.UNKNOWN_VARIANT,
        RejectionCode.EXPERIMENT_NOT_RUNNING,
    }
)
"""Refusals that a newer view of the control log might turn into acceptance."""


class Rejection(msgspec.Struct, frozen=True):
    """One refused event of a request.

    Attributes:
        index: Its place in the request, from 0; blank lines of NDJSON have none.
        code: Why, for a program.
        field: Which field; None when it is the event as a whole.
        message: Why, for a person: the field, its value and the rule.
    """

    index: int
    code: RejectionCode
    field: str | None
    message: str


class GatewayError(Exception):
    """A refused request.

    Attributes:
        status: HTTP status.
        code: Part of the public API, like the status.
        title: What went wrong, the same for every request with this code.
        rejected: Its refused events, when the request got as far as that.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, rejected: Sequence[Rejection] = ()) -> None:
        super().__init__(detail)
        self.rejected = rejected


class MalformedBodyError(GatewayError):
    """The body cannot be told apart into events; nothing of it was accepted."""

    status = 400
    code = "malformed_body"
    title = "The body cannot be split into events"


class BodyTooLargeError(GatewayError):
    """The body has more bytes than the gateway takes."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"


class TooManyEventsError(BodyTooLargeError):
    """The body has more events than the gateway takes at once."""

    code = "too_many_events"
    title = "The body holds too many events"


class UnsupportedMediaTypeError(GatewayError):
    """The body says that it is something other than JSON or NDJSON."""

    status = 415
    code = "unsupported_media_type"
    title = "The body is neither JSON nor NDJSON"


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The body is compressed in a way that the gateway does not read."""

    code = "unsupported_encoding"
    title = "The body is compressed in an unknown way"


class NoEventAcceptedError(GatewayError):
    """No event of the request was accepted, and none was late."""

    status = 422
    code = "no_event_accepted"
    title = "No event was accepted"


class UnavailableError(GatewayError):
    """The gateway cannot do it now. Sending the same request again is safe.

    Attributes:
        retry_after_s: When to send it again.
    """

    status = 503
    code = "unavailable"
    title = "Not available now"
    retry_after_s: ClassVar[int] = 1


class SinkUnavailableError(UnavailableError):
    """The events are not durable: the log did not acknowledge them."""

    code = "sink_unavailable"
    title = "The log did not take the events"


class NotSentError(SinkUnavailableError):
    """Nothing of the request was sent to the log, so nothing of it can land later."""


class QueueFullError(UnavailableError):
    """Too much is on its way to the log already; nothing of the request was taken."""

    code = "queue_full"
    title = "Too much is on its way to the log"


class DeadLettersFullError(UnavailableError):
    """So much was refused within an hour that no more can be set aside; nothing was taken."""

    code = "dead_letters_full"
    title = "Too much was refused within an hour"
    retry_after_s = 60


class SettledBehindError(UnavailableError):
    """Settled time lags so far that what is known of past events no longer fits."""

    code = "settled_behind"
    title = "Settled time is too far behind"
    retry_after_s = 30


class ClockSkewedError(UnavailableError):
    """Clocks are so far apart that what is accepted here might not count there."""

    code = "clock_skewed"
    title = "The clocks of this gateway and of the log differ"
    retry_after_s = 5


class ViewUnavailableError(UnavailableError):
    """The door's view of experiments could not be brought up to date."""

    code = "view_unavailable"
    title = "The experiments are not known yet"
