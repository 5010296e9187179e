"""`<download-job>` on other people's pages: a site of another origin with a strict policy, in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Locator, Page, expect

from downloader.operate import maintenance
from tests.api import Api
from tests.browser import chromium, hosts_of, page_in, picture, violations
from tests.conftest import Start, merged
from tests.files import Origin
from tests.proxy import before
from tests.servers import free_ports
from tests.sources import answering
from tests.tenants import make_key
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
expect.set_options(timeout=20_000)

OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*"}
ANY_ORIGIN = {"server": {"port": 0, "drain_s": 0, "cors_origins": ["*"]}}
FOLDER = Path(__file__).parent.parent / "downloader" / "web" / "page"
# Runs before the module: it notes the events, every value the bar has had, and what timers and streams there are.
WATCH = """
window.heard = []; window.bars = []; window.live = new Set(); window.keys = [];
for (const name of ["start", "progress", "files", "connection", "end", "error"])
  document.addEventListener(`job-${name}`, (event) => heard.push([name, JSON.parse(JSON.stringify(event.detail))]));
for (const kind of ["Timeout", "Interval"]) {
  const [set, clear] = [window[`set${kind}`], window[`clear${kind}`]];
  window[`set${kind}`] = (act, ms) => {
    const id = set(() => { if (kind === "Timeout") live.delete(id); act(); }, ms);
    live.add(id);
    return id;
  };
  window[`clear${kind}`] = (id) => { live.delete(id); clear(id); };
}
window.clearTimeout = ((one, other) => (id) => { one(id); other(id); })(clearTimeout, clearInterval);
window.EventSource = class extends EventSource {
  constructor(url) { super(url); live.add(this); }
  close() { super.close(); live.delete(this); }
};
const sent = window.fetch;
window.fetch = (url, options) => {
  const key = options.headers["Idempotency-Key"];
  if (key) keys.push(key);
  return sent(url, options);
};
window.watch = (element) => new MutationObserver(() => {
  const bar = element.shadowRoot.querySelector("[part=bar]");
  if (element.state === "processing") bars.push([element.job.attempt, Number(bar.getAttribute("aria-valuenow"))]);
}).observe(element.shadowRoot, { subtree: true, attributes: true });
window.addEventListener("DOMContentLoaded", () => document.querySelectorAll("download-job").forEach(watch));
"""
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A shop</title><main><h1>Your orders</h1>
%s</main><script src="/watch.js"></script><script type="module" src="%s/download-job.js"></script></html>"""


class Site:
    """Somebody's site: one page with the element in it, under a policy as strict as can be."""

    def __init__(self, service: str, body: str, *connects: str, backend: Any = None) -> None:
        self.service, self.body = service, body
        self.connects = " ".join((service, *connects))
        self.backend = backend

    async def _page(self, request: web.Request) -> web.Response:
        policy = (
            f"default-src 'none'; script-src 'self' {self.service}; connect-src 'self' {self.connects}; "
            "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
        )
        text = PAGE % (self.body, self.service)
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def _watch(self, request: web.Request) -> web.Response:
        return web.Response(text=WATCH, content_type="text/javascript")

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/watch.js", self._watch)
        app.router.add_get("/favicon.ico", self._nothing)
        if self.backend:
            app.router.add_post("/orders/{what:.*}", self.backend)
        return app

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=204)


def button(files: list[Any], attributes: str = "", **more: Any) -> str:
    """The element with a request for these files."""
    listed = [{"url": file} if isinstance(file, str) else file for file in files]
    request = json.dumps({"files": listed, **more}).replace('"', "&quot;")
    return f'<download-job request="{request}" label="Download Order Documents" {attributes}></download-job>'


@asynccontextmanager
async def visit(service: str, body: str, *connects: str, **options: Any) -> AsyncIterator[Page]:
    """A page of another origin than the service's, open in a browser of its own; options as in `visit_in`."""
    async with chromium() as browser, visit_in(browser, service, body, *connects, **options) as page:
        yield page


@asynccontextmanager
async def visit_in(
    browser: Browser, service: str, body: str, *connects: str, backend: Any = None, **options: Any
) -> AsyncIterator[Page]:
    """The same in a browser that is there; `connects` are further origins that the page may call."""
    site = Site(service, body, *connects, backend=backend)
    async with answering(site.app()) as url, page_in(browser, **options) as page:
        await page.goto(url)
        yield page


def part(page: Page, name: str) -> Locator:
    """A part of the element."""
    return page.locator(f"download-job [part~={name}]")


