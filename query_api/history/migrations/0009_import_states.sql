-- What control said of an import at a tick: which batches are in every partition, which one is
-- agreed on. place: among several changes of one tick.
CREATE TABLE IF NOT EXISTS import_states
(
    import_id String,
    tick UInt64 CODEC(Delta, ZSTD(1)),
    place UInt32,
    done UInt32,
    row_count UInt64,
    reserved_number UInt32,
    reserved_sha256 String,
    reserved_rows UInt32
)
ENGINE = ReplacingMergeTree
ORDER BY (import_id, tick, place)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
