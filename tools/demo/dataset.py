"""The Open Bandit Dataset: fetched once, checked, and read straight from its wheel.

ZOZOTOWN, a fashion shop, showed items chosen by one of two policies and logged every impression
of a week, with a click or without. Three campaigns, two policies, 10,000 impressions of each.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from tools.errors import LitmusError

CITATION = (
    "Open Bandit Dataset (ZOZO, Inc., CC BY 4.0). Y. Saito, S. Aihara, M. Matsutani, Y. Narita: "
    "Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible Off-Policy Evaluation. "
    "NeurIPS Datasets and Benchmarks 2021, arXiv:2008.07146."
)

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
"""What chose the items: chance, or Bernoulli Thompson sampling."""

REQUIREMENTS = Path(__file__).with_name("obp.requirements")

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_PIP_TIMEOUT_S = 300


class DatasetError(LitmusError):
    """The dataset cannot be had, or is not what it should be."""


class Impressions(NamedTuple):
    """The log of one campaign under one policy, in the file's order.

    Attributes:
        shown_us: When each item was shown, in epoch microseconds.
        clicked: Whether it was clicked; the dataset does not say when.
    """

    shown_us: NDArray[np.int64]
    clicked: NDArray[np.bool_]


Dataset = dict[tuple[str, str], Impressions]
"""By campaign and policy."""


def load_dataset(folder: Path) -> Dataset:
    """Return all six logs; download the wheel into ``folder`` unless it is there.

    Raises:
        DatasetError: If there is no wheel to be had, or its bytes are not the pinned ones.
    """
    wheel = next(folder.glob("obp-*.whl"), None)
    if wheel is None or not _is_pinned(wheel):
        wheel = _download(folder)
    return read_wheel(wheel)


def read_wheel(wheel: Path) -> Dataset:
    """Return the six logs in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            (campaign, policy): read_impressions(
                archive.read(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv")
            )
            for campaign in CAMPAIGNS
            for policy in POLICIES
        }


def read_impressions(csv: bytes) -> Impressions:
    """Return the impressions in one CSV file; only the columns ``timestamp`` and ``click`` count.

    Raises:
        DatasetError: If it is no such file.
    """
    convert = pyarrow.csv.ConvertOptions(
        include_columns=["timestamp", "click"],
        column_types={"timestamp": pa.timestamp("us", tz="UTC"), "click": pa.int8()},
    )
    try:
        table = pyarrow.csv.read_csv(pa.BufferReader(csv), convert_options=convert)
    except (pa.ArrowInvalid, KeyError) as error:
        raise DatasetError(f"not a log of the Open Bandit Dataset: {error}") from error
    return Impressions(
        table["timestamp"].cast(pa.int64()).to_numpy(),
        table["click"].to_numpy() > 0,
    )


def _is_pinned(wheel: Path) -> bool:
    found = _HASH.search(REQUIREMENTS.read_text())
    assert found is not None
    return hashlib.sha256(wheel.read_bytes()).hexdigest() == found[1]


def _download(folder: Path) -> Path:
    """Download the wheel by name, without its dependencies; pip checks its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--requirement", str(REQUIREMENTS), "--dest", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DatasetError(f"pip download took more than {_PIP_TIMEOUT_S} s; try again") from error
    wheel = next(folder.glob("obp-*.whl"), None)
    if done.returncode or wheel is None or not _is_pinned(wheel):
        raise DatasetError(
            "the Open Bandit Dataset (in the wheel obp 0.4.1) could not be downloaded; "
            f"check the connection to your package index and try again. pip said:\n{done.stderr}"
        )
    return wheel
