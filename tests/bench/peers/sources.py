"""Where the contestants fetch from: nginx, and for slow sources a small server with manners."""

from __future__ import annotations

import asyncio
import html
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from aiohttp import web

from tests.bench.peers.workloads import Workload
from tests.bench.process import process
from tests.servers import free_ports, http_answers

# What is sent at once by a source that sends slowly.
PIECE_S = 0.02

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; autoindex on;
    default_type application/octet-stream;
    types {{ text/plain txt; }}
    {temporary}
    server {{ listen 127.0.0.1:{port} backlog=512; root {root}; }}
}}
"""


@contextmanager
def source(workload: Workload, root: Path, folder: Path) -> Iterator[str]:
    """Serve the files in `root` as the workload says; gives the address of the folder, with a slash at its end."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        print("nginx is not installed (Debian: nginx-light): a small server takes its place, and is slower")
    if nginx is None or workload.delay_s:
        manners = (str(root), str(workload.delay_s), str(workload.rate))
        with process("tests.bench.peers.sources", *manners) as (_, port):
            yield f"http://127.0.0.1:{port}/"
        return
    with _nginx(nginx, root, folder) as port:
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def _nginx(program: str, root: Path, folder: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, user=user, temporary=temporary, port=port, root=root))
    child = subprocess.Popen([program, "-c", str(conf), "-p", str(folder), "-e", "stderr"])
    try:
        while not http_answers(f"http://127.0.0.1:{port}/"):
            time.sleep(0.02)
        yield port
    finally:
        child.terminate()
        child.wait()


async def _send(request: web.Request) -> web.StreamResponse:
    """A file after the delay, at the rate; the list of all files at the root, as nginx's autoindex has it."""
    root, delay_s, rate = request.app[MANNERS]
    name = request.match_info["name"]
    if not name:
        links = "".join(f'<a href="{html.escape(path.name)}">{path.name}</a>\n' for path in sorted(root.iterdir()))
        return web.Response(text=f"<html><body><pre>{links}</pre></body></html>", content_type="text/html")
    content = (root / name).read_bytes()
    response = web.StreamResponse(
        headers={"Content-Length": str(len(content)), "Content-Type": "application/octet-stream"}
    )
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    await asyncio.sleep(delay_s)
    begun = time.monotonic()
    await response.prepare(request)
    piece = max(1, int(rate * PIECE_S)) if rate else len(content)
    for start in range(0, len(content), piece):
        await response.write(content[start : start + piece])
        await asyncio.sleep(begun + (start + piece) / rate - time.monotonic() if rate else 0)
    return response


MANNERS = web.AppKey("manners", tuple[Path, float, int])


async def main(root: str, delay_s: str, rate: str) -> None:
    """Serve on a free port of loopback until it is ended; the first line tells the port."""
    app = web.Application()
    app[MANNERS] = (Path(root), float(delay_s), int(rate))
    app.router.add_get("/{name:[^/]*}", _send)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
