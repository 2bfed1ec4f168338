"""What the environment says, for the doors: the only place of this package that reads it."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DEAD_LETTER_BYTES_PER_HOUR = 100_000_000


class GatewaySettings(BaseSettings):
    """Settings of the HTTP gateway.

    Attributes:
        kafka: Bootstrap address of the broker.
        bind: Address to listen on.
        gateway_port: Port to listen on.
        partitions: Partitions of ``litmus.events``; a door that finds another number ends.
        answer_timeout_ms: A request whose events are not acknowledged by then gets 503.
        delivery_timeout_ms: What the broker has not acknowledged by then is not sent any more.
        command_timeout_ms: A command that is in the log and has no outcome by then gets 503.
        queue_bytes_max: Bytes that wait for the broker's acknowledgement, as requests and again
            as messages; 503 beyond.
        queue_rows_max: Rows that wait for it; 503 beyond.
        requests_max: Requests that have arrived whole and are not answered; 503 beyond.
        body_bytes_max: Bytes of all bodies that are here, as received and decompressed; 503 beyond.
        connections_max: Connections of clients; the one idle for longest goes, else 503.
        header_timeout_s: How long a client may take to send its headers.
        dead_letter_bytes_per_hour: What may be set aside on ``litmus.dlq``; a request that holds
            refused events gets 503 beyond.
        settled_lag_alert_s: From this lag of settled time behind log time on there are warnings.
        settled_lag_max_s: From this lag on events get 503.
        shutdown_timeout_s: How long requests under way may take after SIGTERM.
    """

    model_config = SettingsConfigDict(env_prefix="LITMUS_", frozen=True, env_ignore_empty=True)

    kafka: str = "127.0.0.1:9092"
    bind: str = "127.0.0.1"
    gateway_port: int = Field(default=8000, ge=0, le=65_535)
    partitions: int = Field(default=8, ge=1, le=1_024)
    answer_timeout_ms: int = Field(default=1_800, ge=100)
    delivery_timeout_ms: int = Field(default=10_000, ge=100)
    command_timeout_ms: int = Field(default=10_000, ge=100)
    queue_bytes_max: int = Field(default=64 << 20, ge=1 << 20)
    queue_rows_max: int = Field(default=200_000, ge=1)
    requests_max: int = Field(default=1_000, ge=1)
    body_bytes_max: int = Field(default=128 << 20, ge=1 << 20)
    connections_max: int = Field(default=2_000, ge=1)
    header_timeout_s: float = Field(default=10.0, gt=0)
    dead_letter_bytes_per_hour: int = Field(default=DEAD_LETTER_BYTES_PER_HOUR, ge=0)
    settled_lag_alert_s: float = Field(default=15 * 60.0, gt=0)
    settled_lag_max_s: float = Field(default=24 * 3_600.0, gt=0)
    shutdown_timeout_s: int = Field(default=15, ge=1)


class KafkaDoorSettings(BaseSettings):
    """Settings of the Kafka door.

    Attributes:
        kafka: Bootstrap address of the broker.
        bind: Address that the probe listens on.
        probe_port: Port of the probe.
        instance: Stable name of this door in its consumer group.
        partitions: Partitions of ``litmus.events``; a door that finds another number ends.
        delivery_timeout_ms: The door stops when a row is not acknowledged by then.
        mark_interval_ms: Time between two rounds of low-water marks.
        dead_letter_bytes_per_hour: What may be set aside on ``litmus.dlq``; beyond it the door
            stands still, and takes nothing, until the hour has room again.
        source_gaps: What to do when records left a source topic before they were taken: ``stop``,
            the door says so and stands still; ``accept``, it counts them and goes on.
        settled_lag_alert_s: From this lag of settled time behind log time on there are warnings.
        settled_lag_max_s: From this lag on the HTTP gateway takes no events.
        clock_skew_ms: How far the clocks of two brokers may differ, and how long a replica may
            lag; 0 is right for a single broker.
    """

    model_config = SettingsConfigDict(env_prefix="LITMUS_", frozen=True, env_ignore_empty=True)

    kafka: str = "127.0.0.1:9092"
    bind: str = "127.0.0.1"
    probe_port: int = Field(default=0, ge=0, le=65_535)
    instance: str = "kafka-door"
    partitions: int = Field(default=8, ge=1, le=1_024)
    delivery_timeout_ms: int = Field(default=30_000, ge=100)
    mark_interval_ms: int = Field(default=200, ge=10)
    dead_letter_bytes_per_hour: int = Field(default=DEAD_LETTER_BYTES_PER_HOUR, ge=0)
    source_gaps: Literal["stop", "accept"] = "stop"
    settled_lag_alert_s: float = Field(default=15 * 60.0, gt=0)
    settled_lag_max_s: float = Field(default=24 * 3_600.0, gt=0)
    clock_skew_ms: int = Field(default=0, ge=0)
