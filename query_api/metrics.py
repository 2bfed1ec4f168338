"""What the query API counts about itself."""

from prometheus_client import Counter, Gauge, Histogram

SNAPSHOT_RECORDS = Counter(
    "litmus_query_snapshot_records", "Records read from litmus.snapshots.", ["outcome"]
)
EXPERIMENTS = Gauge("litmus_query_experiments", "Experiments known.")
LOOK_AGE = Gauge(
    "litmus_query_look_age_seconds",
    "Age of the newest tick that is known here; the looks that are served are current up to it.",
)
LIVE_CLIENTS = Gauge("litmus_query_live_clients", "Clients that follow a result.", ["transport"])
LIVE_DROPPED = Counter(
    "litmus_query_live_dropped", "Results that a slow client never saw: a newer one took over."
)
LIVE_EVICTED = Counter("litmus_query_live_evicted", "Clients disconnected for being too slow.")
LIVE_REFUSED = Counter(
    "litmus_query_live_refused", "Clients refused because as many as may be follow already."
)
CONNECTIONS = Gauge("litmus_query_connections", "Connections of clients, but for WebSockets.")
CLOSED_CONNECTIONS = Counter(
    "litmus_query_closed_connections", "Connections closed for what a client does.", ["reason"]
)
HISTORY_PENDING = Gauge("litmus_query_history_pending", "Questions to the history that wait.")
HISTORY_REFUSED = Counter(
    "litmus_query_history_refused", "Questions to the history not answered, by reason.", ["reason"]
)
SINK_ROWS = Counter("litmus_query_sink_rows", "Rows inserted into the history.", ["table"])
SINK_INSERT_SECONDS = Histogram(
    "litmus_query_sink_flush_seconds",
    "Time to insert what was read and to record the progress.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
)
SINK_POSITION = Gauge(
    "litmus_query_sink_next_offset", "First offset not stored yet.", ["topic", "partition"]
)
SINK_FAILURES = Counter(
    "litmus_query_sink_failures", "Times that the sink started again from its progress."
)
SINK_TRIMMED = Counter(
    "litmus_query_sink_trimmed_records", "Records that left the log before they were stored."
)
SINK_LAG = Gauge(
    "litmus_query_sink_lag_messages",
    "Messages of the log that are not stored yet.",
    ["topic", "partition"],
)
