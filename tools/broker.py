"""The embedded broker: Apache Kafka 4.3.1, one KRaft node, on loopback.

Jars are checked before every start. Ready means that the admin client answers, not that a port is
open. Data stay in the folder and survive stops and kills.
"""

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tools.errors import LitmusError, StartError
from tools.home import KafkaPorts
from tools.jars import JARS, ensure_jars
from tools.java import find_java
from tools.ports import free_ports
from tools.settings import CHECKOUT, JavaSettings

MAIN_CLASS = "kafka.Kafka"
READY_SECONDS_MAX = 120.0

_JVM = (
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # seconds to ready count for more than the last bit of throughput
    "-Xshare:auto",
    "-XX:-UsePerfData",  # it would write outside the home
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    "-Dorg.slf4j.simpleLogger.showShortLogName=true",
)

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
offsets.retention.minutes=525600
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=1000
log.message.timestamp.before.max.ms=9223372036854775807
log.message.timestamp.after.max.ms=9223372036854775807
num.network.threads=2
num.io.threads=4
message.max.bytes=4194304
"""
# Timestamps may lie far back or ahead: events carry their own, and what is too far is our rule.
# A killed broker may register again once its session is over: 6 s, not 9.


def prepare_broker(folder: Path, ports: KafkaPorts, *, jars: Path = JARS) -> None:
    """Make a folder ready for a start: jars checked, settings written, storage formatted.

    Raises:
        JarsError: If the jars are not to be had.
        JavaMissingError: If there is no Java.
        LitmusError: If the storage cannot be formatted.
    """
    ensure_jars(jars)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.properties").write_text(PROPERTIES.format(**ports._asdict()))
    # Native libraries are unpacked here; a killed broker leaves its copies.
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    (folder / "tmp").mkdir()
    if not (folder / "data" / "meta.properties").exists():
        _format_storage(folder, jars)


def broker_command(folder: Path, *, jars: Path = JARS) -> list[str]:
    """Return the command that runs the broker of a prepared folder, to be run in it."""
    return _java_command(folder, jars, MAIN_CLASS, "server.properties")


def is_broker_ready(bootstrap: str, timeout_seconds: float = 2.0) -> bool:
    """Return whether a broker answers the admin client."""
    admin = AdminClient(client_settings(bootstrap))
    try:
        return bool(admin.list_topics(timeout=timeout_seconds).brokers)
    except KafkaException:
        return False


def client_settings(bootstrap: str) -> dict[str, Any]:
    """Return settings of a client that fails with an error, not with lines on the terminal."""
    return {"bootstrap.servers": bootstrap, "log_level": 0, "logger": _Silent()}


class EmbeddedBroker:
    """A broker as a child of this process, for tests and tools; data live in ``folder``.

    Attributes:
        bootstrap: ``host:port`` for clients; the same after a restart.
        log: What it wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = KafkaPorts(*free_ports(2))
        self.bootstrap = f"127.0.0.1:{self.ports.broker}"
        self.log = folder / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            StartError: If it does not within a minute.
        """
        prepare_broker(self.folder, self.ports)
        leash = [sys.executable, "-I", str(CHECKOUT / "tools" / "leash.py"), str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*leash, *broker_command(self.folder)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not is_broker_ready(self.bootstrap, 1.0):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                last = self.log.read_text(errors="replace").splitlines()[-10:]
                raise StartError("Kafka did not get ready:\n" + "\n".join(last))

    @property
    def pid(self) -> int:
        """Return the process id of a broker that runs."""
        assert self._process is not None, "the broker is down"
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM, grace_seconds: float = 20.0) -> None:
        """Stop it with a signal, by force where that takes too long; nothing if it is down."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()


class _Silent:
    """Takes librdkafka's complaints about a broker that is not up yet."""

    def log(self, *_: object) -> None:
        """Say nothing."""


def _format_storage(folder: Path, jars: Path) -> None:
    cluster_id = ""
    while not cluster_id or cluster_id.startswith("-"):  # it would pass for an option
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
    arguments = ["format", "--cluster-id", cluster_id, "--config", "server.properties"]
    command = _java_command(
        folder, jars, "kafka.tools.StorageTool", *arguments, "--ignore-formatted"
    )
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if result.returncode != 0:
        raise LitmusError(f"Kafka cannot format {folder}/data: {result.stderr or result.stdout}")


def _java_command(folder: Path, jars: Path, main_class: str, *arguments: str) -> list[str]:
    java = find_java(JavaSettings().java_home)
    temporary = f"-Djava.io.tmpdir={folder / 'tmp'}"
    class_path = str(jars / "kafka" / "*")
    return [str(java.path), *_JVM, temporary, "-cp", class_path, main_class, *arguments]