async def heard(page: Page, name: str) -> list[Any]:
    """The details of all events of a name so far."""
    return [detail for event, detail in await page.evaluate("heard") if event == name]


async def told(page: Page, name: str) -> Any:
    """The detail of the last event of a name, once there is one."""
    return (await wait_until(lambda: heard(page, name)))[-1]


async def state_is(page: Page, state: str, *, within_s: float = 20) -> None:
    """Wait for a state of the element."""

    async def reached() -> bool:
        return bool(await page.evaluate("document.querySelector('download-job').state") == state)

    await wait_until(reached, within_s=within_s)


async def saved(page: Page, link: Locator, folder: Path) -> list[str]:
    """Click a link and give the names in the archive that arrives."""
    async with page.expect_download() as coming:
        await link.click()
    path = folder / "saved.zip"
    await (await coming.value).save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def never_back(bars: list[list[int]]) -> bool:
    """Whether the bar has never fallen within an attempt, and no attempt came back."""
    return bars == sorted(bars)


async def test_a_click_an_archive(start: Start, origin: Origin, tmp_path: Path) -> None:
    """From "Download Order Documents" over a bar with numbers to "Download ready" and a file that opens.

    A double click starts one job, and axe finds nothing in any state.
    """
    async with start(**ANY_ORIGIN) as api:
        files = [origin.url(300_000, "a", "a.bin"), origin.slow(1000, 1.5)]
        async with visit(api.base, button(files, archiveName="orders.zip"), allowed=()) as page:
            await expect(part(page, "button").first).to_have_text("Download Order Documents")
            assert await violations(page) == []
            await part(page, "button").first.dblclick()
            await expect(part(page, "button").first).to_have_text("Processing…")
            bar = page.get_by_role("progressbar", name="Progress of the download")
            await expect(bar).to_have_attribute("aria-valuetext", re.compile(r"\d+% · 1 of 2 files · 300 kB"))
            await expect(part(page, "button").first).to_be_focused()
            assert await violations(page) == []
            await picture(page, "element-processing")
            link = page.get_by_role("link", name="Download ready")
            await expect(link).to_be_focused()
            await expect(part(page, "status")).to_have_text(
                re.compile(r"2 files, 30\d kB · available until .*24 hr left")
            )
            await expect(page.locator("[role=status]")).to_have_text(re.compile("Download ready 2 files"))
            assert await violations(page) == []
            await picture(page, "element-ready")
            assert sorted(await saved(page, link, tmp_path)) == ["1.5", "a.bin"]
            assert len((await api.call("GET", "/v1/download/jobs")).body["jobs"]) == 1
            assert len(await page.evaluate("keys")) == 1
            assert never_back(await page.evaluate("bars"))
            [begun], [end] = await heard(page, "start"), await heard(page, "end")
            assert begun["statusUrl"] == f"/v1/download/status/{begun['jobId']}"
            assert (end["job"]["status"], end["job"]["archive"]["name"]) == ("completed", "orders.zip")
            assert {"connecting", "open", "closed"} == {told["state"] for told in await heard(page, "connection")}
            assert [file["status"] for file in (await heard(page, "files"))[-1]["files"]] == ["done", "done"]
            assert len(hosts_of(page)) == 3  # the site, the service and the store


async def test_missing_files_are_told_and_fetched_again(start: Start, origin: Origin, tmp_path: Path) -> None:
    """An archive without a file says so, and one click has the missing file fetched by a job of its own."""
    origin.broken.add("late.txt")
    async with start(**ANY_ORIGIN) as api:
        body = button([origin.url(1000, "a", "a.bin"), origin.flaky(500, "late.txt")], "auto-download")
        async with visit(api.base, body) as page:
            async with page.expect_download():
                await part(page, "button").first.click()
            await expect(part(page, "status")).to_have_text(re.compile("Missing: 1 of 2 files · 1 file, "))
            assert await violations(page) == []
            await picture(page, "element-partly")
            origin.broken.clear()
            async with page.expect_download():
                await page.get_by_role("button", name="Fetch the missing files again").click()
            await expect(part(page, "status")).to_have_text(re.compile("^1 file, "))
            assert await saved(page, part(page, "link"), tmp_path) == ["late.txt"]
            assert len(await heard(page, "start")) == 2


