"""A body is read as what its headers say, and never grows past what the gateway holds."""

import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest_gateway.body import (
    BODY_BYTES_MAX,
    RECEIVED_BYTES_MAX,
    SMALL_BYTES_MAX,
    decompress,
    form_of,
    read_body,
)
from ingest_gateway.errors import (
    BodyTooLargeError,
    MalformedBodyError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
)
from ingest_gateway.room import Held, Room
from ingest_gateway.splitting import BodyForm


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/json", BodyForm.JSON),
        ("Application/JSON; charset=UTF-8", BodyForm.JSON),
        ('application/json;charset="utf-8"', BodyForm.JSON),
        ("application/x-ndjson", BodyForm.NDJSON),
        ("application/ndjson ; q=1", BodyForm.NDJSON),
    ],
)
def test_the_content_type_says_the_form(content_type: str, form: BodyForm) -> None:
    assert form_of(content_type) is form


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json+x",
        "application/json; charset=latin-1",
        ";",
    ],
)
def test_any_other_content_type_is_refused(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaTypeError) as refused:
        form_of(content_type)
    assert refused.value.status == 415


def zstd(plain: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(plain)


ENCODERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "ZSTD": zstd, "identity": bytes}


@pytest.mark.parametrize("encoding", ENCODERS)
@given(st.binary(max_size=3_000))
def test_what_was_compressed_comes_back(encoding: str, plain: bytes) -> None:
    assert decompress(ENCODERS[encoding](plain), encoding) == plain


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_a_body_may_be_made_of_several_members(encoding: str) -> None:
    encode = ENCODERS[encoding]

    assert decompress(encode(b"one") + encode(b"") + encode(b"two"), encoding) == b"onetwo"


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_a_body_of_ever_so_many_members_is_refused(encoding: str) -> None:
    """Each is a few bytes and holds none, and would be read in quadratic time."""
    member = ENCODERS[encoding](b"")

    assert decompress(member * 64, encoding) == b""
    with pytest.raises(MalformedBodyError, match="more than 64"):
        decompress(member * 100_000, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_a_damaged_or_cut_body_is_malformed(encoding: str) -> None:
    whole = ENCODERS[encoding](b"event " * 100)

    for bad in (b"", b"plain", whole[:-1], whole[: len(whole) // 2], whole + b"rest"):
        with pytest.raises(MalformedBodyError):
            decompress(bad, encoding)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "", "compress"])
def test_other_encodings_are_refused(encoding: str) -> None:
    if not encoding:
        assert decompress(b"[]", encoding) == b"[]"
        return
    with pytest.raises(UnsupportedEncodingError):
        decompress(b"[]", encoding)


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD", "several"])
def test_a_bomb_is_stopped_before_it_grows(encoding: str) -> None:
    """200 MB of zeros; a few times the limit is all that it may ever take."""
    zeros = bytes(1_000_000)
    if encoding == "several":
        bomb, encoding = gzip.compress(zeros) * 200, "gzip"
    elif encoding == "gzip":
        compressor = zlib.compressobj(9, wbits=31)
        bomb = b"".join(compressor.compress(zeros) for _ in range(200)) + compressor.flush()
    else:
        frame = zstandard.ZstdCompressor().compressobj()
        bomb = b"".join(frame.compress(zeros) for _ in range(200)) + frame.flush()

    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            decompress(bomb, encoding)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 5 * BODY_BYTES_MAX


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_the_largest_body_is_taken_and_one_byte_more_is_not(encoding: str) -> None:
    largest = random.Random(7).randbytes(200_000) + bytes(BODY_BYTES_MAX - 200_000)

    assert decompress(ENCODERS[encoding](largest), encoding) == largest
    with pytest.raises(BodyTooLargeError):
        decompress(ENCODERS[encoding](largest + b"0"), encoding)


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_a_body_that_grows_beyond_all_measure_is_refused_before_the_largest_size(
    encoding: str,
) -> None:
    assert len(decompress(ENCODERS[encoding](bytes(SMALL_BYTES_MAX)), encoding)) == SMALL_BYTES_MAX
    with pytest.raises(BodyTooLargeError, match="when decompressed"):
        decompress(ENCODERS[encoding](bytes(4 * SMALL_BYTES_MAX)), encoding)


def held() -> Held:
    return Held(Room(bytes_max=100 << 20, requests_max=1, clock_s=time.monotonic))


class Client:
    """Sends a body in pieces, for ever if it is let."""

    def __init__(self, pieces: list[bytes], *, is_endless: bool = False) -> None:
        self.pieces = pieces
        self.is_endless = is_endless
        self.sent_bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            for piece in self.pieces:
                self.sent_bytes += len(piece)
                yield piece
            if not self.is_endless:
                return


async def test_a_body_is_put_together_from_its_pieces() -> None:
    whole = gzip.compress(b"[1, 2]")

    assert (
        await read_body(Client([whole[:5], b"", whole[5:]]).chunks(), "gzip", held()) == b"[1, 2]"
    )
    assert await read_body(Client([b"[1,", b"2]"]).chunks(), None, held()) == b"[1,2]"


async def test_reading_stops_at_the_limit() -> None:
    client = Client([bytes(65_536)], is_endless=True)

    with pytest.raises(BodyTooLargeError) as refused:
        await read_body(client.chunks(), None, held())

    assert refused.value.status == 413
    assert client.sent_bytes <= RECEIVED_BYTES_MAX + 65_536
