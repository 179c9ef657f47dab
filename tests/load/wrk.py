"""The load by wrk: a generator in C, of which Debian and Homebrew have a package.

Its latencies are corrected for coordinated omission, as wrk calls it: a slow answer also counts for the requests that it has
kept from being sent.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.load.slices import Slice

SCRIPT = Path(__file__).with_name("wrk.lua")


def is_there() -> bool:
    return shutil.which("wrk") is not None


def drive(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Slice:
    """Send requests for some seconds, of which wrk knows whole ones only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0".join(requests))
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--script", str(SCRIPT)]
        finished = subprocess.run(
            [*command, f"http://127.0.0.1:{port}", "--", file.name], stdout=subprocess.PIPE, text=True, check=True
        )
    seen = json.loads(finished.stdout.splitlines()[-1])
    return Slice(seen["answers"], seen["microseconds"] / 1e6, seen["failures"], Counter(dict(seen["latencies"])))
