"""``python -m tools`` is the ``litmus`` command."""

from tools.cli import app

if __name__ == "__main__":  # processes that a command spawns import this too
    app(prog_name="litmus")
