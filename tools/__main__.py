"""``python -m tools`` is the ``litmus`` command."""

from tools.cli import app

app(prog_name="litmus")
