"""A supervisor over small children: ``python -m tests.tools.small_stack HOME PLAN``.

PLAN is JSON: stages, each a list of ``[name, port, behaviour …]`` (see ``tests.tools.child``).
"""

import errno
import json
import sys
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from tools.errors import LitmusError
from tools.home import Home
from tools.narration import Narrator
from tools.processes import Plan, ProcessSpec, Stage, probe_http
from tools.settings import Settings
from tools.stack import supervise


def main() -> int:
    """Run the plan; return what the supervisor returns, 2 if it could not begin."""
    home, stages = Home(Path(sys.argv[1])), json.loads(sys.argv[2])
    addresses = {"kafka": "none", "gateway": "none", "query": "none"}
    plan = Plan([Stage([_spec(home, *child) for child in stage]) for stage in stages], addresses)
    narrator = Narrator(Console(width=200))
    is_stubborn = any("stubborn" in child for stage in stages for child in stage)
    try:
        return supervise(home, lambda: plan, narrator, grace_seconds=1.0 if is_stubborn else 60.0)
    except LitmusError as error:
        print(error)
        return 2


def _spec(home: Home, name: str, port: int, *behaviour: str) -> ProcessSpec:
    module = "tests.tools.child"
    return ProcessSpec(
        name=name,
        command=[sys.executable, "-P", "-m", module, str(port), *behaviour],
        program=module,
        environment=Settings(home=home.root).environment(),
        folder=home.root,
        port=port,
        probe=partial(probe_http, "127.0.0.1", port),
        prepare=next((partial(_PREPARE[one], home) for one in behaviour if one in _PREPARE), None),
        ready_seconds_max=5.0 if "never-ready" in behaviour else 120.0,
    )


def _require_room(home: Home) -> None:
    if (home.root / "full").exists():
        raise OSError(errno.ENOSPC, "no room")


def _wait_while_held(home: Home) -> None:
    while (home.root / "hold").exists():
        time.sleep(0.02)


_PREPARE = {"prepared": _require_room, "held": _wait_while_held}


if __name__ == "__main__":
    sys.exit(main())