async def test_failure_and_another_try(start: Start, origin: Origin) -> None:
    """A job that fails tells why in the service's words; "Try again" takes it up, and the keyboard is enough for it."""
    origin.broken.add("x.txt")
    async with start(**ANY_ORIGIN) as api, visit(api.base, button([origin.flaky(500, "x.txt")])) as page:
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        end = await told(page, "end")
        assert end["job"]["status"] == "failed"
        await expect(part(page, "status")).to_have_text(end["job"]["error"])
        assert await violations(page) == []
        await picture(page, "element-failed")
        origin.broken.clear()
        await expect(part(page, "button").first).to_have_text("Try again")
        await page.keyboard.press("Enter")
        await state_is(page, "ready")


async def test_cancelled_and_taken_off_the_page(start: Start, origin: Origin) -> None:
    """Cancelling is one click.

    An element that is taken off the page leaves no timer and no stream, and goes on where it was when it is put back.
    """
    body = button([origin.url(1000, "a"), origin.endless()])
    async with start(**ANY_ORIGIN) as api, visit(api.base, body) as page:
        await page.evaluate("for (let n = 0; n < 2; n++) void document.querySelector('download-job').start()")
        await state_is(page, "processing")
        assert len(await page.evaluate("keys")) == 1
        await page.evaluate("window.kept = document.querySelector('download-job'); kept.remove()")
        await wait_until(lambda: page.evaluate("live.size === 0"))
        await page.evaluate("document.querySelector('main').append(kept)")
        await wait_until(lambda: page.evaluate("[...live].some((one) => one.readyState === EventSource.OPEN)"))
        assert (await page.evaluate("kept.state"), len(await heard(page, "start"))) == ("processing", 1)
        await turn(page, hidden=True)  # to another tab: streams are few for all tabs together
        await wait_until(lambda: page.evaluate("![...live].some((one) => one instanceof EventSource)"))
        await turn(page, hidden=False)
        await wait_until(lambda: page.evaluate("[...live].some((one) => one.readyState === EventSource.OPEN)"))
        await page.get_by_role("button", name="Cancel").click()
        await state_is(page, "cancelled")
        await expect(part(page, "status")).to_have_text("The job was cancelled.")
        assert await violations(page) == []
        end = await told(page, "end")
        assert (await api.status(end["job"]["jobId"]))["status"] == "cancelled"
        await page.evaluate("kept.reset(); kept.remove()")
        await wait_until(lambda: page.evaluate("live.size === 0"))


async def turn(page: Page, *, hidden: bool) -> None:
    """Tell the page that another tab is looked at, or this one again."""
    await page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_what_a_foreign_answer_says_is_not_trusted(start: Start, origin: Origin) -> None:
    """The headers for one origin go to no other, and what is no link leads nowhere, not where an earlier job's did.

    An answer that makes no sense is refused in words.
    """
    seen: list[str | None] = []
    answers: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        data, status = answers.pop(0)
        return web.json_response(data, status=status, headers=OPEN_TO_ALL)

    async def never(request: web.Request) -> web.Response:
        raise AssertionError(f"a preflight: {request.headers}")

    foreign = web.Application()
    foreign.router.add_get("/status", answer)
    foreign.router.add_route("OPTIONS", "/status", never)
    async with (
        start(**ANY_ORIGIN) as api,
        answering(foreign) as other,
        visit(api.base, button([origin.url(1000, "a", "a.bin")]), other, allowed=("40",)) as page,
    ):
        await part(page, "button").first.click()
        await state_is(page, "ready")
        good = await part(page, "link").get_attribute("href")
        bad = {**(await told(page, "end"))["job"], "downloadUrl": "javascript:alert(1)"}
        answers += [(bad, 200)] * 2
        await page.evaluate(
            """(url) => {
              const element = document.querySelector("download-job");
              element.headers = { Authorization: "Bearer dl_secret" };
              element.follow({ statusUrl: url });
            }""",
            f"{other}/status",
        )
        await wait_until(lambda: len(seen) == 2)
        await state_is(page, "ready")
        assert good
        assert await part(page, "link").get_attribute("href") is None
        answers.append(({"code": "constructor", "detail": {"a": 1}, "errors": [None]}, 403))
        await page.evaluate(
            "(url) => document.querySelector('download-job').follow({ statusUrl: url })", f"{other}/status"
        )
        await state_is(page, "failed")
        await expect(part(page, "status")).to_have_text("The service answered with status 403.")
        assert seen == [None] * 3


