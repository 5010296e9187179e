"""The pure parts of the web side: what a body means, what a problem says, what an event looks like in bytes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import HttpVersion10

from downloader.config import AccessSettings, Settings
from downloader.errors import Fault, InvalidRequest, RequestError, UnavailableError
from downloader.events import FilesEvent, JobEvent, StateEvent
from downloader.jobs import Archive, Checksum, FileResult, FileStatus, JobRecord, JobState, Snapshot
from downloader.state.records import KeptRequest
from downloader.web import access, address, fields, frames, headers, middlewares, problems, reading, render
from downloader.web.bodies import Wish, read_wish
from downloader.web.initiate import fingerprint
from downloader.web.lasting import to_its_end
from downloader.web.stream import Batch, up_to_date
from downloader.wire import FileObject, file_to_wire

SETTINGS = Settings()
NOW_S = 1_800_000_000.0


def wish(raw: Any, **settings: Any) -> Wish:
    return read_wish(raw, Settings.model_validate(settings) if settings else SETTINGS, "public")


def faults(raw: Any, **settings: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        wish(raw, **settings)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


def one(**file: Any) -> dict[str, Any]:
    return {"files": [{"url": "https://example.com/a.pdf", **file}]}


class TestBodies:
    def test_the_older_form_pairs_ids_and_urls_by_position(self) -> None:
        """The seed's body: numbers and texts as ids, each with the URL at its position."""
        made = wish({"file_ids": [70000, "b"], "source_urls": ["https://h/1?sig=%2F", "http://h/2"]})
        assert [(source.index, source.file_id, source.url) for source in made.request.sources] == [
            (0, 70000, "https://h/1?sig=%2F"),
            (1, "b", "http://h/2"),
        ]
        assert made.total_file_ids == 2
        assert made.request.archive_name == "download.zip"

    @pytest.mark.parametrize("name", ["file_ids", "fileIds", "file_keys", "fileKeys"])
    def test_ids_alone_work_with_a_template(self, name: str) -> None:
        """Each id becomes one plain piece of the configured URL, whatever characters it has."""
        made = wish({name: [7, "a/b?c"]}, sources={"url_template": "https://files.internal/{file_id}/raw"})
        urls = [source.url for source in made.request.sources]
        assert urls == ["https://files.internal/7/raw", "https://files.internal/a%2Fb%3Fc/raw"]

    def test_an_id_cannot_climb_out_of_the_template(self) -> None:
        """`..` as an id would name another folder of the trusted host."""
        assert "/file_ids/1" in faults({"file_ids": [1, ".."]}, sources={"url_template": "https://h/x/{file_id}"})

    def test_the_full_form_carries_everything(self) -> None:
        """All fields of a file and all options arrive in the request, in either spelling."""
        body = one(
            id="x",
            name="n.pdf",
            size=5,
            checksum="MD5:" + "A" * 32,
            content_type="Application/PDF; q=1",
            headers={"A": "b"},
        )
        made = wish(
            body | {"archive_name": "my docs", "options": {"compress": False, "onError": "fail", "manifest": True}}
        )
        source = made.request.sources[0]
        assert (source.file_id, source.name, source.size, source.content_type) == ("x", "n.pdf", 5, "application/pdf")
        assert source.checksum == Checksum("md5", "a" * 32)
        assert source.headers == (("A", "b"),)
        assert made.request.archive_name == "my docs.zip"
        assert (made.request.options.compress, made.request.options.on_error) == (False, "fail")

    def test_files_without_ids_are_numbered_but_not_counted_as_ids(self) -> None:
        """`totalFileIds` is the number of ids that were given."""
        made = wish({"files": [{"url": "http://h/"}, {"url": "http://h/", "id": 9}]})
        assert [source.file_id for source in made.request.sources] == [0, 9]
        assert made.total_file_ids == 1

    def test_the_default_for_on_error_is_the_services(self) -> None:
        """What the caller leaves open the configuration decides."""
        assert wish(one(), jobs={"on_error": "fail"}).request.options.on_error == "fail"

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ([], ""),
            ("text", ""),
            ({}, ""),
            ({"files": []}, "/files"),
            ({"files": {}}, "/files"),
            ({"files": [3]}, "/files/0"),
            ({"files": [{}]}, "/files/0/url"),
            ({"files": [{"url": "http://a"}], "file_ids": [1]}, "/files"),
            ({"file_ids": [], "source_urls": []}, "/file_ids"),
            ({"file_ids": [1, 2], "source_urls": ["http://a"]}, "/source_urls"),
            ({"fileIds": [1], "file_ids": [1], "source_urls": ["http://a"]}, "/file_ids"),
            ({"file_ids": [1], "file_keys": [1], "source_urls": ["http://a"]}, "/file_keys"),
            ({"source_urls": ["http://a"]}, "/file_ids"),
            ({"file_ids": [1]}, "/source_urls"),
            ({"file_ids": [True], "source_urls": ["http://a"]}, "/file_ids/0"),
            ({"file_ids": [1.0], "source_urls": ["http://a"]}, "/file_ids/0"),
            ({"file_ids": [2**64], "source_urls": ["http://a"]}, "/file_ids/0"),
            ({"file_ids": ["x" * 257], "source_urls": ["http://a"]}, "/file_ids/0"),
            ({"file_ids": [1], "source_urls": ["gopher://a"]}, "/source_urls/0"),
            (one(url=5), "/files/0/url"),
            (one(url="s3://bucket/key"), "/files/0/url"),
            (one(url="http:///nohost"), "/files/0/url"),
            (one(url="/relative"), "/files/0/url"),
            (one(url="http://[::1"), "/files/0/url"),
            (one(url="http://a:99999/"), "/files/0/url"),
            (one(url="http://a/\r\nx"), "/files/0/url"),
            (one(url="http://a/" + "x" * 8192), "/files/0/url"),
            (one(size=-1), "/files/0/size"),
            (one(size=2**60), "/files/0/size"),
            (one(size="5"), "/files/0/size"),
            (one(size=True), "/files/0/size"),
            (one(name="n" * 1025), "/files/0/name"),
            (one(checksum="sha1:00"), "/files/0/checksum"),
            (one(checksum=5), "/files/0/checksum"),
            (one(content_type="pdf"), "/files/0/content_type"),
            (one(headers={"Host": "x"}), "/files/0/headers"),
            (one(headers={"transfer-encoding": "x"}), "/files/0/headers"),
            (one(headers={"A": "x\r\nB: y"}), "/files/0/headers"),
            (one(headers={"A b": "x"}), "/files/0/headers"),
            (one(headers={"A": "x", "a": "y"}), "/files/0/headers"),
            (one(headers={f"A{number}": "x" for number in range(21)}), "/files/0/headers"),
            (one(headers={"A": 5}), "/files/0/headers/A"),
            (one(nmae="x"), "/files/0/nmae"),
            (one() | {"archivName": "x"}, "/archivName"),
            (one() | {"a/b~c": 1}, "/a~1b~0c"),
            (one() | {"archiveName": 5}, "/archiveName"),
            (one() | {"options": []}, "/options"),
            (one() | {"options": {"compress": "yes"}}, "/options/compress"),
            (one() | {"options": {"compress": 1}}, "/options/compress"),
            (one() | {"options": {"on_error": "stop"}}, "/options/on_error"),
            (one() | {"options": {"keepFiles": "yes"}}, "/options/keepFiles"),
            (one() | {"options": {"keep_files": 1}}, "/options/keep_files"),
            (one() | {"options": {"format": "tar"}}, "/options/format"),
            (one() | {"callbackUrl": "https://h/"}, "/callbackUrl"),
            (one() | {"callback_url": "https://h/"}, "/callback_url"),
        ],
    )
    def test_a_wrong_body_names_the_place(self, body: Any, pointer: str) -> None:
        """Whatever is wrong, the fault points at it in the caller's own spelling."""
        assert list(faults(body)) == [pointer]

    def test_lists_of_different_length_name_both(self) -> None:
        """The fault says which two lists do not fit together."""
        (detail,) = faults({"file_ids": [1], "source_urls": ["http://a", "http://b"]}).values()
        assert "file_ids" in detail
        assert "source_urls" in detail

    def test_a_typo_is_answered_with_the_name_that_was_meant(self) -> None:
        """An unknown field is refused by name and the nearest known one offered."""
        assert "archiveName" in faults(one() | {"archivName": "x"})["/archivName"]
        assert "checksum" in faults(one(checksm="x"))["/files/0/checksm"]

    def test_too_many_files_are_refused_by_number(self) -> None:
        """The limit is looked at before the entries are."""
        assert "10001" in faults({"files": [None] * 10_001})["/files"]
        assert list(faults({"file_ids": [1] * 3, "source_urls": [1] * 3}, jobs={"max_files": 2})) == [
            "/file_ids",
            "/source_urls",
        ]

    def test_all_faults_are_told_at_once(self) -> None:
        """A caller should not have to find them one by one."""
        assert len(faults({"files": [{"url": "x"}] * 30})) == 30

    def test_the_secrets_of_a_url_are_not_in_its_fault(self) -> None:
        """A fault says what is wrong, not what was sent."""
        told = faults(one(url="ftp://user:hunter2@h/?sig=hunter2"))
        assert "hunter2" not in json.dumps(told)

    @pytest.mark.parametrize(
        ("given", "clean"),
        [
            ("a.zip", "a.zip"),
            ("A.ZIP", "A.zip"),
            ("a/b\\c", "a_b_c.zip"),
            ("a\r\nSet-Cookie: z", "a__Set-Cookie: z.zip"),
            ("", "download.zip"),
            ("...", "download.zip"),
            (".zip", "download.zip"),
            ("1976\u20132016", "1976\u20132016.zip"),
            ("\u202egpj", "_gpj.zip"),
            ("x" * 500, "x" * 196 + ".zip"),
        ],
    )
    def test_archive_names_are_made_safe(self, given: str, clean: str) -> None:
        """No folders, no control characters, one extension, a bounded length."""
        assert fields.archive_name(given) == clean

    def test_the_fingerprint_is_of_the_meaning(self) -> None:
        """Spelling and defaults make no other request; another URL, option or order does."""
        same = [one(), one(name=None, headers={}) | {"options": {}}, one() | {"archive_name": "download"}]
        other = [one(url="https://example.com/b"), one() | {"options": {"manifest": True}}, one(id=0)]

        def digest(body: dict[str, Any]) -> bytes:
            understood = wish(body)
            return fingerprint(understood, KeptRequest.of(understood.request))

        assert len({digest(body) for body in same}) == 1
        assert len({digest(body) for body in [one(), *other]}) == 4


