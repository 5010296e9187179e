"""D: the store and the links."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from aiohttp import web

from tests.fakes3 import Call, FakeS3, Fault, fake_s3
from tests.field.answers import BODY, answer, cut
from tests.field.bench import MIB, Bench, Finished, Running, finished
from tests.field.case import WHOLE, Case, Story
from tests.field.host import HOST
from tests.field.place import store_with
from tests.origins import Exchange, Script, content, raw_origin
from tests.sources import answering
from tests.waiting import wait_until

FILE = content("stored", 12 * MIB + 12_345)  # three parts
LEAST = 5 * MIB
GONE = "nothing left"
WEEK_S = 604_800


def nothing(call: Call) -> None:
    """No fault."""


def on(operation: str, *faults: int | str, always: bool = False) -> Fault:
    """The n-th time of each such call fails in the n-th way; `always`: each time in the last."""

    def fault(call: Call) -> int | str | None:
        if call.operation != operation:
            return None
        if always:
            return faults[-1]
        return faults[call.time - 1] if call.time <= len(faults) else None

    return fault


@asynccontextmanager
async def submitted(
    bench: Bench, fault: Fault, *scripts: Script, **more: Any
) -> AsyncIterator[tuple[Running, FakeS3, str]]:
    """A job with a file for each script, whose store fails as told; no source answers before the store knows."""
    service = await bench.service("store")
    assert bench.store is not None
    ready = asyncio.Event()
    async with AsyncExitStack() as stack:
        urls = []
        for at, script in enumerate(scripts):
            origin = await stack.enter_async_context(raw_origin(_held(script, ready), HOST))
            urls.append(origin.url(f"/{at}.bin"))
        job_id = await service.api.submit(urls, **more)
        bench.faults[job_id] = fault
        ready.set()
        yield service, bench.store, job_id


def _held(script: Script, ready: asyncio.Event) -> Script:
    async def held(exchange: Exchange) -> None:
        await ready.wait()
        await script(exchange)

    return held


async def stored(bench: Bench, fault: Fault, *scripts: Script, **more: Any) -> tuple[Finished, FakeS3]:
    """The same to its end."""
    async with submitted(bench, fault, *scripts, **more) as (service, store, job_id):
        return await finished(service.api, job_id, within_s=85), store


async def nothing_left(store: FakeS3, job_id: str) -> str:
    """Uploads and objects of a job that gave no archive go away by themselves."""
    try:
        await wait_until(lambda: not _left(store, job_id), within_s=15)
    except AssertionError:
        return f"left: {_left(store, job_id)}"
    return GONE


def _left(store: FakeS3, job_id: str) -> list[str]:
    uploads = [upload for upload, key in store.upload_keys.items() if upload in store.uploads and job_id in key]
    return uploads + [key for key in store.objects if job_id in key]


def _gives_up(what: str, fault: Fault, *, slow: bool = False) -> Story:
    """A store that never gets better; `slow` where it is tried ten times."""

    async def tell(bench: Bench) -> str:
        done, store = await stored(bench, fault, answer({}, FILE))
        assert not done.complaints(), done.complaints()
        return f"{done.status['status']}, {await nothing_left(store, done.job_id)}"

    return Story(what, f"failed, {GONE}", tell, slow=slow)


def _survives(what: str, fault: Fault, data: bytes = FILE) -> Story:
    """A store that gets better."""

    async def tell(bench: Bench) -> str:
        done, store = await stored(bench, fault, answer({}, data))
        if done.status["status"] != "completed":
            return f"{done.status['status']}: {done.status['errorCode']}"
        assert done.data(0) == data, "other bytes"
        left = _left(store, done.job_id)
        assert len(left) == 1, f"left: {left}"
        return "; ".join(done.complaints()) or WHOLE

    return Story(what, WHOLE, tell)


async def _source_ends_the_job(bench: Bench) -> str:
    scripts = answer({}, FILE), cut(11 * MIB, {}, FILE)
    done, store = await stored(bench, nothing, *scripts, options={"onError": "fail"})
    return f"{done.status['status']}, {await nothing_left(store, done.job_id)}"


async def _endless(exchange: Exchange) -> None:
    """A large file in little bits."""
    await exchange.answer("200 OK", {"Content-Length": str(len(FILE))})
    for start in range(0, len(FILE), 4096):
        await exchange.send(FILE[start : start + 4096])
        await asyncio.sleep(0.05)


def _left_early(what: str, method: str, path: str, expected: str) -> Story:
    """The caller loses interest while parts are on their way."""

    async def tell(bench: Bench) -> str:
        async with submitted(bench, nothing, answer({}, FILE), _endless) as (service, store, job_id):
            await wait_until(lambda: any(job_id in key for key in store.upload_keys.values()), within_s=30)
            reply = await service.api.call(method, path.format(job_id))
            return f"{reply.status}, {await nothing_left(store, job_id)}"

    return Story(what, expected, tell)


async def _bare_list(bench: Bench) -> str:
    """Uploads whose ids got lost, in a list that does not say when they began: a sweep must not end the service."""
    lost = on("CreateUpload", "lost", always=True)
    async with fake_s3(lost) as store, raw_origin(answer({}, FILE), HOST) as origin:
        settings = {"storage": store.settings().model_dump() | {"part_bytes": LEAST}, "jobs": {"attempts": 1}}
        async with bench.serving("bare", settings) as service:
            job_id = await service.api.submit([origin.url()])
            await wait_until(lambda: store.uploads, within_s=30)
            await service.api.call("POST", f"/v1/download/{job_id}/cancel")
            seen = len(store.made("ListUploads"))
            with suppress(AssertionError):
                await wait_until(lambda: service.process.returncode is not None or _swept(store, seen), within_s=10)
            return "goes on" if service.process.returncode is None else f"ended with {service.process.returncode}"


def _swept(store: FakeS3, seen: int) -> bool:
    """Whether leftovers have been looked for twice since."""
    return len(store.made("ListUploads")) >= seen + 2


def _part_sizes(sizes: tuple[int, ...], compress: Any = False) -> Story:
    """What the store gets: all parts but the last are of one size, at least 5 MiB."""

    async def tell(bench: Bench) -> str:
        scripts = [answer({}, content(f"odd{at}", size)) for at, size in enumerate(sizes)]
        done, store = await stored(bench, nothing, *scripts, options={"compress": compress})
        assert not done.complaints(), done.complaints()
        total = len(done.archive or b"")
        calls = [call for call in store.calls if done.job_id in call.key]
        parts = {call.number: int(call.headers["Content-Length"]) for call in calls if call.operation == "UploadPart"}
        if not parts:
            return "legal" if total <= LEAST and [call.operation for call in calls].count("Put") == 1 else str(total)
        *most, last = (parts[number] for number in sorted(parts))
        is_legal = set(most) <= {LEAST} and 1 <= last <= LEAST and sum(most) + last == total
        return "legal" if is_legal else str(parts)

    return Story(f"files of {', '.join(map(str, sizes))} bytes", "legal", tell)


async def _over_the_maximum(bench: Bench) -> str:
    """Four times 20 MiB where 64 are allowed: a clear code and nothing cut off."""
    done, store = await stored(bench, nothing, *[answer({}, bytes(20 * MIB))] * 4)
    return f"{done.status['status']}, {done.status['errorCode']}, {await nothing_left(store, done.job_id)}"


def _no_checksums(call: Call) -> int | None:
    """A store that knows nothing of the newer checksums and chunked signatures."""
    new = [
        name
        for name in call.headers
        if name.lower().startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer"))
    ]
    chunked = "aws-chunked" in call.headers.get("Content-Encoding", "") or "STREAMING" in call.headers.get(
        "x-amz-content-sha256", ""
    )
    return 501 if new or chunked else None


def _poor_store(what: str, checksums: str, fault: Fault) -> Story:
    async def tell(bench: Bench) -> str:
        async with store_with(fault) as store:
            settings = {"storage": store.settings().model_dump() | {"part_bytes": LEAST, "checksums": checksums}}
            async with bench.serving("poor", settings) as service, raw_origin(answer({}, FILE), HOST) as origin:
                large = await bench.job([origin.url()], service=service)
                async with raw_origin(answer(), HOST) as other:
                    small = await bench.job([other.url()], service=service)
        return (
            WHOLE
            if large.data(0) == FILE and small.data(0) == BODY
            else f"{large.status['errorCode']}, {small.status['errorCode']}"
        )

    return Story(what, WHOLE, tell)


async def _link_for_people(bench: Bench) -> str:
    """The link has the public host and the right region and works; a part of it can be asked for."""
    service = await bench.service()
    async with raw_origin(answer(), HOST) as origin:
        done = await bench.job([origin.url()])
    link = done.status["downloadUrl"]
    assert bench.relay is not None
    region = parse_qs(urlsplit(link).query)["X-Amz-Credential"][0].split("/")[2]
    async with bench.session.get(link) as whole, bench.session.get(link, headers={"Range": "bytes=0-3"}) as some:
        assert await whole.read() == done.archive
        assert await some.read() == b"PK\3\4"
        statuses = f"{whole.status} and {some.status}"
    asked = await service.api.call("GET", f"/v1/download/{done.job_id}")
    is_public = {urlsplit(each).netloc for each in (link, asked.headers["Location"])} == {
        urlsplit(bench.relay.endpoint_url).netloc.replace("127.0.0.1", "localhost")
    }
    return f"{'public' if is_public else link} host, {region}, {statuses}"


async def _link_without_keys(bench: Bench) -> str:
    """A link is of no use without its signature, nor for another object."""
    async with raw_origin(answer(), HOST) as origin:
        done = await bench.job([origin.url()])
    link = done.status["downloadUrl"]
    bare, path = link.partition("?")[0], urlsplit(link).path
    statuses = []
    for url in (bare, link.replace(path, path[:-5] + "x.zip"), link.replace("X-Amz-Signature=", "X-Amz-Signature=0")):
        async with bench.session.get(url) as reply:
            statuses.append(reply.status)
    return "refused" if set(statuses) <= {400, 401, 403} else str(statuses)


def _config(what: str, flag: str, expected: str) -> Story:
    async def tell(bench: Bench) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "downloader", "config", "--set", flag,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        return f"status {process.returncode}, {len(said.decode().splitlines())} line"

    return Story(what, expected, tell)


async def _temporary_keys(bench: Bench) -> str:
    """Keys that end in ten minutes: so does the link, and it says so."""
    ends = datetime.now(UTC) + timedelta(minutes=10)

    async def keys(request: web.Request) -> web.Response:
        shown = {
            "AccessKeyId": "ASIA",
            "SecretAccessKey": "s",
            "Token": "tok",
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return web.json_response(shown)

    app = web.Application()
    app.router.add_get("/keys", keys)
    async with answering(app) as base, store_with(nothing) as store:
        bare = {"access_key_id": "", "secret_access_key": ""}
        settings = {"storage": store.settings().model_dump() | bare, "jobs": {"link_ttl_s": WEEK_S}}
        environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{base}/keys", "AWS_EC2_METADATA_DISABLED": "true"}
        async with bench.serving("temporary", settings, **environment) as service, raw_origin(answer(), HOST) as origin:
            done = await bench.job([origin.url()], service=service)
    expires = datetime.fromisoformat(done.status["expiresAt"])
    query = parse_qs(urlsplit(done.status["downloadUrl"]).query)
    assert query["X-Amz-Security-Token"] == ["tok"]
    life_s = int(query["X-Amz-Expires"][0])
    return "ends with the keys" if expires <= ends and life_s <= 900 else f"{expires}, {life_s} s"


async def _expired_archive(bench: Bench) -> str:
    """After its time the archive is gone, and the answer says so instead of giving a dead link."""
    settings = {"jobs": {"archive_ttl_s": 1, "link_ttl_s": 1}}
    async with bench.serving("short", settings) as service, raw_origin(answer(), HOST) as origin:
        job_id = await service.api.submit([origin.url()])
        await service.api.finished(job_id)

        async def is_gone() -> bool:
            return (await service.api.call("GET", f"/v1/download/{job_id}")).status == 410

        await wait_until(is_gone, within_s=10)
        status = await service.api.status(job_id)
    return f"410, link {status['downloadUrl']}"


ARCHIVE_NAMES = (
    "1976\u20132016", "微信", 'a"b', "O'Neil (1)", "x;y", "a\r\nSet-Cookie: z", "😀" * 200, "café\\b", "../../etc/x",
    "100% *~!", "a=b, c", " ", "עברית", "тест.zip",
)  # fmt: skip


def _saved_as(wanted: str) -> Story:
    """The header on a real GET is pure ASCII, cannot be broken out of, and gives the archive's name back."""

    async def tell(bench: Bench) -> str:
        async with raw_origin(answer({}, b"x"), HOST) as origin:
            done = await bench.job([origin.url()], archiveName=wanted)
        shown = done.status["archive"]["name"]
        async with bench.session.get(done.status["downloadUrl"]) as reply:
            header = reply.headers.get("Content-Disposition", "")
            assert reply.status == 200, reply.status
            assert "Set-Cookie" not in reply.headers
        assert header.isascii(), header
        parsed = re.fullmatch(
            r"attachment; filename=\"[^\"\\]*\"; filename\*=UTF-8''([A-Za-z0-9!#$&+^_`|~.%-]*)", header
        )
        if parsed is None:
            return header[:150]
        back = unquote_to_bytes(parsed[1]).decode()
        keeps = (
            shown.removesuffix(".zip")[:20] == wanted.strip().removesuffix(".zip")[:20]
            or not wanted.isprintable()
            or re.search(r"[/\\]", wanted)
            or not wanted.strip()
        )
        return "its name" if back == shown and keeps else f"{back!r} for {shown!r}"

    return Story(f"an archive called {wanted[:24]!a}", "its name", tell)


