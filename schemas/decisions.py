"""Which variant a unit gets: a pure rule, the same in every process and in GrowthBook's SDKs.

References:
    GrowthBook SDK specification, hash version 2: two rounds of 32-bit FNV-1a, ten thousand
    buckets, ranges of width coverage * weight laid end to end from each variant's share.
"""

import struct

from schemas.definitions import Definition

_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193
BUCKETS = 10_000


def fnv1a32(text: str) -> int:
    """Return the 32-bit FNV-1a hash of ``text``, over UTF-16 code units, as GrowthBook's SDKs do.

    JavaScript counts in them: a character beyond U+FFFF, an emoji say, is two.
    """
    value = _FNV_OFFSET
    for (unit,) in struct.iter_unpack("<H", text.encode("utf-16-le", "surrogatepass")):
        value = ((value ^ unit) * _FNV_PRIME) & 0xFFFF_FFFF
    return value


def bucket_of(seed: str, unit_id: str) -> float:
    """Return where a unit lies in [0, 1), in steps of 1/10,000."""
    return fnv1a32(str(fnv1a32(seed + unit_id))) % BUCKETS / BUCKETS


def decide_variant(definition: Definition, unit_id: str) -> str | None:
    """Return the variant of a unit, or None if the experiment does not cover it."""
    bucket = bucket_of(definition.seed, unit_id)
    start = 0.0
    for variant in definition.variants:
        if start <= bucket < start + definition.coverage * variant.weight:
            return variant.id
        start += variant.weight
    return None
