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
    """

    model_config = SettingsConfigDict(env_prefix="LITMUS_", frozen=True)

    kafka: str
    home: Path = Path(".litmus")
    clickhouse: str = ""
    bind: str = "127.0.0.1"
    query_port: int = Field(default=8001, ge=0, le=65_535)

    @property
    def history_dsn(self) -> str:
        """Return where the history is: a ClickHouse server, or chdb in this process."""
        return self.clickhouse or f"chdb://{(self.home / 'clickhouse').resolve()}"
