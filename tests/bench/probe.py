"""How late a service answers the smallest of calls, seen from a process of its own: `/livez` every 5 ms.

An event loop that is blocked for 20 ms answers that much later whoever calls just then; and what keeps the measuring
process itself busy does not count.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

EVERY_S = 0.005


def ask(url: str) -> list[float]:
    """Ask until standard input says something; the milliseconds that each answer took."""
    host = urlsplit(url)
    message = f"GET /livez HTTP/1.1\r\nHost: {host.netloc}\r\n\r\n".encode()
    times: list[float] = []
    with socket.create_connection((host.hostname, host.port)) as connection:
        print("asking", flush=True)
        while not select.select([sys.stdin], [], [], EVERY_S)[0]:
            begun = time.perf_counter()
            connection.sendall(message)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            times.append((time.perf_counter() - begun) * 1000)
    return times


@asynccontextmanager
async def probe(url: str) -> AsyncIterator[list[float]]:
    """Ask the service at `url` while the block runs; the list is full when it has ended."""
    command = [sys.executable, "-m", "tests.bench.probe", url]
    child = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    times: list[float] = []
    try:
        assert child.stdout is not None
        await child.stdout.readline()
        yield times
    finally:
        told, _ = await child.communicate(b"\n")
        times += json.loads(told)


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1])))