class TestJson:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"nonsense",
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b'{"a": 1, "a": 2}',
            b'{"\xff": 1}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"[" + b"9" * 5000 + b"]",
            "{}".encode("utf-16"),
            rb'{"a": "\ud83d"}',
            rb'{"\uDE00": 1}',
        ],
    )
    def test_what_is_not_strict_json_is_refused(self, body: bytes) -> None:
        """Broken, ambiguous or endless: one code, and never a crash."""
        with pytest.raises(RequestError) as caught:
            reading.parse(body)
        assert caught.value.code == "invalid_json"

    def test_whole_surrogate_pairs_are_characters(self) -> None:
        """What JavaScript writes for an emoji."""
        assert reading.parse(rb'["\ud83d\ude00"]') == ["\U0001f600"]

    def test_a_byte_order_mark_is_forgiven(self) -> None:
        """Some editors write one."""
        assert reading.parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


class TestHeaders:
    @pytest.mark.parametrize(
        ("given", "key"),
        [
            ({}, None),
            ({"Idempotency-Key": "abc"}, "abc"),
            ({"Idempotency-Key": '"abc"'}, "abc"),
            ({"X-Idempotency-Key": r'"a\"b"'}, 'a"b'),
            ({"Idempotency-Key": "abc", "X-Idempotency-Key": '"abc"'}, "abc"),
        ],
    )
    def test_idempotency_keys_may_be_bare_or_quoted(self, given: dict[str, str], key: str | None) -> None:
        """Both spellings of the header and of its value mean the same key."""
        assert headers.idempotency_key(given) == key

    @pytest.mark.parametrize(
        "given",
        [
            {"Idempotency-Key": ""},
            {"Idempotency-Key": "a b"},
            {"Idempotency-Key": "\u00e4"},
            {"Idempotency-Key": "x" * 256},
            {"Idempotency-Key": "a", "X-Idempotency-Key": "b"},
        ],
    )
    def test_bad_idempotency_keys_are_refused(self, given: dict[str, str]) -> None:
        """A key that cannot be trusted to come back the same is worse than none."""
        with pytest.raises(RequestError, match=r"Idempotency-Key"):
            headers.idempotency_key(given)

    def test_only_sane_request_ids_are_echoed(self) -> None:
        """Anything that could break a log line or a header is replaced."""
        assert headers.request_id({"X-Request-Id": "abc-1"}) == "abc-1"
        for bad in ("", "a b", "a\nb", "x" * 129, "<script>"):
            assert headers.request_id({"X-Request-Id": bad}) != bad

    def test_only_well_formed_trace_contexts_are_carried(self) -> None:
        """W3C Trace Context: ids of zeros and version ff are invalid."""
        good = f"00-{'a' * 32}-{'b' * 16}-01"
        assert headers.traceparent({"traceparent": good}) == good
        for bad in ("x", f"ff-{'a' * 32}-{'b' * 16}-01", f"00-{'0' * 32}-{'b' * 16}-01", good.upper()):
            assert headers.traceparent({"traceparent": bad}) == ""

    @pytest.mark.parametrize(
        ("accept", "json_wins"),
        [
            ("*/*", False),
            ("application/json", True),
            ("text/html,application/json;q=0.9,*/*;q=0.8", False),
            ("application/json, text/html;q=0.5", True),
            ("application/*", True),
            ("application/json;q=0", False),
        ],
    )
    def test_accept_is_weighed(self, accept: str, json_wins: bool) -> None:
        """The more specific range and the higher weight win (RFC 9110, section 12.5.1)."""
        assert (headers.quality(accept, "application/json") > headers.quality(accept, "text/html")) is json_wins

    def test_etags_are_compared_weakly(self) -> None:
        """A proxy that compresses weakens the tag."""
        assert headers.etag_matches('W/"1-2-0", "x"', '"1-2-0"')
        assert headers.etag_matches("*", '"1-2-0"')
        assert not headers.etag_matches('"1-2-1"', '"1-2-0"')