CASES: tuple[Case, ...] = (
    Case(
        "D01",
        "no upload is left behind",
        (
            _gives_up("every part fails with 500", on("UploadPart", 500, always=True), slow=True),
            _gives_up("every part is refused with 403", on("UploadPart", 403, always=True)),
            _gives_up("parts break the connection", on("UploadPart", "reset", always=True), slow=True),
            _gives_up("completing is refused with 400", on("Complete", 400, always=True)),
            _gives_up("completing fails with 500", on("Complete", 500, always=True)),
            _gives_up("an upload cannot be begun", on("CreateUpload", 403, always=True)),
            Story("a list of uploads that does not say when they began", "goes on", _bare_list),
            Story("a source ends the job", f"failed, {GONE}", _source_ends_the_job),
            _left_early("cancelled while parts are sent", "POST", "/v1/download/{}/cancel", f"200, {GONE}"),
            _left_early("deleted while parts are sent", "DELETE", "/v1/download/{}", f"204, {GONE}"),
        ),
    ),
    Case(
        "D03",
        "parts neither too small nor too many",
        (
            _part_sizes((1, LEAST - 1, LEAST, LEAST + 1, 3)),
            _part_sizes((LEAST,) * 3),
            _part_sizes((1,)),
            _part_sizes((7, 2 * LEAST, 1, 9 * MIB)),
            _part_sizes((4 * MIB, 4 * MIB, 4 * MIB), "auto"),
            Story("80 MiB where 64 are allowed", f"failed, job_too_large, {GONE}", _over_the_maximum),
        ),
    ),
    Case(
        "D04",
        "stores without the newer checksums",
        (
            _poor_store("501 to each of them, found out by itself", "auto", _no_checksums),
            _poor_store("501 to each of them, configured", "none", _no_checksums),
        ),
    ),
    Case(
        "D05",
        "completing an upload says 200 and means no",
        (
            _survives("an Error once, then the document", on("Complete", "error-body")),
            _survives("an Error though it took effect", on("Complete", "lost-error-body")),
            _survives("white space before the document", on("Complete", "spaces", always=True)),
            _survives("an empty body though it took effect", on("Complete", "empty")),
            _survives("the connection breaks after it took effect", on("Complete", "lost")),
            _survives("the connection breaks before", on("Complete", "reset")),
            _survives("500, then 503, then the document", on("Complete", 500, 503)),
            _gives_up("an Error always", on("Complete", "error-body", always=True)),
        ),
    ),
    Case(
        "D07",
        "each part fails once",
        (
            _survives("500", on("UploadPart", 500)),
            _survives("a reset in the middle", on("UploadPart", "reset")),
            _survives("503 SlowDown", on("UploadPart", 503)),
            _survives("all three in turn", on("UploadPart", 500, "reset", 503)),
            _survives("the answer gets lost", on("UploadPart", "lost")),
            _survives("a small archive's only PUT: 500", on("Put", 500), BODY),
            _survives("a small archive's only PUT: reset", on("Put", "reset"), BODY),
            _survives("a small archive's only PUT: answer lost", on("Put", "lost"), BODY),
            _survives("an upload is begun at the second try", on("CreateUpload", 503)),
            _survives("looking at the result fails once", on("Head", 500)),
            _survives("reading back fails once", on("Get", 503)),
        ),
    ),
    Case(
        "D08",
        "links that work for people",
        (
            Story("public host, region, whole and in part", "public host, us-east-1, 200 and 206", _link_for_people),
            Story("without or with another signature", "refused", _link_without_keys),
        ),
    ),
    Case(
        "D09",
        "links that live as long as they say",
        (
            _config("a week and a second is refused at the start", f"jobs.link_ttl_s={WEEK_S + 1}", "status 2, 1 line"),
            Story("a week where keys end in ten minutes", "ends with the keys", _temporary_keys),
            Story("an archive that has expired", "410, link None", _expired_archive),
        ),
    ),
    Case("D11", "names of archives in links", tuple(map(_saved_as, ARCHIVE_NAMES))),
)
