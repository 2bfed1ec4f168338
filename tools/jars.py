"""Kafka's jars: fetched from Maven Central through jgo, believed only by their checksums.

jgo takes a jar whose checksum is wrong with a warning, and writes downloads in place. So its files
are only a way to get at the jars: what is kept is a flat folder that holds exactly the files of
``kafka-jars.sha256``, each with the checksum given there, looked at before every start.
"""

import fcntl
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from tools.errors import JarsError
from tools.settings import CHECKOUT, SHARED

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1+org.slf4j:slf4j-simple:1.7.36@kafka.Kafka"
SUMS = CHECKOUT / "tools" / "kafka-jars.sha256"
JARS = SHARED / "jars"
DOWNLOAD_ATTEMPTS = 5

Download = Callable[[Path], list[Path]]
"""Brings the jars somewhere into an empty folder and returns where they are."""

_log = logging.getLogger(__name__)


def ensure_jars(
    folder: Path = JARS, sums: Path = SUMS, download: Download | None = None
) -> list[Path]:
    """Return Kafka's jars, each checked now; fetch them when they are missing or damaged.

    Raises:
        JarsError: If they cannot be fetched, or what was fetched is not what it should be.
    """
    wanted = read_sums(sums)
    kept = folder / "kafka"
    with _locked(folder):
        if not find_faults(kept, wanted):
            return sorted(kept.iterdir())
        faults: list[str] = []
        for _ in range(2):
            shutil.rmtree(kept, ignore_errors=True)
            _fetch(kept, wanted, download or download_with_jgo)
            faults = find_faults(kept, wanted)
            if not faults:
                return sorted(kept.iterdir())
            _log.warning("Kafka's jars are damaged (%s); fetching them again", faults[0])
        shutil.rmtree(kept, ignore_errors=True)
    raise JarsError(
        f"What was downloaded is not Kafka 4.3.1 as it was checked in: {'; '.join(faults[:3])}. "
        "Nothing of it was kept. Look for a proxy or mirror that changes files, then try again."
    )


def read_sums(sums: Path) -> dict[str, str]:
    """Return checksum by file name, of a file as ``sha256sum`` writes it."""
    rows = (line.split() for line in sums.read_text().splitlines() if line.strip())
    return {name: digest for digest, name in rows}


def find_faults(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Return what is wrong with the jars in a folder; nothing when they are as they should be."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - there)]
    faults += [f"{name} does not belong there" for name in sorted(there - wanted.keys())]
    for name in sorted(there & wanted.keys()):
        with (folder / name).open("rb") as jar:
            if hashlib.file_digest(jar, "sha256").hexdigest() != wanted[name]:
                faults.append(f"{name} has another SHA-256 sum")
    return faults


def download_with_jgo(folder: Path) -> list[Path]:
    """Resolve and download the broker into a folder and return its jars."""
    # Imported here: it is slow to import, and needed once in the life of a checkout.
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.env import EnvironmentBuilder, LinkStrategy  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    repositories = {"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories
    context = MavenContext(repo_cache=folder / "m2", remote_repos=repositories, timeout=30)
    builder = EnvironmentBuilder(
        context=context, cache_dir=folder / "jgo", link_strategy=LinkStrategy.AUTO
    )
    environment = builder.from_endpoint(KAFKA)
    # Most of Kafka's jars have module info: jgo puts those apart, and off its class path.
    return [*environment.path.glob("jars/*.jar"), *environment.path.glob("modules/*.jar")]


def _fetch(kept: Path, wanted: dict[str, str], download: Download) -> None:
    _log.info("Fetching Apache Kafka 4.3.1 (%d jars, about 44 MB)", len(wanted))
    attempts = Retrying(
        # jgo reports some failures of the network as RuntimeError.
        retry=retry_if_exception_type((OSError, RuntimeError, requests.RequestException)),
        stop=stop_after_attempt(DOWNLOAD_ATTEMPTS),
        wait=wait_exponential_jitter(initial=1, max=15),
        before_sleep=_tell_of_retry,
        reraise=True,
    )
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=kept.parent) as scratch:
        try:
            jars = attempts(_attempt, Path(scratch), download)
        except (OSError, RuntimeError, requests.RequestException) as error:
            raise JarsError(
                f"Cannot download Kafka's jars from Maven Central: {error}. Check the network; "
                "behind a proxy set HTTPS_PROXY (and REQUESTS_CA_BUNDLE for its certificate); for "
                "a mirror put [repositories] central = <address> into ~/.config/jgo.conf. "
                "Or use a broker of your own: LITMUS_KAFKA=<host:port>."
            ) from error
        ready = Path(scratch) / "kafka"
        ready.mkdir()
        for jar in jars:
            shutil.copyfile(jar, ready / jar.name)
        ready.rename(kept)


def _attempt(scratch: Path, download: Download) -> list[Path]:
    folder = Path(tempfile.mkdtemp(dir=scratch))  # a broken download would pass for a cached one
    return download(folder)


def _tell_of_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("Download failed (%s); attempt %d follows", error, state.attempt_number + 1)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two stacks may start in a fresh checkout
        yield
