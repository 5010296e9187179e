"""Child processes of the measurements."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def process(*args: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A child with its first line of output."""
    child = subprocess.Popen([sys.executable, "-m", *args], stdout=subprocess.PIPE, text=True, env=os.environ | env)
    try:
        assert child.stdout is not None
        yield child, child.stdout.readline().strip()
    finally:
        child.terminate()
        child.wait(60)
