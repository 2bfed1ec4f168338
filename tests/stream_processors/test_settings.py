"""A worker starts with whole wiring or says what to set."""

import pytest

from stream_processors.settings import MissingSettingsError, WorkerSettings

WIRING = {
    "LITMUS_KAFKA": "127.0.0.1:9092",
    "LITMUS_INSTANCE": "control-0",
    "LITMUS_PROBE_PORT": "8010",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "PARTITIONS", "LATENESS", "STORE", "BIND"):
        monkeypatch.delenv(f"LITMUS_{name}", raising=False)
    for name, value in WIRING.items():
        monkeypatch.setenv(name, value)


def test_defaults_are_those_of_the_contract() -> None:
    settings = WorkerSettings.from_environment()
    assert (settings.partitions, settings.lateness_ms, settings.store) == (
        8,
        3_600_000,
        "memory://",
    )
    assert settings.broker_url == "kafka://127.0.0.1:9092"
    assert settings.data_dir.is_absolute()
    assert settings.data_dir.parts[-3:] == (".litmus", "faust", "control-0")


def test_a_worker_without_wiring_says_all_that_is_to_be_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in WIRING:
        monkeypatch.delenv(name)
    with pytest.raises(MissingSettingsError) as caught:
        WorkerSettings.from_environment()
    lines = str(caught.value).splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == list(WIRING)
    assert all("is not set" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LITMUS_LATENESS", "an hour"),
        ("LITMUS_LATENESS", "10ms"),
        ("LITMUS_PARTITIONS", "0"),
        ("LITMUS_KAFKA", "kafka"),
        ("LITMUS_INSTANCE", "a b"),
        ("LITMUS_STORE", "rocksdb://"),
    ],
)
def test_wrong_wiring_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(MissingSettingsError, match=name):
        WorkerSettings.from_environment()


def test_lateness_is_a_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITMUS_LATENESS", "30m")
    monkeypatch.setenv("LITMUS_KAFKA", "a:1,b:2")
    settings = WorkerSettings.from_environment()
    assert settings.lateness_ms == 1_800_000
    assert settings.broker_url == "kafka://a:1;kafka://b:2"
