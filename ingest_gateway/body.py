"""A request's body, from the wire to plain bytes: what it is, and never more than fits."""

import zlib
from collections.abc import AsyncIterable

import zstandard

from ingest_gateway.errors import (
    BodyTooLargeError,
    MalformedBodyError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
)
from ingest_gateway.room import Held
from ingest_gateway.splitting import BodyForm

RECEIVED_BYTES_MAX = 4_000_000
"""Of a body as it comes, compressed or not."""

BODY_BYTES_MAX = 16_000_000
"""Of a body once it is decompressed."""

RATIO_MAX = 200
SMALL_BYTES_MAX = 1_000_000
"""A body that grows beyond the latter may be so many times what was received."""

_FORMS = {
    "application/json": BodyForm.JSON,
    "application/x-ndjson": BodyForm.NDJSON,
    "application/ndjson": BodyForm.NDJSON,
}
_GZIP_WITH_HEADER = 31
_MEMBERS_MAX = 64
"""Members of gzip, frames of zstd: each costs time, however little it holds."""

_ZSTD_WINDOW_BYTES_MAX = 1 << 23
_ZSTD_PIECE_BYTES = 256
"""The library does not limit what one call returns: 4 bytes may become 128 kB, this many 8 MB."""


def form_of(content_type: str | None) -> BodyForm:
    """Return how a body of that ``Content-Type`` holds its events.

    It has to be given: a page of another origin may post without one, unasked.

    Raises:
        UnsupportedMediaTypeError: If it is missing or another one.
    """
    media_type, *parameters = (content_type or "").split(";")
    form = _FORMS.get(media_type.strip().lower())
    if form is None:
        rule = f"must be one of {', '.join(_FORMS)}"
        raise UnsupportedMediaTypeError(f"Content-Type == {content_type!r}, {rule}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in ("utf-8", "utf8"):
            raise UnsupportedMediaTypeError(f"charset == {charset!r}, must be utf-8")
    return form


async def read_body(
    chunks: AsyncIterable[bytes], content_encoding: str | None, held: Held
) -> bytes:
    """Return the plain body of a request; stops reading once it is too large.

    Args:
        chunks: The body as it comes.
        content_encoding: How it is compressed.
        held: What the request takes up in memory.

    Raises:
        QueueFullError: If there is no room for it now.
        BodyTooLargeError: If it has too many bytes, as received or decompressed.
        UnsupportedEncodingError: If it is compressed in another way than gzip or zstd.
        MalformedBodyError: If it cannot be decompressed.
    """
    received = bytearray()
    async for chunk in chunks:
        held.grow(len(chunk))
        received += chunk
        if len(received) > RECEIVED_BYTES_MAX:
            raise BodyTooLargeError(f"body > {RECEIVED_BYTES_MAX} bytes, must be that at most")
    plain = decompress(bytes(received), content_encoding)
    held.grow(len(plain))
    return plain


def decompress(received: bytes, content_encoding: str | None) -> bytes:
    """Return a body as it was before ``Content-Encoding``.

    Raises:
        BodyTooLargeError: If it grows too large; it is not grown any further.
        UnsupportedEncodingError: If the encoding is none of identity, gzip, zstd.
        MalformedBodyError: If it is not what the encoding says, or cut off.
    """
    encoding = (content_encoding or "identity").strip().lower()
    if encoding == "identity":
        return received
    if encoding in ("gzip", "x-gzip"):
        return _gunzip(received)
    if encoding == "zstd":
        return _unzstd(received)
    raise UnsupportedEncodingError(
        f"Content-Encoding == {content_encoding!r}, must be gzip, zstd or identity"
    )


def _gunzip(received: bytes) -> bytes:
    plain = bytearray()
    bytes_max = _bytes_max(received)
    rest = received
    for _ in range(_MEMBERS_MAX):
        member = zlib.decompressobj(_GZIP_WITH_HEADER)
        try:
            plain += member.decompress(rest, bytes_max + 1 - len(plain))
        except zlib.error as error:
            raise MalformedBodyError(f"the body is not gzip: {error}") from error
        _check_size(plain, bytes_max)
        if not member.eof:
            raise MalformedBodyError("the body is not gzip: it ends too early")
        rest = member.unused_data
        if not rest:
            return bytes(plain)
    raise MalformedBodyError(f"the body has more than {_MEMBERS_MAX} gzip members")


def _unzstd(received: bytes) -> bytes:
    plain = bytearray()
    bytes_max = _bytes_max(received)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    frame, frame_count = decompressor.decompressobj(), 1
    for start in range(0, len(received), _ZSTD_PIECE_BYTES):
        piece = received[start : start + _ZSTD_PIECE_BYTES]
        while piece:
            if frame.eof:
                frame = decompressor.decompressobj()
                frame_count += 1
            try:
                plain += frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise MalformedBodyError(f"the body is not zstd: {error}") from error
            _check_size(plain, bytes_max)
            if frame_count > _MEMBERS_MAX:
                raise MalformedBodyError(f"the body has more than {_MEMBERS_MAX} zstd frames")
            piece = frame.unused_data
    if not frame.eof:
        raise MalformedBodyError("the body is not zstd: it ends too early")
    return bytes(plain)


def _bytes_max(received: bytes) -> int:
    return min(BODY_BYTES_MAX, max(SMALL_BYTES_MAX, RATIO_MAX * len(received)))


def _check_size(plain: bytearray, bytes_max: int) -> None:
    if len(plain) > bytes_max:
        message = f"body > {bytes_max} bytes when decompressed, must be that at most"
        raise BodyTooLargeError(message)