class TestAccess:
    @pytest.mark.parametrize(
        ("peer", "host", "sent"),
        [
            ("127.0.0.1", "localhost:8080", {}),
            ("127.0.0.1", "127.0.0.2", {}),
            ("::1", "[::1]:8080", {}),
            ("::ffff:127.0.0.1", "LOCALHOST", {}),
        ],
    )
    def test_this_machine_may_call(self, peer: str, host: str, sent: dict[str, str]) -> None:
        """A direct call from here, addressed to here."""
        access.check_open(AccessSettings(), address.Way(peer, host, sent))

    @pytest.mark.parametrize(
        ("peer", "host", "sent"),
        [
            ("10.0.0.1", "localhost", {}),
            ("127.0.0.1", "evil.example", {}),
            ("127.0.0.1", "127.0.0.1.evil.example", {}),
            ("127.0.0.1", "localhost", {"X-Forwarded-For": "127.0.0.1"}),
            ("127.0.0.1", "localhost", {"X-Forwarded-Proto": "https"}),
            ("127.0.0.1", "localhost", {"forwarded": "for=127.0.0.1"}),
            ("127.0.0.1", "localhost", {"X-Real-IP": "8.8.8.8"}),
            ("127.0.0.1", "localhost", {"Via": "1.1 proxy"}),
            ("", "localhost", {}),
            ("127.0.0.1", "", {}),
        ],
    )
    def test_others_are_told_the_remedy(self, peer: str, host: str, sent: dict[str, str]) -> None:
        """A foreign peer, a foreign name (DNS rebinding) or a proxy in between."""
        with pytest.raises(RequestError, match=r"access\.open"):
            access.check_open(AccessSettings(), address.Way(peer, host, sent))
        access.check_open(AccessSettings(open=True), address.Way(peer, host, sent))

    def test_an_old_version_is_a_proxys(self) -> None:
        """The shortest settings of nginx pass calls on in HTTP/1.0, with its own address as Host and nothing else."""
        with pytest.raises(RequestError):
            access.check_open(AccessSettings(), address.Way("127.0.0.1", "127.0.0.1:8080", {}, HttpVersion10))

    def test_closed_means_nobody(self) -> None:
        """`access.open = false` without keys."""
        with pytest.raises(RequestError) as caught:
            access.check_open(AccessSettings(open=False), address.Way("127.0.0.1", "localhost", {}))
        assert caught.value.code == "key_required"

    def test_the_client_is_found_behind_trusted_proxies_only(self) -> None:
        """Whoever is no trusted proxy may write what he likes into X-Forwarded-For."""
        trusted = ["10.0.0.0/8"]
        assert address.client_address("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", trusted) == "1.2.3.4"
        assert address.client_address("9.9.9.9", "1.2.3.4", trusted) == "9.9.9.9"
        assert address.client_address("10.0.0.1", "1.2.3.4:4711", trusted) == "1.2.3.4"
        assert address.client_address("10.0.0.1", "[2001:db8::1]:443", trusted) == "2001:db8::1"

    def test_unknown_parameters_are_masked_in_the_log(self) -> None:
        """A token in the query is nobody's business."""
        assert middlewares.masked_query("limit=5&token=hunter2&files=false") == "limit=5&token=***&files=false"


