"""A real browser for tests: Debian's Chromium, driven by Playwright; its pages must be quiet and stay at home."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

from tests.servers import missing

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Pictures of pages, for people: an artefact of the run and never part of the repository.
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", Path(__file__).parent.parent / "build" / "screenshots"))
STEP_MS = 20_000
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@dataclass
class Watched:
    """What a page did that a user would not see: errors, and requests by the host they went to."""

    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def watch(self, page: Page) -> None:
        """Listen to `page`."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """A browser of its own; without Chromium the test is skipped, and fails in CI."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("chromium")
    usual = ["--disable-dev-shm-usage", "--disable-gpu", *flags]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=usual, chromium_sandbox=os.geteuid() != 0
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_in(
    browser: Browser, *, quiet: bool = True, allowed: Iterable[str] = (), **options: Any
) -> AsyncIterator[Page]:
    """A page in a context of its own (storage, cache); `options` are Playwright's for a context.

    At the end it must have been quiet, unless `quiet` is off: no error in its console but those that hold one of the
    `allowed` words (a refused call is one, which nobody can keep out of the console).
    """
    watched = Watched()
    context = await browser.new_context(**({"viewport": DESKTOP, "reduced_motion": "reduce"} | options))
    context.set_default_timeout(STEP_MS)
    try:
        page = await context.new_page()
        watched.watch(page)
        page.__dict__["watched"] = watched
        yield page
        wrong = [error for error in watched.errors if not any(word in error for word in allowed)]
        assert not quiet or not wrong, wrong
    finally:
        await context.close()


def hosts_of(page: Page) -> set[str]:
    """The hosts, with their ports, that a page of `page_in` has asked for anything."""
    watched: Watched = page.__dict__["watched"]
    return watched.hosts


async def picture(page: Page, name: str) -> None:
    """Keep a picture of the whole page as `name`.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


async def violations(page: Page) -> list[str]:
    """What axe has to say against the page as it stands, one line each."""
    found = (await Axe().run(page)).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]
