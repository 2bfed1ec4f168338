"""The stack that is tortured differs from the usual one in its links and clocks only."""

from pathlib import Path

from tools.broker import PROPERTIES
from tools.home import Home
from tools.ports import free_ports
from tools.settings import Settings
from tools.torture.supervised import Wiring, plan_torture, with_listeners

LINKS = {"gateway": (20_001, 20_002), "accumulate-0": (20_003, 20_004)}


def test_the_broker_listens_for_every_link_and_tells_clients_to_come_back_through_it() -> None:
    properties = with_listeners(PROPERTIES.format(broker=1, controller=2), Wiring(LINKS))
    found = dict(line.split("=", 1) for line in properties.splitlines())

    assert "VIA_GATEWAY://127.0.0.1:20001" in found["listeners"].split(",")
    assert "VIA_GATEWAY://127.0.0.1:20002" in found["advertised.listeners"].split(",")
    assert "VIA_ACCUMULATE_0:PLAINTEXT" in found["listener.security.protocol.map"].split(",")
    assert "PLAINTEXT://127.0.0.1:1" in found["listeners"].split(",")


def test_processes_go_through_their_link_and_have_a_clock_of_their_own(tmp_path: Path) -> None:
    gateway_port, query_port = free_ports(2)
    settings = Settings(home=tmp_path, gateway_port=gateway_port, query_port=query_port)
    plan = plan_torture(settings, Home(tmp_path), Wiring(LINKS))
    specs = {spec.name: spec for stage in plan.stages for spec in stage.processes}

    assert specs["gateway"].environment["LITMUS_KAFKA"] == "127.0.0.1:20002"
    assert specs["accumulate-0"].environment["LITMUS_KAFKA"] == "127.0.0.1:20004"
    assert specs["query-api"].environment["LITMUS_KAFKA"] == plan.addresses["kafka"]
    clocks = {spec.environment.get("LITMUS_TORTURE_CLOCK") for spec in specs.values()}
    assert len(clocks) == len(specs), "one for each, and none for the broker"
    assert "LITMUS_TORTURE_CLOCK" not in specs["kafka"].environment
