"""Arrow without pandas."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from schemas.arrow import leave_pandas_out
{}
import pyarrow
assert pyarrow.array(["a", None]).to_pylist() == ["a", None]
print("pandas" in sys.modules)
"""


@pytest.mark.parametrize(
    ("before", "is_loaded"), [("", "True"), ("leave_pandas_out()", "False")], ids=["plain", "lean"]
)
def test_a_process_that_leaves_pandas_out_converts_lists_without_it(
    before: str, is_loaded: str
) -> None:
    command = [sys.executable, "-c", PROGRAM.format(before)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert answer.stdout.strip() == is_loaded
