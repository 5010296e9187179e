"""A source of files for measurements, in a process of its own: `python -m tests.bench.origin` prints its port."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from aiohttp import web

SENT = web.AppKey("sent", list[int])
BLOCK = random.Random(7).randbytes(1024 * 1024)
TEXT = b"".join(b"%08x GET /orders/%d 200\n" % (n * 2654435761 % 2**32, n) for n in range(40_000))[: 1024 * 1024]


async def send_file(request: web.Request) -> web.StreamResponse:
    """`/file/{name}?size=&delay_s=&text=&cut=`: `size` bytes, which compress with `text`; with `cut` it ends there."""
    size = int(request.query["size"])
    block = TEXT if "text" in request.query else BLOCK
    await asyncio.sleep(float(request.query.get("delay_s", "0")))
    end = int(request.query.get("cut", size))
    response = web.StreamResponse(headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"})
    sent = 0
    with suppress(ConnectionResetError):  # the caller has heard enough
        await response.prepare(request)
        while sent < end:
            piece = block[: min(len(block), end - sent)]
            await response.write(piece)
            sent += len(piece)
            request.app[SENT][0] += len(piece)
    if end < size and request.transport is not None:
        request.transport.abort()
    return response


async def tell_sent(request: web.Request) -> web.Response:
    """`/sent`: bytes of all files so far."""
    return web.Response(text=str(request.app[SENT][0]))


async def main() -> None:
    """Serve on a free port of the loopback until killed."""
    app = web.Application()
    app[SENT] = [0]
    app.router.add_get("/sent", tell_sent)
    app.router.add_get("/file/{name}", send_file)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
