"""A small process for tests of the supervisor: serves a probe, does as told, notes its end.

``python -m tests.tools.child PORT [behaviour …]``
"""

import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Run until SIGTERM, or as the behaviour says."""
    port, *behaviour = sys.argv[1:]
    print(f"child of port {port} begins", flush=True)
    from schemas.probe import serve_probe  # after the first line: to import it takes a while

    if "dies" in behaviour:
        print("cannot open the pod bay doors", flush=True)
        sys.exit(3)
    is_ready = "never-ready" not in behaviour
    stop = threading.Event()
    is_stubborn = "stubborn" in behaviour
    signal.signal(signal.SIGTERM, lambda *_: None if is_stubborn else stop.set())
    if is_ready:
        serve_probe(int(port), readiness=lambda: {"ready": True}, metrics=lambda: b"")
    stop.wait()
    with Path("ends").open("a") as ends:
        ends.write(f"{port}\n")


if __name__ == "__main__":
    main()
