"""How kernels are compiled, and where what was compiled is kept."""

import hashlib
from pathlib import Path

import numba

import schemas

_KERNELS = Path(__file__).parent
_ENGINE = _KERNELS.parent

# Numba keeps compiled code by the file of a function alone. Ours call each other across files and
# have constants of others compiled in: after an upgrade of one file, code of two versions would
# run together, and count wrongly. So all that they are made of names the place.
SOURCES = [
    *sorted(_KERNELS.glob("*.py")),
    _ENGINE / "layout.py",
    _ENGINE / "plan.py",
    _ENGINE / "rows.py",
    _ENGINE / "state.py",
    Path(schemas.__file__).parent / "imports.py",
    *(_ENGINE.parent / "stats" / name for name in ("buckets.py", "cap_grid.py")),
]
_SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
_KEPT = Path(numba.config.CACHE_DIR or _KERNELS / "__pycache__")
numba.config.CACHE_DIR = str(_KEPT / f"engine-{_SOURCES[:16]}")

# Kernels allocate nothing, so they need no reference counts: those cost more than the counting.
# What is small and hot is inlined, or each call would pass every array of the state.
_OPTIONS = {"cache": True, "nogil": True, "_nrt": False}

kernel = numba.njit(**_OPTIONS)
inlined = numba.njit(**_OPTIONS, inline="always")
