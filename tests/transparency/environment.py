"""The environment ``.venv-transparency``: what the suites need, and their sources, fetched from the package index."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
REQUIREMENTS = HERE / "requirements.txt"
FOLDER = ROOT / ".venv-transparency"
PYTHON = FOLDER / "bin" / "python"
SOURCES = FOLDER / "sources"


class EnvironmentFailed(Exception):
    """Something could not be installed or fetched."""


def make_environment() -> None:
    """Make the environment, unless one stands that was made from the same requirements."""
    stamp = FOLDER / "requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("making .venv-transparency", file=sys.stderr, flush=True)
    uv = _uv()
    _call([uv, "venv", "--clear", "--python", sys.executable, str(FOLDER)])
    _call([uv, "pip", "install", "--python", str(PYTHON), "-r", str(REQUIREMENTS)])
    stamp.write_text(wanted)


def version_of(name: str) -> str:
    """The version that requirements.txt pins a distribution to."""
    pin = re.search(rf"^{re.escape(name)}==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    if pin is None:
        raise EnvironmentFailed(f"{REQUIREMENTS.name} pins no version of {name}")
    return pin[1]


def sources_of(name: str) -> Path:
    """The folder with the unpacked source distribution; fetched if it is not there."""
    version = version_of(name)
    folder = SOURCES / f"{name}-{version}"
    if not folder.exists():
        print(f"fetching the sources of {name} {version}", file=sys.stderr, flush=True)
        fetched = SOURCES / "fetched" / name
        # Only what is asked for comes as a source distribution; what builds it may come as a wheel.
        download = [PYTHON, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
        _call([*map(str, download), "--dest", str(fetched), f"{name}=={version}"])
        (archive,) = fetched.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(fetched, filter="data")
        (unpacked,) = (path for path in fetched.iterdir() if path.is_dir())
        unpacked.rename(folder)
        shutil.rmtree(fetched)
    return folder


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise EnvironmentFailed("uv is needed, which `make` puts into .venv")
    return found


def _call(command: Sequence[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise EnvironmentFailed(f"{' '.join(command)}\n{finished.stdout}{finished.stderr}")
