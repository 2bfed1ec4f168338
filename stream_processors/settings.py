"""What the environment says to the three Faust apps; the only place that reads it."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.times import parse_duration_ms

PREFIX = "LITMUS_"

IDS_MAX = 100_000_000
"""4.6 GB of them."""

_MEANINGS = {
    "kafka": "the brokers, as 127.0.0.1:9092 (several: separated by commas)",
    "instance": "a name of this process that survives restarts, as accumulate-0",
    "probe_port": "the port on which it answers /ready and /metrics, as 8010",
}


_STORE_REFUSED = (
    "must be memory://: state lives in arrays, and comes back from the changelog on the broker; "
    "a store on this machine would hold a second copy of what nobody reads (`litmus bench "
    "recovery` compares them)"
)


class MissingSettingsError(Exception):
    """The process cannot start; the text says what to set."""


def _duration_ms(value: object) -> object:
    return parse_duration_ms(value) if isinstance(value, str) else value


class WorkerSettings(BaseSettings):
    """Settings of a Faust worker.

    Attributes:
        home: Where a process keeps files: ``<home>/faust/<instance>``.
        kafka: Brokers, ``host:port`` separated by commas.
        partitions: Partitions of litmus.events.
        lateness_ms: An event received more than this after its timestamp is late.
        store: Faust's store of tables; they hold nothing, so there is one that fits.
        instance: Group instance id: a restart under the same one keeps its partitions.
        probe_port: Where ``/ready`` and ``/metrics`` answer.
        bind: Address of the probe.
        ids_max: Ids within the horizon that an accumulate worker keeps, all its partitions
            together, about 46 bytes each; beyond it stops.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True
    )

    home: Path = Path(".litmus")
    kafka: str = Field(pattern=r"^[^\s,:/]+:\d+(,[^\s,:/]+:\d+)*$")
    partitions: int = Field(default=8, ge=1, le=1024)
    lateness_ms: Annotated[int, BeforeValidator(_duration_ms)] = Field(
        default=3_600_000, ge=1_000, validation_alias=f"{PREFIX}LATENESS"
    )
    store: str = "memory://"
    instance: str = Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")
    probe_port: int = Field(ge=0, le=65_535)
    bind: str = "127.0.0.1"
    ids_max: int = Field(default=IDS_MAX, ge=1)

    @field_validator("store")
    @classmethod
    def _is_memory(cls, store: str) -> str:
        if store != "memory://":
            raise ValueError(_STORE_REFUSED)
        return store

    @property
    def broker_url(self) -> str:
        """Return the brokers as Faust wants them."""
        return ";".join(f"kafka://{server}" for server in self.kafka.split(","))

    @property
    def data_dir(self) -> Path:
        """Return the folder that is this process's own."""
        return self.home.absolute() / "faust" / self.instance

    @classmethod
    def from_environment(cls) -> Self:
        """Return the settings of this process.

        Raises:
            MissingSettingsError: If wiring is missing or wrong; it names every such variable.
        """
        try:
            return cls()  # type: ignore[call-arg]  # the environment gives them
        except ValidationError as error:
            raise MissingSettingsError(_explained(error)) from error


def _explained(error: ValidationError) -> str:
    lines = []
    for wrong in error.errors():
        field = str(wrong["loc"][0]).lower().removeprefix(PREFIX.lower())
        meaning = f" ({_MEANINGS[field]})" if field in _MEANINGS else ""
        problem = (
            "is not set"
            if wrong["type"] == "missing"
            else f"== {wrong['input']!r}: {wrong['msg'].lower()}"
        )
        lines.append(f"{PREFIX}{field.upper()} {problem}{meaning}")
    return "\n".join(lines)