class TestProblems:
    def test_a_problem_has_all_its_members(self) -> None:
        """RFC 9457 and what older clients read."""
        found = tuple(Fault(f"/files/{index}", "bad") for index in range(25))
        problem = problems.from_error(InvalidRequest(found))
        assert problem is not None
        body = json.loads(problems.to_body(problem, "/v1/x", "rid"))
        assert (body["status"], body["code"], body["requestId"], body["instance"]) == (
            400,
            "invalid_request",
            "rid",
            "/v1/x",
        )
        assert body["error"] == body["title"]
        assert body["message"] == body["detail"]
        assert len(body["errors"]) == 20
        assert body["errorCount"] == 25

    def test_an_outage_is_temporary(self) -> None:
        """503 with a time to wait."""
        problem = problems.from_error(UnavailableError("redis", "Redis does not answer"))
        assert problem is not None
        assert (problem.status, problem.code) == (503, "unavailable")
        assert problem.headers["Retry-After"] == "2"

    def test_a_full_queue_says_when_to_come_back(self) -> None:
        """429 with the seconds the store has given."""
        problem = problems.from_error(RequestError("queue_full", "full", retry_after_s=30))
        assert problem is not None
        assert (problem.status, problem.headers["Retry-After"]) == (429, "30")


@dataclass(frozen=True)
class Link:
    url: str
    expires_at: datetime


