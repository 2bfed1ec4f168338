"""Compiles the kernels of validation and packing before the first event comes."""

from ingest_gateway.packer import pack
from ingest_gateway.validator import BodyForm, admit
from schemas.control import ControlState

_METRIC = b'{"type":"metric","event_id":"e","unit_id":"u","metric":"m","timestamp":'


def compile_kernels() -> None:
    """Take events of every form through validation and packing; nothing is kept of them."""
    now_ms = 1_700_000_000_000
    numbered = _METRIC + b"1700000000000}"
    written = _METRIC + b'"2023-11-14T22:13:20Z"}'
    broken = b'{"type":"metric","type":"metric"}'
    array = b"[" + b",".join([numbered, written, broken]) + b"]"
    lines = b"\n".join([numbered, written, broken])
    for body, form in ((array, BodyForm.JSON), (numbered, BodyForm.JSON), (lines, BodyForm.NDJSON)):
        admission = admit(body, form=form, received_at_ms=now_ms, control=ControlState())
        pack(admission.accepted, partition_count=8, door="warm-up")
