"""The two hashes that the log depends on, in plain Python: where a unit lies, and who it is.

Written from their references, apart from ``schemas.hashing``, which is compiled.

References:
    MurmurHash2 (32 bits) and MurmurHash3_x64_128, Austin Appleby.
"""

_U64 = 0xFFFFFFFFFFFFFFFF
_U32 = 0xFFFFFFFF
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F
_KAFKA_SEED = 0x9747B28C
_KAFKA_M = 0x5BD1E995


def partition_of(key: str, partition_count: int) -> int:
    """Return the partition of a key, as the default partitioner of Kafka's Java client does."""
    data = key.encode()
    whole = len(data) & ~3
    h = _KAFKA_SEED ^ len(data)
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _KAFKA_M & _U32
        k = (k ^ (k >> 24)) * _KAFKA_M & _U32
        h = (h * _KAFKA_M & _U32) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _KAFKA_M & _U32
    h = (h ^ (h >> 13)) * _KAFKA_M & _U32
    return ((h ^ (h >> 15)) & 0x7FFFFFFF) % partition_count


def hash128(text: str, seed_high: int = 0, seed_low: int = 0) -> tuple[int, int]:
    """Return the 128-bit hash of a text, high half first, with a seed for each half."""
    data = text.encode()
    h1, h2 = seed_low, seed_high
    whole = len(data) & ~15
    for at in range(0, whole, 16):
        k1 = int.from_bytes(data[at : at + 8], "little")
        k2 = int.from_bytes(data[at + 8 : at + 16], "little")
        h1 ^= _rotated(k1 * _C1 & _U64, 31) * _C2 & _U64
        h1 = ((_rotated(h1, 27) + h2) * 5 + 0x52DCE729) & _U64
        h2 ^= _rotated(k2 * _C2 & _U64, 33) * _C1 & _U64
        h2 = ((_rotated(h2, 31) + h1) * 5 + 0x38495AB5) & _U64
    rest = data[whole:]
    h2 ^= _rotated(int.from_bytes(rest[8:], "little") * _C2 & _U64, 33) * _C1 & _U64
    h1 ^= _rotated(int.from_bytes(rest[:8], "little") * _C1 & _U64, 31) * _C2 & _U64
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & _U64
    h2 = (h2 + h1) & _U64
    h1, h2 = _finished(h1), _finished(h2)
    h1 = (h1 + h2) & _U64
    h2 = (h2 + h1) & _U64
    return h2, h1


def _rotated(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _U64


def _finished(k: int) -> int:
    k = (k ^ (k >> 33)) * 0xFF51AFD7ED558CCD & _U64
    k = (k ^ (k >> 33)) * 0xC4CEB9FE1A85EC53 & _U64
    return k ^ (k >> 33)