class Signer:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, key: str, filename: str, archive_expires_ms: int, now_s: float, /) -> Link:
        self.calls += 1
        return Link(f"https://s3/{key}?at={now_s:.0f}", datetime.fromtimestamp(now_s + 60, UTC))


def snapshot(state: JobState = JobState.PROCESSING, **more: Any) -> Snapshot:
    figures = {"progress": 7, "files_completed": 1, "files_failed": 0, "total_files": 3, "bytes_fetched": 10}
    return Snapshot(state=state, **(figures | {"bytes_total": None, "current_file": None, "attempt": 1} | more))


def completed(expires_ms: int = 1_900_000_000_000) -> Snapshot:
    return snapshot(
        JobState.COMPLETED, progress=100, archive_key="k", archive_name="a.zip", archive_expires_ms=expires_ms
    )


def record(shot: Snapshot, **more: Any) -> JobRecord:
    values: dict[str, Any] = {
        "job_id": "j", "tenant": "public", "snapshot": shot, "total_file_ids": 2, "archive": None,
        "queue_position": None, "created_ms": 1_700_000_000_123, "started_ms": 1_700_000_001_000,
        "updated_ms": 1_700_000_002_500, "completed_ms": None, "request_id": "r", "event_id": "5-0", "revision": 3,
    }  # fmt: skip
    return JobRecord(**(values | more))


