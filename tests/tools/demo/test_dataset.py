"""The dataset is read from a wheel as it is packed, and only if its bytes are the pinned ones."""

import zipfile
from pathlib import Path

import pytest

from tools.demo import dataset
from tools.demo.dataset import (
    CAMPAIGNS,
    POLICIES,
    DatasetError,
    load_dataset,
    read_impressions,
    read_wheel,
)

CSV = (
    b",timestamp,item_id,position,click,propensity_score\n"
    b"0,2019-11-24 00:00:17.004101+00:00,79,2,0,0.087125\n"
    b"1,2019-11-24 00:00:19+00:00,14,1,1,0.006235\n"
)


def test_times_are_read_to_the_microsecond_and_clicks_as_truth_values() -> None:
    impressions = read_impressions(CSV)

    assert impressions.shown_us.tolist() == [1_574_553_617_004_101, 1_574_553_619_000_000]
    assert impressions.clicked.tolist() == [False, True]


@pytest.mark.parametrize("csv", [b"", b"a,b\n1,2\n", CSV.replace(b"2019-11-24", b"a day")])
def test_another_file_is_refused(csv: bytes) -> None:
    with pytest.raises(DatasetError):
        read_impressions(csv)


def test_a_wheel_holds_one_log_per_campaign_and_policy(tmp_path: Path) -> None:
    wheel = tmp_path / "obp-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for campaign in CAMPAIGNS:
            for policy in POLICIES:
                archive.writestr(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv", CSV)

    logs = read_wheel(wheel)

    assert sorted(logs) == sorted((c, p) for c in CAMPAIGNS for p in POLICIES)
    assert all(len(log.clicked) == 2 for log in logs.values())


def test_a_wheel_of_other_bytes_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "obp-0.4.1-py3-none-any.whl").write_bytes(b"not the wheel")
    downloaded: list[Path] = []

    def refuse(folder: Path) -> Path:
        downloaded.append(folder)
        raise DatasetError("no connection")

    monkeypatch.setattr(dataset, "_download", refuse)

    with pytest.raises(DatasetError, match="no connection"):
        load_dataset(tmp_path)
    assert downloaded == [tmp_path]
