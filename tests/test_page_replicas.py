"""The page behind nginx while the replicas that serve it are killed, one after the other."""

from __future__ import annotations

import re
import signal
import zipfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from tests.browser import chromium, page_in, picture, violations
from tests.fleet import Replica, fleet
from tests.gated import gated_source
from tests.nginx import nginx
from tests.waiting import wait_until

FILES, HELD = 20, 4
# A worker that is killed is found out sooner than usual, so that the test need not wait for the usual time.
QUICK = {"lease_s": 2, "renew_s": 0.5, "reap_s": 0.5}
STREAMS, JOBS = "downloader_sse_connections", "downloader_worker_jobs"
# Notes what a person sees of the bar, with the attempt it belongs to, and how the connection is.
WATCH = """
window.bars = []; window.connections = [];
document.addEventListener("job-connection", (event) => connections.push(event.detail.state));
window.element = document.querySelector("download-job");
const bar = element.shadowRoot.querySelector("[role=progressbar]");
const fill = bar.firstElementChild;
new MutationObserver(() => {
  if (element.state === "processing") bars.push([element.job.attempt, parseInt(fill.style.inlineSize)]);
}).observe(bar, { subtree: true, attributes: true });
"""


async def _busy(session: aiohttp.ClientSession, replicas: list[Replica], what: str) -> Replica | None:
    """The replica whose figure `what` is not 0, if one has any."""
    for replica in replicas:
        async with session.get(f"http://{replica.address}/metrics") as answer:
            found = re.search(rf"^{what} (\d+)", await answer.text(), re.MULTILINE)
            if found and int(found[1]):
                return replica
    return None


async def _kill(session: aiohttp.ClientSession, alive: list[Replica], what: str) -> None:
    """SIGKILL the replica that has the page's stream (STREAMS) or the job (JOBS)."""
    replica = await wait_until(lambda: _busy(session, alive, what))
    alive.remove(replica)
    await replica.end(signal.SIGKILL)


@pytest.mark.slow
async def test_replicas_die_under_the_page(
    settings: dict[str, Any], session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Twenty files; the replica that serves the page is killed in mid-job, and the page is back by itself at another.

    Then the one that is at work is killed, and the job goes on. The bar never falls; the file opens.
    """
    ours = settings | {"access": {"open": True}, "worker": QUICK}
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(gated_source())
        alive = list(await stack.enter_async_context(fleet(ours, tmp_path)))
        api = await stack.enter_async_context(nginx(tmp_path, session, [replica.address for replica in alive]))
        browser = await stack.enter_async_context(chromium())
        page = await stack.enter_async_context(page_in(browser, allowed=("Failed to load resource", "net::ERR")))
        await page.goto(api.base)
        links = [source.url(100_000 + n, "page", f"part-{n:02}.bin") for n in range(FILES - HELD)]
        await page.fill("#links", "\n".join([*links, *(source.held(200_000 + n) for n in range(HELD))]))
        await page.click("[type=submit]")
        await expect(page.locator("download-job [part~=status]")).to_contain_text("16 of 20 files", timeout=20_000)
        await page.evaluate(WATCH)
        await _kill(session, alive, STREAMS)
        await wait_until(lambda: page.evaluate("connections.join()"))
        await wait_until(lambda: page.evaluate("connections.at(-1) === 'open'"), within_s=40)
        assert (await page.evaluate("connections"))[0] == "reconnecting"
        await picture(page, "page-another-replica")
        await _kill(session, alive, JOBS)
        await wait_until(
            lambda: page.evaluate("element.job.attempt > 1 && element.job.filesCompleted === 16"), within_s=40
        )
        assert await violations(page) == []
        source.gate.set()
        async with page.expect_download() as coming:
            await page.get_by_role("link", name="Download archive").click(timeout=40_000)
        with zipfile.ZipFile(await (await coming.value).path()) as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) == FILES
            assert archive.read("part-07.bin") == source.data(100_007, "page")
        bars = await page.evaluate("bars")
        assert {attempt for attempt, _ in bars} > {1}
        shares = [share for _, share in bars]
        assert shares == sorted(shares), "the bar fell"
