"""Imports polydatum 0.9.1 as ``upstream_polydatum``.

It has the same import name as our own package. So it is installed in a folder outside the import path
(``upstream`` in the environment that runs the benchmarks, see ``requirements-upstream.txt``), and is
imported from there while our modules are removed from ``sys.modules``.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(sys.prefix, "upstream")
_NAME = "polydatum"


def _take_out() -> dict[str, ModuleType]:
    """Remove the package and its modules from ``sys.modules``."""
    names = [name for name in sys.modules if name == _NAME or name.startswith(f"{_NAME}.")]
    return {name: sys.modules.pop(name) for name in names}


def load() -> ModuleType:
    if not (FOLDER / _NAME).is_dir():
        raise ImportError(f"polydatum 0.9.1 is not installed in {FOLDER.name!r} of this environment")
    ours = _take_out()
    sys.path.insert(0, str(FOLDER))
    try:
        upstream = importlib.import_module(_NAME)
    finally:
        sys.path.remove(str(FOLDER))
        theirs = _take_out()
        sys.modules.update(ours)
    sys.modules.update({f"upstream_{name}": module for name, module in theirs.items()})
    return upstream
