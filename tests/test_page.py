"""The page for people: what it is made of by plain HTTP, and what it does in a real browser."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Browser, FilePayload, Page, expect

from downloader.operate import maintenance
from downloader.web import assets
from tests.api import Api
from tests.browser import DESKTOP, PHONE, chromium, hosts_of, page_in, picture, violations
from tests.conftest import Start, merged
from tests.files import Origin
from tests.gated import Gated, gated_source
from tests.servers import missing
from tests.sources import answering
from tests.tenants import make_key
from tests.test_cli import serving
from tests.waiting import wait_until

HTML = {"Accept": "text/html"}
FILES = ("/download-job.js", *(f"/assets/{name}" for name in sorted(assets.ASSETS) if not name.startswith("admin")))
PAGE_BYTES_MOST = 40_000  # of the page with everything it loads, packed as it travels
SIZES = ((DESKTOP, "desktop"), (PHONE, "phone"))
LOOKS = tuple((size, name, scheme) for (size, name), scheme in product(SIZES, ("light", "dark")))

slow = pytest.mark.slow
expect.set_options(timeout=20_000)


# What it is made of


async def test_the_page_is_for_people_and_the_document_for_programs(api: Api) -> None:
    """A browser gets the page under a policy without exceptions; who prefers JSON gets the service document."""
    page = await api.call("GET", "/", headers=HTML)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    text = page.raw.decode()
    assert api.base in text
    assert not re.search(r"<style|style=|<script(?! type=\"module\" src)| on\w+=", text)
    # Relative, so that the page stands behind a path of a proxy's too.
    assert set(re.findall(r'(?:src|href)="([^"#][^"]*)"', text)) <= {name[1:] for name in (*FILES, "/docs", "/health")}
    program = await api.call("GET", "/", headers={"Accept": "application/json"})
    assert program.body["name"] == "downloader"
    assert "Accept" in program.headers["Vary"]
    assert "Accept" in page.headers["Vary"]


async def test_a_file_is_sent_once(api: Api) -> None:
    """Each file is kept by its tag and asked for again at no cost; HEAD tells the same; packed where that is taken."""
    plain = {"Accept-Encoding": "identity", **HTML}
    for path in ("/", "/download-job.d.ts", *FILES):
        first = await api.call("GET", path, headers=plain)
        assert (first.status, first.headers["Cache-Control"]) == (200, "no-cache")
        assert "Accept-Encoding" in first.headers["Vary"]
        again = await api.call("GET", path, headers=plain | {"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.raw) == (304, b"")
        head = await api.call("HEAD", path, headers=plain)
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(first.raw)))
        packed = await api.call("GET", path, headers=HTML | {"Accept-Encoding": "gzip"})
        assert (packed.raw, packed.headers["Content-Encoding"]) == (first.raw, "gzip")
        assert packed.headers["ETag"] != first.headers["ETag"]


async def test_media_types_and_who_may_include_them(api: Api) -> None:
    """Browsers run no script of a wrong type; the element is for every site, the page's own files are not."""
    kinds = {
        "/download-job.js": "text/javascript",
        "/download-job.d.ts": "text/plain",
        "/assets/page.css": "text/css",
        "/assets/main.js": "text/javascript",
        "/assets/icon.svg": "image/svg+xml",
    }
    for path, kind in kinds.items():
        answer = await api.call("GET", path, headers={"Origin": "https://shop.example"})
        assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        own = path.startswith("/assets/")
        assert answer.headers.get("Access-Control-Allow-Origin") == (None if own else "*"), path
        assert answer.headers["Cross-Origin-Resource-Policy"] == ("same-origin" if own else "cross-origin")


async def test_no_name_becomes_a_path(api: Api) -> None:
    """Only what stands in the table is served."""
    for name in ("nothing.js", "index.html", "docs.css", "..%2Ffront.py", "%2e%2e%2ffront.py", "%00"):
        answer = await api.call("GET", f"/assets/{name}")
        assert (answer.status, answer.body["code"]) == (404, "not_found")


async def test_the_page_is_small(api: Api) -> None:
    """All that a first visit loads fits the budget."""
    bodies = [(await api.call("GET", path, headers=HTML)).raw for path in ("/", *FILES)]
    assert sum(len(gzip.compress(body)) for body in bodies) < PAGE_BYTES_MOST


