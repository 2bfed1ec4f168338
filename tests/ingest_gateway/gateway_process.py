"""The gateway as a process of its own, on a real broker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.ingest_gateway.worlds import PARTITIONS
from tests.stack import wait_until
from tools.ports import free_ports
from tools.settings import CHECKOUT


class Gateway:
    """A gateway process; ready once this returns."""

    def __init__(self, bootstrap: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "LITMUS_KAFKA": bootstrap,
            "LITMUS_PARTITIONS": str(PARTITIONS),
            "LITMUS_GATEWAY_PORT": str(port),
            "PYTHONPATH": str(CHECKOUT),
        }
        command = [sys.executable, "-m", "ingest_gateway"]
        self.process = subprocess.Popen(command, env=environment, cwd=CHECKOUT)
        wait_until(self._is_ready, "the gateway is ready")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, "the gateway died"
        try:
            return httpx.get(f"{self.url}/ready", timeout=30).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running_gateway(bootstrap: str) -> Iterator[Gateway]:
    """Run a gateway; it is killed in the end if it still lives."""
    gateway = Gateway(bootstrap)
    try:
        yield gateway
    finally:
        gateway.process.kill()
        gateway.process.wait()