class TestLasting:
    async def test_a_write_outlives_its_caller(self) -> None:
        """A client that leaves cancels its handler; the change of state is finished first."""
        begun, done = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            begun.set()
            await asyncio.sleep(0.05)
            done.set()

        caller = asyncio.create_task(to_its_end(write()))
        await begun.wait()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        assert done.is_set()


async def shown(of: JobRecord, *pieces: list[FileResult]) -> dict[str, Any]:
    """The page of files that comes in these pieces."""

    async def pages() -> AsyncIterator[list[FileObject]]:
        for piece in pieces:
            yield [file_to_wire(file) for file in piece]

    body: dict[str, Any] = json.loads(await render.files_page(of, pages(), is_there=True))
    return body


class TestRender:
    def test_the_job_has_all_its_members(self) -> None:
        """Design section 2, in its spelling, with the link that was signed for this reading."""
        archive = Archive("secret/key", "a.zip", 99, 2, "etag")
        link = Link("https://s3/x", datetime(2027, 1, 1, tzinfo=UTC))
        body = json.loads(render.job(record(completed(), archive=archive, completed_ms=1_700_000_003_000), [], link))
        assert list(body) == [
            *("jobId", "status", "progress", "filesCompleted", "filesFailed", "totalFiles", "bytesFetched"),
            *("bytesTotal", "attempt", "currentFile", "queuePosition", "files", "archive", "downloadUrl"),
            *("expiresAt", "archiveExpiresAt", "error", "errorCode", "createdAt", "startedAt", "updatedAt"),
            *("completedAt", "processingTimeMs", "subscribeUrl", "statusUrl", "requestId", "callback"),
        ]
        assert body["archive"] == {"name": "a.zip", "size": 99, "entries": 2, "etag": "etag"}
        assert body["createdAt"] == "2023-11-14T22:13:20.123Z"
        assert body["expiresAt"] == "2027-01-01T00:00:00.000Z"
        assert body["processingTimeMs"] == 2000
        assert "secret" not in json.dumps(body)

    async def test_a_number_that_json_lacks_becomes_null(self) -> None:
        """Metadata read from a broken file may hold anything."""
        file = FileResult(0, 7, "https://h/a", "a", FileStatus.DONE, metadata={"duration": float("nan")})
        page = await shown(record(snapshot(total_files=1)), [file])
        assert page["files"][0]["metadata"] == {"duration": None}

    async def test_pages_are_chained_by_next(self) -> None:
        """`next` is the last index of a page that is not the last one; in how many pieces it came does not matter."""
        files = [FileResult(index, index, "http://h/") for index in (3, 4)]
        six, five = (record(snapshot(total_files=total)) for total in (6, 5))
        assert (await shown(six, files))["next"] == 4
        assert await shown(six, files[:1], [], files[1:]) == await shown(six, files)
        assert (await shown(five, files))["next"] is None
        assert await shown(five) == await shown(five, []) == {"files": [], "next": None}

    def test_no_link_outlives_its_archive(self) -> None:
        """An expired archive has no link, nor has a job without one."""
        links = render.Links.lasting(Signer(), 3600)
        assert links.window_s == 300
        assert links.link(completed(), NOW_S) is not None
        assert links.link(completed(int(NOW_S * 1000)), NOW_S) is None
        assert links.link(snapshot(), NOW_S) is None


