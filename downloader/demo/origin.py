"""A web server on loopback that hands out the demo's files, most of them well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from downloader.demo.files import DemoFile, Manner

SLOW_S = 3.0
DROPS = 30
SHUTDOWN_S = 1.0


@asynccontextmanager
async def serving(files: Sequence[DemoFile]) -> AsyncIterator[str]:
    """Serve the files for as long as the block runs; yields the base URL."""
    by_name = {file.name: file for file in files}

    async def answer(request: web.Request) -> web.StreamResponse:
        file = by_name.get(request.match_info["name"])
        return await _answer(request, file)

    app = web.Application()
    app.router.add_get("/files/{name}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _answer(request: web.Request, file: DemoFile | None) -> web.StreamResponse:
    if file is None or file.manner is Manner.NOT:
        raise web.HTTPNotFound(text="There is no such file here any more.\n")
    response = web.StreamResponse(headers={"Content-Type": file.content_type})
    response.content_length = await asyncio.to_thread(file.size)
    await response.prepare(request)
    match file.manner:
        case Manner.SLOWLY:
            await _drip(response, file)
        case Manner.CUT:
            await _cut(request, response, file)
        case _:
            for block in file.blocks():
                await response.write(block)
    return response


async def _drip(response: web.StreamResponse, file: DemoFile) -> None:
    content = b"".join(file.blocks())
    drop = -(-len(content) // DROPS)
    for start in range(0, len(content), drop):
        await response.write(content[start : start + drop])
        await asyncio.sleep(SLOW_S / DROPS)


async def _cut(request: web.Request, response: web.StreamResponse, file: DemoFile) -> None:
    """Send a third of what was announced, then hang up."""
    content = b"".join(file.blocks())
    await response.write(content[: len(content) // 3])
    if request.transport is not None:
        request.transport.close()