async def test_a_site_with_a_backend_and_keys(
    start: Start, settings: dict[str, Any], origin: Origin, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Where keys are required the site's own backend starts the job, and the browser follows by a token of that job.

    The browser sees no key, and what it sends to the backend never reaches the service.
    """
    _, key = await make_key(settings, "shop")
    async with start(**ANY_ORIGIN, access={"open": False}) as api:
        files = [origin.url(1000, "a", "a.bin"), origin.endless()]
        called: list[Any] = []

        async def backend(request: web.Request) -> web.Response:
            called.append(
                (request.path, request.headers.get("X-Csrf"), await request.json() if request.can_read_body else None)
            )
            if request.path.endswith("/cancel"):
                job = request.path.split("/")[2]
                answer = await api.call(
                    "POST", f"/v1/download/{job}/cancel", headers={"Authorization": f"Bearer {key}"}
                )
                return web.json_response(answer.body, status=answer.status)
            wanted = files if len(called) == 1 else files[:1]
            answer = await api.initiate(wanted, headers={"Authorization": f"Bearer {key}"})
            more = {"cancelUrl": f"/orders/{answer.body['jobId']}/cancel"} if len(called) == 1 else {}
            return web.json_response(answer.body | more, status=answer.status)

        body = '<download-job endpoint="/orders/zip"></download-job>'
        async with visit(api.base, body, backend=backend) as page:
            await page.evaluate(
                "Object.assign(document.querySelector('download-job'), {request: {order: 7}, headers: {'X-Csrf': 'c'}})"
            )
            await part(page, "button").first.click()
            await state_is(page, "processing")
            await page.get_by_role("button", name="Cancel").click()
            await state_is(page, "cancelled")
            await part(page, "button").first.click()
            await state_is(page, "ready")
            await expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
            assert await saved(page, part(page, "link"), tmp_path) == ["a.bin"]
            assert [(path.rpartition("/")[2], csrf) for path, csrf, _ in called] == [
                ("zip", "c"),
                ("cancel", "c"),
                ("zip", "c"),
            ]
            assert called[0][2] == called[2][2] == {"order": 7}
            assert key not in json.dumps(await page.evaluate("heard"))


async def test_connections_break_and_the_bar_goes_on(
    start: Start, origin: Origin, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Streams are cut, a proxy answers 502 for a while, then all is well again.

    The page says so, comes back by itself behind the last event, and the bar never falls.
    """
    asked: list[str] = []

    async def bad_gateway(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(status=502, text="<h1>Bad gateway</h1>", headers=OPEN_TO_ALL)

    broken = web.Application()
    broken.router.add_get("/{rest:.*}", bad_gateway)
    files = [origin.url(1000, f"f{n}", f"{n}.bin") for n in range(5)] + [origin.flaky(100, "late"), origin.endless()]
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(start(**ANY_ORIGIN))
        proxy = await stack.enter_async_context(before(api.base))
        other = await stack.enter_async_context(answering(broken))
        through = f"http://127.0.0.1:{proxy.port}"
        page = await stack.enter_async_context(visit(through, button(files), allowed=("502", "net::ERR")))
        await part(page, "button").first.click()
        await expect(part(page, "status")).to_have_text(re.compile("6 of 7 files"))
        proxy.turn_to(other)
        proxy.reset()
        await expect(part(page, "note")).to_have_text("The connection was lost; trying again…")
        assert await violations(page) == []
        await picture(page, "element-reconnecting")
        await wait_until(lambda: any("/subscribe/" in path and "lastEventId=" in path for path in asked))
        proxy.turn_to(api.base)
        proxy.reset()
        await page.context.set_offline(True)
        await page.context.set_offline(False)  # the browser says that it is back, so there is nothing to wait for
        await expect(part(page, "note")).to_be_hidden()
        proxy.reset()  # a cut alone is the browser's own business
        [begun] = await heard(page, "start")
        await api.call("POST", f"/v1/download/{begun['jobId']}/cancel")
        await state_is(page, "cancelled")
        bars = await page.evaluate("bars")
        assert bars[-1][1] > 0
        assert never_back(bars)
        await told(page, "end")
        states = [told["state"] for told in await heard(page, "connection")]
        assert states[:3] == ["connecting", "open", "reconnecting"]
        assert states[-1] == "closed"


@asynccontextmanager
async def holding_back(api: Api) -> AsyncIterator[str]:
    """A proxy that passes everything but events."""

    async def passed(request: web.Request) -> web.StreamResponse:
        if "/subscribe/" in request.path:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **OPEN_TO_ALL})
            await response.prepare(request)
            await asyncio.Event().wait()
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        asked = api.session.request(
            request.method, api.base + request.path_qs, data=await request.read(), headers=headers
        )
        async with asked as answer:
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.startswith(("Access", "Cross", "Content-T"))
            }
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    front = web.Application()
    front.router.add_route("*", "/{rest:.*}", passed)
    async with answering(front) as base:
        yield base


