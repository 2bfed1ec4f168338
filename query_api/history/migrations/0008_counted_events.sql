-- Events as analysts want them: of those with one (unit, event_id), the first in the log. A unit
-- lies in one partition, so position is order. The engine forgets an id once its event's timestamp
-- is behind the horizon, and then calls a resend stale: neither counts it twice.
CREATE VIEW IF NOT EXISTS counted_events AS
SELECT *
FROM events FINAL
ORDER BY kafka_partition, kafka_offset, row
LIMIT 1 BY event_hash_high, event_hash_low
