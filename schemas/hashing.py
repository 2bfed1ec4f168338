"""The hashes that are stored or compared between processes: the same in every release.

Strings come as Arrow holds them, one buffer of UTF-8 and offsets into it, so that a column of a
thousand ids is one call of a compiled kernel.
"""

from functools import lru_cache

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_N1 = np.uint64(0x52DCE729)
_N2 = np.uint64(0x38495AB5)
_F1 = np.uint64(0xFF51AFD7ED558CCD)
_F2 = np.uint64(0xC4CEB9FE1A85EC53)
_MURMUR2_M = np.uint32(0x5BD1E995)
_MURMUR2_SEED = np.uint32(0x9747B28C)


UNIT_KEY_SEPARATOR = "/"
"""Between the type and the id of a unit, in its key."""


def unit_key(unit_type: str, unit_id: str) -> str:
    """Return the key of a unit; a type cannot hold a slash, so two units never share one."""
    return unit_type + UNIT_KEY_SEPARATOR + unit_id


def buffers_of(strings: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the UTF-8 bytes of a column without nulls, and its ``len + 1`` offsets into them."""
    _, offsets, data = strings.buffers()
    if not len(strings):
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    every_offset = np.frombuffer(offsets, np.int32)
    offsets_here = every_offset[strings.offset : strings.offset + len(strings) + 1]
    octets = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return octets, offsets_here


def partitions_of(keys: pa.StringArray, partition_count: int) -> NDArray[np.int32]:
    """Return the partition of every key, as the default partitioner of Kafka's Java client does.

    Args:
        keys: Unit keys, shape (rows,), no nulls.
        partition_count: Partitions of the topic.

    Returns:
        Shape (rows,), each in [0, partition_count).

    References:
        MurmurHash2, 32 bits, seed 0x9747b28c, sign bit cleared, modulo the partition count.
    """
    octets, offsets = buffers_of(keys)
    return _murmur2_partitions(octets, offsets, partition_count)


def hash128(strings: pa.StringArray, seed_high: U64, seed_low: U64) -> tuple[U64, U64]:
    """Return a 128-bit hash of every string, as two columns, the high halves first.

    Args:
        strings: Shape (rows,), no nulls.
        seed_high: Shape (rows,): what the hash starts from; zeros where nothing precedes.
        seed_low: The same for the low half.

    References:
        MurmurHash3_x64_128 (Austin Appleby), with a seed for each half.
    """
    octets, offsets = buffers_of(strings)
    high = np.empty(len(strings), np.uint64)
    low = np.empty(len(strings), np.uint64)
    _murmur3_column(octets, offsets, seed_high, seed_low, high, low)
    return high, low


def unit_hashes(keys: pa.StringArray) -> tuple[U64, U64]:
    """Return the 128-bit hash of every unit key: high halves, low halves."""
    zeros = np.zeros(len(keys), np.uint64)
    return hash128(keys, zeros, zeros)


@lru_cache(1 << 16)
def stable_hash64(text: str) -> int:
    """Return a 64-bit hash of one string: for names, of which there are few."""
    _, low = unit_hashes(pa.array([text], pa.string()))
    return int(low[0])


@numba.njit(cache=True, nogil=True)
def _murmur2_partitions(octets, offsets, partition_count):  # type: ignore[no-untyped-def]
    result = np.empty(len(offsets) - 1, np.int32)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        length = end - start
        h = _MURMUR2_SEED ^ np.uint32(length)
        position = start
        while position + 4 <= end:
            k = (
                np.uint32(octets[position])
                | (np.uint32(octets[position + 1]) << np.uint32(8))
                | (np.uint32(octets[position + 2]) << np.uint32(16))
                | (np.uint32(octets[position + 3]) << np.uint32(24))
            )
            k = np.uint32(k * _MURMUR2_M)
            k ^= k >> np.uint32(24)
            k = np.uint32(k * _MURMUR2_M)
            h = np.uint32(h * _MURMUR2_M)
            h ^= k
            position += 4
        rest = end - position
        if rest == 3:
            h ^= np.uint32(octets[position + 2]) << np.uint32(16)
        if rest >= 2:
            h ^= np.uint32(octets[position + 1]) << np.uint32(8)
        if rest >= 1:
            h ^= np.uint32(octets[position])
            h = np.uint32(h * _MURMUR2_M)
        h ^= h >> np.uint32(13)
        h = np.uint32(h * _MURMUR2_M)
        h ^= h >> np.uint32(15)
        result[row] = np.int32(np.int64(h & np.uint32(0x7FFFFFFF)) % partition_count)
    return result


@numba.njit(cache=True, nogil=True)
def _rotate(x, bits):  # type: ignore[no-untyped-def]
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit(cache=True, nogil=True)
def _finish(k):  # type: ignore[no-untyped-def]
    k ^= k >> np.uint64(33)
    k *= _F1
    k ^= k >> np.uint64(33)
    k *= _F2
    k ^= k >> np.uint64(33)
    return k


@numba.njit(cache=True, nogil=True)
def _murmur3_column(octets, offsets, seed_high, seed_low, high, low):  # type: ignore[no-untyped-def]
    for row in range(len(offsets) - 1):
        start = np.int64(offsets[row])
        end = np.int64(offsets[row + 1])
        length = end - start
        h1, h2 = seed_low[row], seed_high[row]
        position = start
        while position + 16 <= end:
            k1, k2 = np.uint64(0), np.uint64(0)
            for i in range(8):
                k1 |= np.uint64(octets[position + i]) << np.uint64(8 * i)
                k2 |= np.uint64(octets[position + 8 + i]) << np.uint64(8 * i)
            h1 ^= _rotate(k1 * _C1, 31) * _C2
            h1 = (_rotate(h1, 27) + h2) * np.uint64(5) + _N1
            h2 ^= _rotate(k2 * _C2, 33) * _C1
            h2 = (_rotate(h2, 31) + h1) * np.uint64(5) + _N2
            position += 16
        k1, k2 = np.uint64(0), np.uint64(0)
        for i in range(end - position):
            octet = np.uint64(octets[position + i])
            if i < 8:
                k1 |= octet << np.uint64(8 * i)
            else:
                k2 |= octet << np.uint64(8 * (i - 8))
        h2 ^= _rotate(k2 * _C2, 33) * _C1
        h1 ^= _rotate(k1 * _C1, 31) * _C2
        h1 ^= np.uint64(length)
        h2 ^= np.uint64(length)
        h1 += h2
        h2 += h1
        h1, h2 = _finish(h1), _finish(h2)
        h1 += h2
        h2 += h1
        high[row], low[row] = h2, h1
