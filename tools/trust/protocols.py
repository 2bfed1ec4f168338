"""All protocols, in the order of their numbers."""

from tools.trust.beliefs import BELIEFS
from tools.trust.checks import Protocol
from tools.trust.clustered import QUANTILES_OF_EVENTS
from tools.trust.data_checks import SAMPLE_RATIO
from tools.trust.end_to_end import END_TO_END
from tools.trust.exactness import STREAM_IS_BATCH
from tools.trust.extremes import EXTREMES
from tools.trust.families import FAMILIES
from tools.trust.fixed_horizon import COVERAGE, NO_EFFECT, POWER
from tools.trust.growing import GROWING, SOONER
from tools.trust.guarded import GUARDRAILS
from tools.trust.margins import MARGINS
from tools.trust.merging import MERGING
from tools.trust.peeking import COVERAGE as TIME_UNIFORM
from tools.trust.peeking import EQUAL, EVERY_PAIR, PEEKING
from tools.trust.planned_looks import GROUP_SEQUENTIAL
from tools.trust.purity import PURITY
from tools.trust.restarts import RESTARTS
from tools.trust.unequal import UNEQUAL
from tools.trust.verdicts import FALSE_WINNERS

_LATER = "bandits and adaptive allocation are not built yet"

PROTOCOLS: tuple[Protocol, ...] = (
    NO_EFFECT,
    PEEKING,
    EVERY_PAIR,
    GROUP_SEQUENTIAL,
    EQUAL,
    COVERAGE,
    TIME_UNIFORM,
    POWER,
    SAMPLE_RATIO,
    FAMILIES,
    MARGINS,
    QUANTILES_OF_EVENTS,
    STREAM_IS_BATCH,
    END_TO_END,
    PURITY,
    MERGING,
    EXTREMES,
    Protocol(
        "18",
        "Regret of bandits",
        "Bandit policies lose as little as their papers say.",
        "Mean regret within 4 standard errors of reference simulations.",
        not_run=_LATER,
    ),
    Protocol(
        "19",
        "Inference after adaptive allocation",
        "Estimates of arms whose shares followed the results are unbiased all the same.",
        "Bias within 4 standard errors of 0, coverage 94 to 96 %.",
        not_run=_LATER,
    ),
    Protocol(
        "20",
        "Allocation",
        "Weights keep their floor, add up to 1, and do not hang on the order of the arms.",
        "10,000 random posteriors; exact.",
        not_run=_LATER,
    ),
    RESTARTS,
    FALSE_WINNERS,
    GROWING,
    SOONER,
    BELIEFS,
    UNEQUAL,
    GUARDRAILS,
)
