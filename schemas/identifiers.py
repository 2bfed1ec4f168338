"""What may name a thing. Pure."""

import re

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

NAME_RULE = "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -"
EXTERNAL_ID_RULE = "must be 1 to 256 bytes of UTF-8 without control characters"


def is_name(text: str) -> bool:
    """Return whether ``text`` may name an experiment, variant, metric, segment, or unit type."""
    return _NAME.fullmatch(text) is not None


def is_external_id(text: str) -> bool:
    """Return whether ``text`` may be the id of a unit or an event: these belong to the client."""
    return (
        0 < len(text) <= 256
        and not _CONTROL.search(text)
        and len(text.encode("utf-8", "replace")) <= 256
    )
