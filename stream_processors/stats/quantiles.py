"""Quantiles of distributions; see ``tails``, where they are."""

from stream_processors.stats.tails import (
    chi_square_p_value,
    normal_critical_value,
    t_critical_value,
    two_sided_normal_p_value,
    two_sided_t_p_value,
)

__all__ = [
    "chi_square_p_value",
    "normal_critical_value",
    "t_critical_value",
    "two_sided_normal_p_value",
    "two_sided_t_p_value",
]
