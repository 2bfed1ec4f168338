-- The looks, flat: one row per metric, basis and variant. low, high and p_value are those that
-- "interval" names: always_valid on matured units, fixed_horizon (pointwise) on open ones.
CREATE TABLE IF NOT EXISTS look_rows
(
    experiment_id LowCardinality(String),
    metric_id LowCardinality(String),
    basis LowCardinality(String),
    variant LowCardinality(String),
    tick UInt64 CODEC(Delta, ZSTD(1)),
    log_id String,
    as_of DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String),
    role LowCardinality(String),
    units UInt64,
    total Nullable(Float64),
    mean Nullable(Float64),
    variance Nullable(Float64),
    std_error Nullable(Float64),
    control LowCardinality(String),
    status LowCardinality(String),
    effect Nullable(Float64),
    effect_std_error Nullable(Float64),
    interval LowCardinality(String),
    low Nullable(Float64),
    high Nullable(Float64),
    p_value Nullable(Float64),
    running_low Nullable(Float64),
    running_high Nullable(Float64),
    running_p_value Nullable(Float64),
    fixed_horizon_low Nullable(Float64),
    fixed_horizon_high Nullable(Float64),
    fixed_horizon_p_value Nullable(Float64),
    relative_effect Nullable(Float64),
    relative_low Nullable(Float64),
    relative_high Nullable(Float64)
)
ENGINE = ReplacingMergeTree
ORDER BY (experiment_id, metric_id, basis, variant, tick, log_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
