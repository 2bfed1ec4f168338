"""Settings of the query API, read from the environment once."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the environment says.

    Attributes:
        kafka: Bootstrap servers, ``host:port``.
        home: Where everything is kept.
        clickhouse: DSN of the history; empty means chdb under ``home``.
        bind: Address to listen on.
        query_port: Port to listen on.
        live_clients_max: Clients that may follow a result, over WebSockets and server-sent events
            together; 503 beyond.
        connections_max: Connections; the one idle for longest goes, else 503.
    """

    model_config = SettingsConfigDict(env_prefix="LITMUS_", frozen=True)

    kafka: str
    home: Path = Path(".litmus")
    clickhouse: str = ""
    bind: str = "127.0.0.1"
    query_port: int = Field(default=8001, ge=0, le=65_535)
    live_clients_max: int = Field(default=1_000, ge=1)
    connections_max: int = Field(default=2_000, ge=1)

    @property
    def history_dsn(self) -> str:
        """Return where the history is: a ClickHouse server, or chdb in this process."""
        return self.clickhouse or f"chdb://{(self.home / 'clickhouse').resolve()}"