async def test_where_streams_do_not_get_through(start: Start, origin: Origin) -> None:
    """Where a proxy holds events back, or the service has no room for another stream, the status tells of the job."""
    async with start(**ANY_ORIGIN, limits={"streams": 1}) as api, holding_back(api) as held, chromium() as browser:
        waits = await api.submit([origin.endless()])
        taken = api.stream(waits)
        await anext(aiter(taken))

        async def silent() -> None:
            async with visit_in(browser, held, button([origin.slow(1000, 1)])) as page:
                await part(page, "button").first.click()
                await state_is(page, "ready")

        async def busy() -> None:
            async with visit_in(browser, api.base, button([origin.endless()])) as page:
                await part(page, "button").first.click()
                await expect(part(page, "note")).to_have_text("too many streams are open")
                begun = await told(page, "start")
                await api.call("POST", f"/v1/download/{begun['jobId']}/cancel")
                await state_is(page, "cancelled")
                assert await heard(page, "error") == []

        await asyncio.gather(silent(), busy())
        await api.call("POST", f"/v1/download/{waits}/cancel")


async def test_refusals_in_plain_words(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """A refused start says what is wrong and what to do, in the service's words.

    Another click is another try, under the same idempotency key only where the first may have had its effect.
    """
    (closed,) = free_ports(1)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(start(**ANY_ORIGIN, limits={"initiate_per_minute": 1}))
        keyed = await stack.enter_async_context(start(**ANY_ORIGIN, access={"open": False}))
        gone = f"http://127.0.0.1:{closed}"
        page = await stack.enter_async_context(
            visit(
                api.base,
                button([origin.url(10, "a")]),
                keyed.base,
                gone,
                allowed=("status of 4", "status of 503", "net::ERR"),
            )
        )
        status = part(page, "status")

        async def says(words: str, server: str, url: str = "ftp://x/y") -> None:
            await page.evaluate(
                """([server, url]) => { const job = document.querySelector("download-job");
                job.reset(); job.server = server; job.request = { files: [{ url }] }; }""",
                [server, url],
            )
            await part(page, "button").first.click()
            await expect(status).to_have_text(re.compile(words))
            await expect(part(page, "button").first).to_have_text("Try again")

        with_settings = merged(settings, {})
        assert await maintenance(with_settings, print, print, "on", "Back at 5.") == 0
        await says("Back at 5.", api.base, origin.url(10, "a"))
        assert await maintenance(with_settings, print, print, "off", "") == 0
        await says("/files/0/url: must be an absolute URL that starts with http", api.base)
        await part(page, "button").first.click()
        await wait_until(lambda: page.evaluate("keys.length === 3"))
        assert await violations(page) == []
        await page.evaluate(
            "url => { document.querySelector('download-job').request = { files: [{ url }] } }", origin.url(10, "b")
        )
        await part(page, "button").first.click()
        await state_is(page, "ready")
        await says(r"Try again in \d+ sec|Try again in 1 min", api.base, origin.url(10, "c"))
        await says("takes no calls without a key", keyed.base)
        await says("The service could not be reached.", gone)
        await part(page, "button").first.click()
        await wait_until(lambda: page.evaluate("keys.length === 8"))
        await page.evaluate("document.querySelector('download-job').texts = { network: 'No answer.' }")
        await expect(status).to_have_text("No answer.")
        keys = await page.evaluate("keys")
        assert len(set(keys[:7])) == 7
        assert keys[6] == keys[7]
        problems = [told["problem"] for told in await heard(page, "error")]
        assert [(told["status"], told["code"]) for told in problems[:6]] == [
            (503, "maintenance"),
            (400, "invalid_request"),
            (400, "invalid_request"),
            (429, "rate_limited"),
            (401, "key_required"),
            (0, "network"),
        ]
        assert problems[1]["errors"][0]["pointer"] == "/files/0/url"
        assert problems[3]["retryAfter"] > 0


async def test_a_link_that_has_expired(start: Start, origin: Origin, tmp_path: Path) -> None:
    """A click on an old link asks for a fresh one first, so the download works as long as there is an archive.

    Then the element says that it is gone.
    """
    async with (
        start(**ANY_ORIGIN, jobs={"link_ttl_s": 2}) as api,
        visit(api.base, button([origin.url(1000, "a", "a.bin")]), allowed=("404",)) as page,
    ):
        await part(page, "button").first.click()
        await state_is(page, "ready")
        old = await part(page, "link").get_attribute("href")
        assert old

        async def expired() -> bool:
            async with api.session.get(old) as answer:
                return answer.status == 403

        await wait_until(expired)
        await page.evaluate("Date.now = ((now) => () => now() + 120_000)(Date.now.bind(Date))")
        assert await saved(page, part(page, "link"), tmp_path) == ["a.bin"]
        end = await told(page, "end")
        await api.call("DELETE", f"/v1/download/{end['job']['jobId']}")
        await page.evaluate("Date.now = ((now) => () => now() + 120_000)(Date.now.bind(Date))")
        await part(page, "link").click()
        await state_is(page, "gone")
        await expect(part(page, "button").first).to_have_text("Try again")
        assert await violations(page) == []


async def test_many_on_a_page_and_jobs_from_elsewhere(start: Start, origin: Origin) -> None:
    """Elements follow jobs that were started elsewhere, more of them than a browser has connections.

    A job that is not there is told to be gone; texts, direction and colours are the page's.
    """
    async with start(**ANY_ORIGIN, worker={"concurrency": 9}, memory={"budget_bytes": 2**30}) as api:
        busy = [await api.submit([origin.endless()]) for _ in range(8)]
        jobs = [*busy, await api.submit([origin.url(1000, "a")]), "00000000-0000-4000-8000-000000000000"]
        links = (f'status-url="/v1/download/status/{job}" subscribe-url="/v1/download/subscribe/{job}"' for job in jobs)
        body = "".join(f"<download-job {link}></download-job>" for link in links)
        async with visit(api.base, body, allowed=("404",), color_scheme="dark", forced_colors="active") as page:
            states = "[...document.querySelectorAll('download-job')].map((one) => one.state)"

            async def states_are(*wanted: str) -> None:
                async def reached() -> bool:
                    return bool(await page.evaluate(states) == list(wanted))

                await wait_until(reached)

            await states_are(*["processing"] * 8, "ready", "gone")
            assert [told["problem"]["code"] for told in await heard(page, "error")] == ["job_not_found"]
            await asyncio.gather(*(api.call("POST", f"/v1/download/{job}/cancel") for job in busy))
            await states_are(*["cancelled"] * 8, "ready", "gone")
            await page.evaluate(
                """() => { document.documentElement.dir = "rtl"; document.documentElement.lang = "ar";
                for (const one of document.querySelectorAll("download-job"))
                  one.texts = { ready: "تنزيل", cancelled: "أُلغيت", done: ({ files }) => files }; }"""
            )
            await expect(page.locator("download-job [part~=link]").nth(8)).to_have_text("تنزيل")
            assert await violations(page) == []
            await picture(page, "element-rtl-forced-colors")


async def test_the_declarations_are_the_module(start: Start) -> None:
    """Every class of the declaration file is exported with exactly the members that it declares."""
    text = re.sub(r"/\*\*.*?\*/", "", (FOLDER / "download-job.d.ts").read_text(encoding="utf-8"), flags=re.DOTALL)
    classes = re.findall(r"export class (\w+)[^{]*\{\n(.*?)\n\}", text, re.DOTALL)
    members = {
        name: sorted(
            set(re.findall(r"^  (?:readonly )?(\w+)(?=[(:?<])", body, re.MULTILINE))
            - {"constructor", "addEventListener"}
        )
        for name, body in classes
    }
    async with start(**ANY_ORIGIN) as api, visit(api.base, "") as page:
        found = await page.evaluate(
            """async (url) => {
              const module = await import(url);
              const made = { ApiError: [{ detail: "" }], JobFeed: [{ statusUrl: "" }] };
              const own = (one) => [...Object.keys(one), ...Object.getOwnPropertyNames(Object.getPrototypeOf(one))];
              const ours = (name) => name !== "constructor" && name !== "name" && !name.endsWith("Callback");
              return Object.fromEntries(Object.entries(module).map(([name, made_of]) =>
                [name, [...new Set(own(new made_of(...(made[name] ?? []))))].filter(ours).sort()]));
            }""",
            f"{api.base}/download-job.js",
        )
        assert found == members
