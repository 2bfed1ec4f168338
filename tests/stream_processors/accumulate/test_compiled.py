"""Compiled kernels are kept by all that they are made of."""

import ast
import importlib
from pathlib import Path

import pytest

from stream_processors.accumulate.kernels.compiled import SOURCES

KERNELS = sorted(
    path for path in SOURCES if path.parent.name == "kernels" and path.name != "__init__.py"
)


def imported_by(path: Path) -> set[Path]:
    """Return the files of ours that a file imports from."""
    modules = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    ours = {name for name in modules if name.startswith(("schemas", "stream_processors"))}
    return {Path(importlib.import_module(name).__file__ or "") for name in ours}


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_what_a_kernel_imports_is_among_its_sources(path: Path) -> None:
    assert imported_by(path) <= set(SOURCES)