class TestFrames:
    def test_a_frame_is_closed_and_cannot_be_broken_out_of(self) -> None:
        """CR, LF and CRLF in the data each begin a new data line; a blank line ends the frame."""
        assert frames.frame("x", b"a\rb\nc\r\nd", "1-0") == b"event: x\nid: 1-0\ndata: a\ndata: b\ndata: c\ndata: d\n\n"

    def test_a_snapshot_leaves_out_what_is_not_known(self) -> None:
        """Optional members appear only with a value; names with line breaks stay inside their JSON."""
        made = frames.Frames(render.Links(Signer(), 300))
        raw = made.of("j", [StateEvent("1-0", snapshot(current_file="a\r\nb"))], NOW_S)
        name, identity, data = raw.decode().rstrip("\n").split("\n")
        assert (name, identity) == ("event: progress", "id: 1-0")
        assert json.loads(data.removeprefix("data: ")) == {
            "jobId": "j", "status": "processing", "progress": 7, "filesCompleted": 1, "filesFailed": 0, "totalFiles": 3,
            "bytesFetched": 10, "bytesTotal": None, "attempt": 1, "currentFile": "a\r\nb",
        }  # fmt: skip

    def test_an_event_is_rendered_once_for_all(self) -> None:
        """Within a window all subscribers get the same bytes; in the next one a fresh link."""
        signer = Signer()
        made = frames.Frames(render.Links(signer, 300))
        events: list[JobEvent] = [FilesEvent("1-0", b"[]"), StateEvent("1-1", completed())]
        assert made.of("j", events, 900.0) is made.of("j", [*events], 1100.0)
        assert signer.calls == 1
        assert b"downloadUrl" in made.of("j", events, 1300.0)
        assert signer.calls == 2

    def test_what_is_kept_is_bounded(self) -> None:
        """Old frames go when new ones come."""
        made = frames.Frames(render.Links(Signer(), 300))
        for number in range(frames.KEPT_FRAMES + 50):
            made.of("j", [StateEvent(f"{number}-0", snapshot())], NOW_S)
        assert made.kept == frames.KEPT_FRAMES
        for number in range(20):
            made.of("j", [FilesEvent(f"{number}-1", b"x" * (frames.KEPT_BYTES // 10))], NOW_S)
        assert made.kept == 9  # of a tenth each and a few bytes around it

    def test_files_pass_through(self) -> None:
        """A batch of files keeps its bytes and gets its job."""
        raw = frames.Frames(render.Links(Signer(), 300)).of("j", [FilesEvent("2-0", b'[{"fileId":1}]')], NOW_S)
        assert raw == b'event: files\nid: 2-0\ndata: {"jobId":"j","files":[{"fileId":1}]}\n\n'

    def test_pauses_are_spread(self) -> None:
        """Each client gets a pause of its own between 1 and 5 s."""
        random.seed(1)
        given = {int(frames.soon().split()[1]) for _ in range(200)}
        assert min(given) >= 1000
        assert max(given) <= 5000
        assert len(given) > 100

    def test_a_batch_keeps_files_and_the_newest_state_in_order(self) -> None:
        """Of states the newest counts, of files each; ids only rise."""
        batch = Batch()
        for event in (
            StateEvent("1-0", snapshot()),
            FilesEvent("2-0", b"[]"),
            StateEvent("10-0", snapshot()),
            FilesEvent("9-0", b"[]"),
        ):
            batch.add(event)
        assert [event.id for event in batch.take()] == ["2-0", "9-0", "10-0"]
        assert not batch

    def test_who_has_seen_the_end_needs_nothing(self) -> None:
        """The terminal id or a later one on a finished job; nothing of the kind on a running one."""
        ended = record(completed(), event_id="5-1")
        assert up_to_date(ended, "5-1")
        assert up_to_date(ended, "6-0")
        assert not up_to_date(ended, "5-0")
        assert not up_to_date(ended, "nonsense")
        assert not up_to_date(record(snapshot(), event_id="5-1"), "6-0")
