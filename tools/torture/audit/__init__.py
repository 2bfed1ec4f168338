"""The independent auditor: recomputes a run from what clients were told and from the log.

Plain Python, one row after the other, apart from the engine: only records and definitions are
decoded by shared code. Every difference between what a run published and what it must have
published is a line of text.
"""

from tools.torture.audit.auditing import Run, audit
from tools.torture.audit.findings import Report

__all__ = ["Report", "Run", "audit"]
