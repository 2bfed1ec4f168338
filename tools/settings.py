"""What the environment says, for the ``litmus`` command: the only place that reads it."""

import os
from functools import cached_property
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.times import parse_duration_ms

CHECKOUT = Path(__file__).resolve().parent.parent
"""The folder that holds the packages."""

SHARED = CHECKOUT / ".litmus"
"""What all homes of a checkout share: Kafka's jars and compiled kernels."""


class Settings(BaseSettings):
    """Settings of a stack.

    Attributes:
        home: Where its data, logs and ``stack.json`` live.
        kafka: Bootstrap address of a broker; None: a broker of the stack's own.
        clickhouse: Where history is kept; None: chdb in the home.
        gateway_port: Port of the gateway; 0 takes a free one.
        query_port: Port of the query API; 0 takes a free one.
        bind: Address that both listen on.
        partitions: Partitions of ``litmus.events``.
        lateness: How long after its timestamp an event may be received.
        store: Faust's table store.
    """

    model_config = SettingsConfigDict(env_prefix="LITMUS_", frozen=True, env_ignore_empty=True)

    home: Path = Path(".litmus")
    kafka: str | None = None
    clickhouse: str | None = None
    gateway_port: int = Field(default=8000, ge=0, le=65_535)
    query_port: int = Field(default=8001, ge=0, le=65_535)
    bind: str = "127.0.0.1"
    partitions: int = Field(default=8, ge=1, le=1_024)
    lateness: str = "1h"
    store: str = "memory://"

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("lateness")
    @classmethod
    def _duration(cls, lateness: str) -> str:
        parse_duration_ms(lateness)
        return lateness

    @cached_property
    def clickhouse_dsn(self) -> str:
        """Return where history is kept."""
        return self.clickhouse or f"chdb://{self.home / 'clickhouse'}"

    def environment(self) -> dict[str, str]:
        """Return the environment of every process of the stack, without its own addresses.

        Variables of the system (paths, proxies, locale) pass through, and so do settings that only
        a service knows.
        """
        return dict(os.environ) | {
            "LITMUS_HOME": str(self.home),
            "LITMUS_CLICKHOUSE": self.clickhouse_dsn,
            "LITMUS_BIND": self.bind,
            "LITMUS_PARTITIONS": str(self.partitions),
            "LITMUS_LATENESS": self.lateness,
            "LITMUS_STORE": self.store,
            "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR") or str(SHARED / "numba"),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
        }


class JavaSettings(BaseSettings):
    """Where Java may be."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    java_home: Path | None = None