# What it does


@asynccontextmanager
async def visiting(browser: Browser, base: str, path: str = "/", **options: Any) -> AsyncIterator[Page]:
    """A visitor's page, loaded; the console may name refused calls only."""
    options.setdefault("allowed", ("Failed to load resource",))
    async with page_in(browser, **options) as page:
        await page.goto(base + path)
        yield page


async def submit(page: Page, *lines: str) -> str:
    """Type a list and send it; gives the id of the job that opens."""
    known = await page.locator(".job").count()
    await page.fill("#links", "\n".join(lines))
    await page.click("[type=submit]")
    await expect(page.locator(".job")).to_have_count(known + 1)
    return str(await page.locator(".job").first.locator(".id code").text_content())


def job(page: Page, state: str) -> Any:
    """The jobs in this state."""
    return page.locator(f'.job[data-state="{state}"]')


async def saved(page: Page) -> bytes:
    """What the button of the open job downloads."""
    async with page.expect_download() as started:
        await page.locator("download-job").get_by_role("link", name="Download archive").click()
    return Path(await (await started.value).path()).read_bytes()


class Site(Gated):
    """A source that asks for a login where a file is meant to be."""

    def login(self) -> str:
        """A web page under the name of a PDF."""
        return f"{self.base}/login/report.pdf"

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/login/{name}", self._login)
        return app

    async def _login(self, request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Log in</title><form></form>", content_type="text/html")


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Run it on a free port of the loopback."""
    origin = Site()
    async with answering(origin.app()) as origin.base:
        yield origin


@slow
async def test_the_whole_story(api: Api) -> None:
    """Six links, good and bad: rows fill, the missing have reasons, digests are those of the bytes, the ZIP opens."""
    async with site() as origin, chromium() as browser, visiting(browser, api.base, accept_downloads=True) as page:
        good = [origin.url(300_000 + n, "story", f"part-{n}.bin") for n in range(3)]
        links = [*good, origin.held(2_000_000), f"{origin.status(404)}/gone.pdf", origin.login()]
        await page.fill("#links", "\n".join(links))
        await expect(page.locator("#count")).to_have_text("6 links")
        await page.click("[type=submit]")
        rows = page.locator(".files li")
        await expect(rows).to_have_count(6)
        await expect(page.locator('.files li[data-state="done"]')).to_have_count(3)
        await expect(page.locator("download-job").get_by_role("progressbar")).to_have_attribute(
            "aria-valuenow", re.compile(r"\d+")
        )
        await expect(rows.nth(3)).to_have_attribute("data-state", "fetching")
        origin.gate.set()
        await expect(job(page, "partly")).to_have_count(1)
        await expect(rows.nth(4).locator(".why")).to_contain_text("404")
        await expect(rows.nth(5).locator(".why")).to_contain_text("html")
        assert await rows.nth(4).locator(".why a").get_attribute("href") == f"{api.base}/errors/http_status%3A404"
        for n in range(3):
            digest = hashlib.sha256(origin.data(300_000 + n, "story")).hexdigest()
            await expect(rows.nth(n).locator(".sha")).to_have_text(digest)
        with zipfile.ZipFile(io.BytesIO(await saved(page))) as archive:
            assert archive.testzip() is None
            assert archive.read("part-1.bin") == origin.data(300_001, "story")
            assert "MISSING-FILES.txt" in archive.namelist()
        await page.get_by_role("button", name="Failed 2").click()
        await expect(rows).to_have_count(2)
        store = {urlsplit(url).netloc for url in await page.eval_on_selector_all("download-job", LINKS)}
        assert hosts_of(page) - store == {urlsplit(api.base).netloc}


LINKS = "all => all.map(one => one.shadowRoot.querySelector('a').href)"


@slow
async def test_cancel_retry_and_remove(api: Api) -> None:
    """A job is cancelled in the middle, its retry is a new job, and what is removed is asked about first."""
    async with gated_source() as origin, chromium() as browser, visiting(browser, api.base) as page:
        first = await submit(page, origin.held(100_000), origin.url(1000, "kept"))
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await expect(job(page, "cancelled")).to_have_count(1)
        origin.gate.set()
        await page.get_by_role("button", name="Retry all").click()
        await expect(job(page, "ready")).to_have_count(1)
        assert await page.locator(".job .head[aria-expanded=true]").count() == 1
        await page.get_by_role("button", name="Remove", exact=True).click()
        await page.get_by_role("button", name="Keep it").click()
        await expect(page.locator(".job")).to_have_count(2)
        await page.get_by_role("button", name="Remove", exact=True).click()
        await page.locator("#sure").get_by_role("button", name="Remove").click()
        await expect(page.locator(".job")).to_have_count(1)
        await page.goto(f"{api.base}/#job={first}")
        await expect(job(page, "cancelled").locator(".body")).to_be_visible()


@slow
async def test_what_could_not_be_read_is_read_later(api: Api) -> None:
    """A job that is opened in an outage shows as soon as that is over; a refusal is told, and stays to be read."""
    async with gated_source() as origin, chromium() as browser, visiting(browser, api.base) as page:
        await submit(page, origin.endless(), origin.url(1000, "a"))
        await page.locator(".job .head").click()
        await page.route("**/status/**", lambda route: route.abort())
        await page.locator(".job .head").click()
        await expect(page.locator("#notice")).to_contain_text("cannot be reached")
        await page.unroute("**/status/**")
        await expect(page.locator("download-job [role=progressbar]")).to_be_visible()
        await expect(page.locator("#notice")).to_be_empty()
        busy = {"code": "rate_limited", "title": "Slow down", "detail": "Too many changes.", "status": 429}
        refusal = {"status": 429, "headers": {"Retry-After": "7"}, "json": busy}
        await page.route("**/cancel", lambda route: route.fulfill(**refusal))
        await page.evaluate(WATCH_BARS)
        await page.get_by_role("button", name="Cancel", exact=True).click()
        said = page.locator(".job .error")
        await expect(said).to_have_text("Too many changes. Try again in 7 s.")
        await wait_until(lambda: page.evaluate("window.bars.length > 3"))
        await expect(said).to_have_text("Too many changes. Try again in 7 s.")
        await page.unroute("**/cancel")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.locator(".job .acts").evaluate(CLICK_ON)
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await expect(job(page, "cancelled")).to_have_count(1)
        await expect(page.get_by_role("button", name="Retry all")).to_be_enabled()
        await expect(page.locator(".job")).to_have_count(1)
        assert not any("/retry" in url for url in asked)  # the second click was not for what stands there now
        await expect(said).to_be_empty()


@slow
async def test_one_wish_is_one_job(api: Api, origin: Origin) -> None:
    """A double click on Retry makes one job; a clock that goes wrong makes no archive expired."""
    async with chromium() as browser, visiting(browser, api.base) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
        await submit(page, origin.status(404))
        await expect(job(page, "failed")).to_have_count(1)
        await page.get_by_role("button", name="Retry", exact=True).dblclick()
        await expect(page.locator(".job")).to_have_count(2)
        await expect(job(page, "failed")).to_have_count(2)
        assert [url.rpartition("/")[2] for url in asked] == ["initiate", "retry"]
        done = await submit(page, origin.url(10, "a"), "http//typo.example/b")
        await expect(page.locator("#links")).to_have_value("http//typo.example/b")  # to be put right
        await expect(job(page, "ready")).to_have_count(1)
        await page.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=30))
        await page.goto(f"{api.base}/#job={done}")
        await page.reload()
        await expect(job(page, "ready").get_by_role("link", name="Download archive")).to_be_visible()


@slow
async def test_a_reload_loses_nothing(api: Api) -> None:
    """After a reload the job goes on where it was, what was typed is there, and what has gone can be forgotten."""
    async with gated_source() as origin, chromium() as browser, visiting(browser, api.base) as page:
        await submit(page, origin.held(100_000), origin.url(1000, "a", "a.bin"))
        await page.fill("#links", "https://example.com/half-typed")
        await expect(page.locator("#count")).to_have_text("1 link")
        await page.reload()
        await expect(page.locator("#links")).to_have_value("https://example.com/half-typed")
        await expect(job(page, "processing").locator(".files li")).to_have_count(2)
        origin.gate.set()
        await expect(job(page, "ready")).to_have_count(1)
        job_id = await page.locator(".id code").text_content()
        await api.call("DELETE", f"/v1/download/{job_id}")
        await page.reload()
        await expect(job(page, "gone")).to_have_count(1)
        await page.get_by_role("button", name="Forget it").click()
        await expect(page.locator(".job")).to_have_count(0)
        assert await page.evaluate("localStorage.getItem('downloader.jobs')") == "[]"


@slow
async def test_it_follows_a_service_that_starts_again(settings: dict[str, Any], tmp_path: Path) -> None:
    """The service goes away in mid-job: the page says so, finds the next one by itself, and its bar never goes back."""
    async with gated_source() as origin, chromium() as browser:
        async with serving(settings, tmp_path) as (process, base):
            visit = visiting(browser, base, quiet=False)
            page = await visit.__aenter__()
            await page.evaluate(WATCH_BARS)
            await submit(page, origin.held(400_000), *(origin.url(50_000 + n, "again") for n in range(7)))
            await expect(page.locator('.files li[data-state="done"]')).to_have_count(7)
            process.terminate()
            await process.wait()
        await expect(page.get_by_text("Reconnecting…")).to_be_visible()
        for size, name, scheme in LOOKS:
            await looked_at(page, "reconnecting", size, name, scheme)
        await page.fill("#links", origin.url(10, "while-away"))
        await page.click("[type=submit]")
        await expect(page.locator("#refused")).to_contain_text("cannot be reached")
        async with serving(settings, tmp_path, f"--set=server.port={urlsplit(base).port}"):
            origin.gate.set()
            await expect(job(page, "ready")).to_have_count(1)
            bars = await page.evaluate("window.bars")
            assert bars == sorted(bars)
            await page.click("[type=submit]")
            await expect(page.locator(".job")).to_have_count(2)
            await expect(page.locator("#links")).to_have_value("")
            await visit.__aexit__(None, None, None)


# Goes on clicking for a moment where a button was that is gone, as an impatient hand does.
CLICK_ON = """(box) => new MutationObserver(() => {
  const again = setInterval(() => box.firstElementChild.click(), 20);
  setTimeout(() => clearInterval(again), 300);
}).observe(box, { childList: true })"""

# Every value that the bar has had, as long as it is one attempt's.
WATCH_BARS = """() => {
  window.bars = [];
  document.addEventListener("job-progress", (event) => window.bars.push(event.detail.job.progress));
}"""


@slow
async def test_a_key_is_asked_for_once_and_kept_by_the_tab(
    start: Start, settings: dict[str, Any], origin: Origin
) -> None:
    """A wrong key is told, the right one does what was asked; it is in session storage and nowhere else."""
    _, key = await make_key(settings, "acme")
    async with start(access={"open": False}) as api, chromium() as browser, visiting(browser, api.base) as page:
        await page.fill("#links", origin.url(1000, "k", "k.bin"))
        await page.click("[type=submit]")
        field = page.get_by_label("Key", exact=True)
        await field.fill("dl_wrong")
        await field.press("Enter")
        await expect(page.locator("#key-wrong")).to_contain_text("not valid")
        await looked_at(page, "key", DESKTOP, "desktop", "light")
        await field.fill(key)
        await page.get_by_role("button", name="Use key").click()
        await expect(job(page, "ready")).to_have_count(1)
        await expect(page.locator("#links")).to_have_value("")
        await page.get_by_text("The same with curl").click()
        await expect(page.locator(".curl pre").nth(1)).to_contain_text("$DOWNLOADER_KEY")
        assert await page.evaluate("sessionStorage.getItem('downloader.key')") == key
        secret = key.rpartition("_")[2]
        kept = await page.evaluate(
            "JSON.stringify([{...localStorage}, location.href, document.documentElement.outerHTML])"
        )
        typed = await page.evaluate("[...document.querySelectorAll('input')].map((field) => field.value).join()")
        assert secret not in kept + typed
        assert "token=" not in await page.evaluate("JSON.stringify({...localStorage})")
        await page.reload()
        await expect(job(page, "ready")).to_have_count(1)
        await page.get_by_role("button", name="Forget key").click()
        assert await page.evaluate("sessionStorage.getItem('downloader.key')") is None
        await expect(page.locator("#key")).to_be_hidden()


@slow
async def test_the_service_says_no(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """What the service refuses stands at its line or field, in its words; nothing typed is lost."""
    sent = ["https://example.com/a", "http://exa mple.com", "https://:99999/x", "s3://elsewhere/key"]
    async with (
        start(limits={"initiate_per_minute": 1}) as api,
        chromium() as browser,
        visiting(browser, api.base) as page,
    ):
        await page.fill("#links", "\n".join(sent))
        await page.click("#options summary")
        await page.fill("#callbackUrl", "https://example.com/hook")
        await page.click("[type=submit]")
        await expect(page.locator("#callbackUrl-wrong")).to_contain_text("webhook.secret")
        await expect(page.locator("#callbackUrl")).to_be_focused()
        await page.fill("#callbackUrl", "")
        await page.click("[type=submit]")
        await expect(page.locator("#faults")).to_contain_text("names bucket")
        await expect(page.locator("#faults")).to_contain_text("Line 4")
        assert await page.locator("#links").input_value() == "\n".join(sent)
        await page.get_by_role("button", name="Line 4").click()
        assert await page.evaluate("getSelection().toString() || document.activeElement.id") in {"links", sent[3]}
        assert await maintenance(merged(settings, {}), print, print, "on", "Back at 5.") == 0
        await page.fill("#links", origin.url(10, "once"))
        await page.click("[type=submit]")
        await expect(page.locator("#refused")).to_contain_text("Back at 5.")
        assert await maintenance(merged(settings, {}), print, print, "off", "") == 0
        await submit(page, origin.url(10, "once"))
        await page.fill("#links", origin.url(10, "twice"))
        await page.click("[type=submit]")
        await expect(page.locator("#refused")).to_contain_text(re.compile(r"Try again in \d+ s"))


def link(number: int, **more: Any) -> dict[str, Any]:
    """A link of the lists below as the page understands it."""
    return {"url": f"https://a.example/{number}", **more}


Case = tuple[str, list[dict[str, Any]], list[tuple[int, str]]]
LINES: tuple[Case, ...] = (
    ("", [], []),
    ("https://a.example/1\n\n  https://a.example/2  \n# no", [link(1), link(2)], []),
    ("report.pdf\thttps://a.example/1", [link(1, name="report.pdf")], []),
    ("Q1, final.pdf, https://a.example/1", [link(1, name="Q1, final.pdf")], []),
    ("a,https://a.example/1,2?b=c,d", [{"url": "https://a.example/1,2?b=c,d", "name": "a"}], []),
    ("https://a.example/1 report.pdf", [link(1, name="report.pdf")], []),
    ("https://a.example/1 https://a.example/2", [link(1), link(2)], []),
    ("- <https://a.example/1>\n2. [b.pdf](https://a.example/2)", [link(1), link(2, name="b.pdf")], []),
    ('"https://a.example/1",\r\n"https://a.example/2"', [link(1), link(2)], []),
    ("HTTPS://A.example/%20?q='\"&x=1", [{"url": "HTTPS://A.example/%20?q='\"&x=1"}], []),
    ("s3://bucket/key with.pdf", [{"url": "s3://bucket/key", "name": "with.pdf"}], []),
    ("www.example.com/a", [], [(1, "has no https:// in front")]),
    ("javascript:alert(1)", [], [(1, "starts with none of https://, http://, s3://")]),
    ("x\nhttps://a.example/1\nhttps://", [link(1)], [(1, "is no link"), (3, "names no host")]),
    ("see https://a.example/1", [], [(1, "needs a comma or a tab between name and link")]),
)
TABLES: tuple[Case, ...] = (
    ('name,url\n"a ""b"", c",https://a.example/1\n\n,https://a.example/2', [link(1, name='a "b", c'), link(2)], []),
    (
        "File Name;Link;Size;sha256\nA;https://a.example/1;12;ff\nB;nothing;;",
        [link(1, name="A", size=12, checksum="sha256:ff")],
        [(3, "is no link")],
    ),
    ('id,url,note\n1,https://a.example/1,"two\nlines"\n2,x,', [link(1, id="1")], [(4, "is no link")]),
    ("\ufeffurl\nhttps://a.example/1", [link(1)], []),
    (
        '<p><a href="https://a.example/1">x</a>\n<a href="#top">y</a> <a href="javascript:1">z</a>',
        [link(1)],
        [(2, "starts with none of https://, http://, s3://")],
    ),
)
DOCUMENTS: tuple[Case, ...] = (
    ('["https://a.example/1", {"url": "https://a.example/2", "size": 5}]', [link(1), link(2, size=5)], []),
    ('{"files": [{"url": "https://a.example/1"}], "archiveName": "x"}', [link(1)], []),
    (
        '{"file_ids": [7, 8], "source_urls": ["https://a.example/1", "https://a.example/2"]}',
        [link(1, id=7), link(2, id=8)],
        [],
    ),
    ('[\n"https://a.example/1",\n"nothing"\n]', [link(1)], [(3, "is no link")]),
    ("[1, 2", [], [(1, "is not valid JSON")]),
    ("null", [], [(1, "is no link")]),
    ("{}", [], [(1, "needs a list of links, or an object with files or source_urls")]),
    ("[null, 5, {}]", [], [(1, "is no link")] * 3),
)


@slow
async def test_lists_in_any_form(api: Api) -> None:
    """Lines, CSV, JSON, Markdown and HTML are understood, what is no link is named by its line; 10,000 are easy."""
    async with chromium() as browser, visiting(browser, api.base) as page:
        for text, files, errors in (*LINES, *TABLES, *DOCUMENTS):
            found = await page.evaluate("text => import('/assets/lists.js').then(({ parse }) => parse(text))", text)
            assert found["files"] == files, text
            told = [(error["line"], error["reason"]) for error in found["errors"]]
            assert len(told) == len(errors), (text, told)
            assert all(a[0] == b[0] and a[1].startswith(b[1]) for a, b in zip(told, errors, strict=True)), (text, told)
        many = "\n".join(f"https://a.example/{n}" for n in range(10_000))
        assert await page.evaluate(TIME_OF_PARSE, many) < 500
        assert await page.evaluate(TIME_OF_PARSE, json.dumps(many.split())) < 500
        await _paste(page, f"{many}\nhttps://a.example/0\nno link")
        await expect(page.locator("#count")).to_have_text("10,001 links · 1 twice · 1 line is no link")
        await page.check("#unique")
        await expect(page.get_by_role("button", name="Make archive of 10,000 links")).to_be_visible()
        await page.evaluate("document.getElementById('links').value = ''")
        await _paste(page, "two words", '<p><a href="https://a.example/1">two</a> <a href="/here">words</a>')
        await expect(page.locator("#count")).to_have_text("1 link")


async def _paste(page: Page, plain: str, html: str = "") -> None:
    """What the browser tells of a paste; to fill so much in by keys would take it minutes."""
    await page.evaluate(
        """([plain, html]) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", plain);
          clipboardData.setData("text/html", html);
          const told = { clipboardData, bubbles: true, cancelable: true };
          document.getElementById("links").dispatchEvent(new ClipboardEvent("paste", told));
        }""",
        [plain, html],
    )


TIME_OF_PARSE = """async (text) => {
  const { parse } = await import("/assets/lists.js");
  const begun = performance.now();
  parse(text);
  return performance.now() - begun;
}"""


@slow
async def test_the_curl_command_does_the_same(api: Api, origin: Origin) -> None:
    """What the page offers to copy starts the same job in a shell, whatever stands in the links."""
    if shutil.which("curl") is None:
        missing("curl")
    async with chromium() as browser, visiting(browser, api.base) as page:
        await submit(page, f"it's $HOME `x` \"y\".bin\t{origin.url(10, 'curl')}?a='b'&c=$(d)")
        await page.get_by_text("The same with curl").click()
        command = await page.locator(".curl pre").first.text_content() or ""
        large = await page.evaluate(
            "([base, body]) => import('/assets/curl.js').then((curl) => curl.start(base, body, true))",
            [api.base, {"files": [{"url": origin.url(1, f"{n}"), "name": "'JSON" * 10} for n in range(2000)]}],
        )
        for script in (command, large.replace('  -H "Authorization: Bearer $DOWNLOADER_KEY" \\\n', "")):
            told = json.loads(await _shell(script))
            asked = await api.call("GET", f"/v1/download/{told['jobId']}/files")
            names = {file["name"] or file["originalUrl"] for file in asked.body["files"]}
            assert told["status"] == "queued"
            assert names
            await api.call("DELETE", f"/v1/download/{told['jobId']}")


async def _shell(script: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-s"),
        env={"PATH": "/usr/bin:/bin", "DOWNLOADER_KEY": "dl_nobody", "HOME": "/"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate(script.encode())
    assert process.returncode == 0
    return said.decode()


@slow
async def test_hostile_names_are_only_text(api: Api, origin: Origin) -> None:
    """Markup, scripts and backward writing in names stay what they are: text in its own direction."""
    names = ["<img src=x onerror=alert(1)>.txt", "\u202egnp.exe\u202c.txt", "שלום.pdf", "x" * 180 + ".txt", "${1}.txt"]
    async with chromium() as browser, visiting(browser, api.base, viewport=PHONE) as page:
        files = [{"url": origin.url(10, f"h{n}"), "name": name} for n, name in enumerate(names)]
        await page.fill("#links", json.dumps({"files": files, "archiveName": "<b>evil</b>"}))
        await page.click("[type=submit]")
        await expect(job(page, "ready")).to_have_count(1)
        assert await page.locator(".files img, .job b, .job script").count() == 0
        await expect(page.locator(".files bdi.name").nth(2)).to_have_text("שלום.pdf")
        await expect(page.locator(".head bdi")).to_have_text("<b>evil</b>")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for url in ("javascript:alert(1)", "data:text/html,x", "", None):
            assert await page.evaluate("url => import('/assets/dom.js').then(({ safe }) => safe(url))", url) is None


@slow
async def test_a_list_is_dropped(api: Api) -> None:
    """A CSV dropped on the list is read at once; another that is dropped beside the list is added."""
    async with chromium() as browser, visiting(browser, api.base) as page:
        await _drop(page, "list.csv", "name,url\na.pdf,https://a.example/1\n")
        await expect(page.locator("#count")).to_have_text("1 link")
        await _drop(page, "more.json", '["https://a.example/2", "https://a.example/3"]', "h1")
        await expect(page.locator("#count")).to_have_text("3 links")
        assert (
            await page.locator("#links").input_value()
            == "a.pdf\thttps://a.example/1\nhttps://a.example/2\nhttps://a.example/3"
        )
        chosen: FilePayload = {
            "name": "big.json",
            "mimeType": "application/json",
            "buffer": b'[{"url": "https://a.example/4", "size": 4}]',
        }
        await page.set_input_files("#file", [chosen])
        await expect(page.locator("#count")).to_have_text("4 links")
        assert '"size": 4' in await page.locator("#links").input_value()


async def _drop(page: Page, name: str, text: str, on: str = ".drop") -> None:
    given = await page.evaluate_handle(
        "([name, text]) => { const data = new DataTransfer(); data.items.add(new File([text], name)); return data; }",
        [name, text],
    )
    await page.dispatch_event(on, "drop", {"dataTransfer": given})


@slow
async def test_everything_by_keyboard(api: Api, origin: Origin) -> None:
    """A job is started, its files looked at and it is removed without a mouse; focus is always somewhere to see."""
    async with chromium() as browser, visiting(browser, api.base) as page:
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.locator("#links").focus()
        await page.keyboard.type(f"{origin.url(10, 'keys')}\n{origin.status(404)}\n")
        await page.keyboard.press("Control+Enter")
        await expect(job(page, "partly")).to_have_count(1)
        await expect(page.locator(".head")).to_be_focused()
        for name in ("Download archive", "Copy link", "Retry 1 failed", "Remove"):
            await page.keyboard.press("Tab")
            assert name in await page.evaluate(FOCUSED)
        await page.keyboard.press("Enter")
        await expect(page.locator("#sure")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Remove", exact=True)).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Enter")
        await expect(page.locator(".job")).to_have_count(0)
        await expect(page.locator("#jobs-title")).to_be_focused()


FOCUSED = """() => {
  let at = document.activeElement;
  while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at.textContent;
}"""


@slow
async def test_two_tabs_and_no_storage(api: Api, origin: Origin) -> None:
    """Two tabs show the same jobs; where the browser refuses to keep anything the page works all the same."""
    async with chromium() as browser, visiting(browser, api.base) as page:
        other = await page.context.new_page()
        await other.goto(api.base)
        await submit(page, origin.url(10, "tabs"))
        await expect(job(other, "ready")).to_have_count(1)
        await other.locator(".head").click()
        await other.get_by_role("button", name="Remove", exact=True).click()
        await other.locator("#sure").get_by_role("button", name="Remove").click()
        await expect(page.locator(".job")).to_have_count(0)
        await other.close()
        await page.context.set_offline(True)
        await expect(page.locator("#notice")).to_contain_text("offline")
        await page.context.set_offline(False)
        await expect(page.locator("#notice")).to_be_empty()
        for broken in (BLOCKED, FULL):
            alone = await page.context.new_page()
            await alone.add_init_script(broken)
            await alone.goto(api.base)
            await submit(alone, origin.url(10, "alone"))
            await expect(job(alone, "ready")).to_have_count(1)
            await alone.close()


BLOCKED = """for (const area of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, area, { get() { throw new DOMException("no", "SecurityError"); } });"""
FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"


@slow
async def test_thousands_of_files(api: Api, origin: Origin) -> None:
    """A long list is drawn a page at a time, and the failed ones are found among all."""
    async with chromium() as browser, visiting(browser, api.base) as page:
        links = [origin.url(10, f"m{n}", f"{n}.bin") for n in range(260)]
        links[255] = origin.status(404)
        await submit(page, *links)
        await expect(job(page, "partly")).to_have_count(1, timeout=60_000)
        await expect(page.locator(".files li")).to_have_count(50)
        await page.get_by_role("button", name="Later files").click()
        await expect(page.locator(".files li .name").first).to_have_text("50.bin")
        await expect(page.locator(".range")).to_have_text("51–100 of 260 files")
        await page.get_by_role("button", name="Failed 1").click()
        await expect(page.locator(".files li")).to_have_count(1)
        await expect(page.locator(".files .why")).to_contain_text("404")


async def looked_at(page: Page, state: str, size: Any, name: str, scheme: Any) -> None:
    """The page on a screen: it has no finding of axe and fits; its picture is kept."""
    await page.set_viewport_size(size)
    await page.emulate_media(color_scheme=scheme)
    await picture(page, f"page-{state}-{name}-{scheme}")
    assert await violations(page) == [], (state, name, scheme)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (state, name)


@slow
async def test_how_it_looks(api: Api) -> None:
    """Each state, on phone and desktop, light and dark, has no finding of axe, fits its screen, and has its picture."""
    async with gated_source() as origin, chromium() as browser, visiting(browser, api.base) as page:

        async def shown(state: str) -> None:
            for size, name, scheme in LOOKS:
                await looked_at(page, state, size, name, scheme)

        await shown("empty")
        await _fill(page, origin)
        await shown("filled")
        await page.click("[type=submit]")
        await expect(page.locator('.files li[data-state="done"]')).to_have_count(3)
        await shown("running")
        origin.gate.set()
        await expect(job(page, "partly")).to_have_count(1)
        await page.get_by_text("The same with curl").click()
        await shown("partly-failed")
        await submit(page, f"holiday.jpg, {origin.url(3_456_789, 'x')}")
        await expect(job(page, "ready")).to_have_count(1)
        await shown("done")
        await submit(page, origin.endless())
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await expect(job(page, "cancelled")).to_have_count(1)
        await shown("cancelled")
        await submit(page, origin.status(500), origin.status(404))
        await expect(job(page, "failed")).to_have_count(1)
        await shown("failed")


async def _fill(page: Page, origin: Gated) -> None:
    links = [
        origin.url(2_345_678, "a", "annual-report-2025.pdf"),
        f"Invoice 0417.pdf, {origin.url(81_234, 'b')}",
        f"{origin.status(404)}/brochure.pdf",
        f"minutes.txt, {origin.text(900_000)}",
        f"recording.wav, {origin.held(4_000_000)}",
        "www.example.com/no-scheme.pdf",
    ]
    await page.fill("#links", "\n".join(links))
    await page.click("#options summary")
    await page.fill("#archiveName", "Board meeting November")
    await page.check("[name=keepFiles]")
    await expect(page.locator("#faults li")).to_have_count(2)
