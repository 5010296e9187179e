"""Where the examples of one page run, block after block: a shell, a Python, a browser that keep what they know."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright._impl._driver import compute_driver_executable
from playwright.async_api import CDPSession, Page

from tests.browser import chromium, page_in
from tests.sources import answering

WITHIN_S = 60
DONE = "--- the block is done ---"
# Runs the files named on its standard input in one namespace, as the lines of one long session.
PYTHON = f"""
import sys
namespace = {{"__name__": "__main__"}}
for path in sys.stdin:
    with open(path.strip(), encoding="utf-8") as file:
        exec(compile(file.read(), path.strip(), "exec"), namespace)
    print("\\n{DONE}", flush=True)
"""
BLANK = "<!doctype html><html lang=en><meta charset=utf-8><title>Your site</title>"


@dataclass
class Session:
    """A process that runs files, one for each block; what it says on standard error goes to `errors`."""

    process: asyncio.subprocess.Process
    folder: Path
    language: str
    errors: Path
    count: int = 0

    async def run(self, text: str) -> str:
        """Run a block; gives what it said on standard output. One that fails ends the test."""
        self.count += 1
        path = self.folder / f".block-{self.count}.{self.language}"
        path.write_text(text, encoding="utf-8")
        line = f'source {path} </dev/null; printf "\\n%s\\n" "{DONE}"' if self.language == "sh" else str(path)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        return await self._said(text)

    async def _said(self, text: str) -> str:
        said: list[str] = []
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            async for raw in self.process.stdout:
                line = raw.decode()
                if line.strip() == DONE:
                    return "".join(said).rstrip("\n") + "\n"
                said.append(line)
        raise AssertionError(f"it ended:\n{text}\n{''.join(said)}\n{self.errors.read_text(encoding='utf-8')}")


@asynccontextmanager
async def session(language: str, folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Session]:
    """A shell (`sh`) or a Python (`python`) in `folder`; whatever it left running ends with it."""
    program = ["bash", "-euo", "pipefail"] if language == "sh" else [sys.executable, "-u", "-c", PYTHON]
    errors = folder / f".errors.{language}"
    with errors.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *program,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            start_new_session=True,
            limit=2**22,
        )
    try:
        yield Session(process, folder, language, errors)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@dataclass
class Browser:
    """A page of somebody's site in which the blocks run one after the other, `await` and all."""

    page: Page
    cdp: CDPSession
    said: list[str]

    async def run(self, text: str) -> str:
        """Run a block; gives what it logged. One that throws ends the test."""
        self.said.clear()
        if text.lstrip().startswith("import "):
            await self._module(text)
        else:
            await self._line(text)
        return "\n".join(self.said) + "\n"

    async def _line(self, text: str) -> None:
        """As typed into the browser's console."""
        asked = {"expression": text, "replMode": True, "awaitPromise": True, "userGesture": True}
        async with asyncio.timeout(WITHIN_S):
            answer = await self.cdp.send("Runtime.evaluate", asked)
        wrong = answer.get("exceptionDetails")
        assert wrong is None, json.dumps(wrong)

    async def _module(self, text: str) -> None:
        """As a module of the page; its imports must be there, and it must come to its end."""
        await self.page.evaluate(
            """text => new Promise((done, failed) => {
                window.blockIsDone = done;
                const script = document.createElement("script");
                script.type = "module";
                script.textContent = text + "\\n;window.blockIsDone();";
                window.addEventListener("error", event => failed(event.error ?? event.message), { once: true });
                script.onerror = () => failed(new Error("an import is not there"));
                document.head.append(script);
            })""",
            text,
        )


@asynccontextmanager
async def browser(html: str = BLANK, *, allowed: Iterable[str] = ()) -> AsyncIterator[Browser]:
    """A browser on a site of its own, whose only page is `html`; it must have been quiet, as in `page_in`."""

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    async def icon(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    site = web.Application()
    site.router.add_get("/", show)
    site.router.add_get("/favicon.ico", icon)
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(answering(site))
        page = await stack.enter_async_context(page_in(await stack.enter_async_context(chromium()), allowed=allowed))
        said: list[str] = []
        page.on("console", lambda line: said.append(line.text))
        await page.goto(base)
        yield Browser(page, await page.context.new_cdp_session(page), said)


def node() -> str:
    """Playwright's own Node.js."""
    return str(compute_driver_executable()[0])


async def at_end(*command: str, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed; gives what it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WITHIN_S):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


def objects(text: str) -> list[Any]:
    """The JSON values in a text that has nothing else, one behind the other."""
    decoder, found, rest = json.JSONDecoder(), [], text.lstrip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found
