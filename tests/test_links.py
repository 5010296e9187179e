"""Links: signed offline, equal on every replica, never alive longer than the archive or the keys behind them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import aiohttp
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import SecretStr
from yarl import URL

from downloader.config import StorageSettings
from downloader.work.links import LinkSigner, content_disposition
from downloader.work.partbody import PartBody
from downloader.work.signing import KeyRing, Keys
from downloader.work.storage import Storage
from tests.servers import start_weed

NOW = 1_795_600_000  # a multiple of 100, not of 300
WINDOW = NOW // 300 * 300
NAMES = [
    "plain.zip",
    "1976–2016.zip",
    "微信.zip",
    'a"b.zip',
    "O'Neil (1).zip",
    "x;y.zip",
    "50%.zip",
    "back\\slash.zip",
    "🦊" * 200 + ".zip",
]


def settings(**more: Any) -> StorageSettings:
    given = {
        "endpoint_url": "http://minio:9000",
        "public_endpoint_url": "https://files.example.com",
        "bucket": "archive-1",
    }
    return StorageSettings.model_validate(given | more)


def signer(ttl_s: int = 3600, keys: Keys | None = None, **more: Any) -> LinkSigner:
    return LinkSigner(settings(**more), ttl_s, KeyRing(keys or Keys("AKID", "secret")))


def test_every_read_within_a_window_gives_the_same_link() -> None:
    """Two replicas, five minutes: one link; the next window gives another."""
    links = {signer().sign("jobs/a.zip", "a.zip", None, WINDOW + second).url for second in (0, 1, 299.9)}
    assert len(links) == 1
    assert signer().sign("jobs/a.zip", "a.zip", None, WINDOW + 300).url not in links


@pytest.mark.parametrize(("ttl_s", "window_s"), [(10, 2), (40, 10), (3600, 300), (604_800, 300)])
def test_the_window_is_a_quarter_of_a_short_life(ttl_s: int, window_s: int) -> None:
    """A link is never handed out with less than three quarters of its life left."""
    link = signer(ttl_s).sign("k", "a.zip", None, NOW)
    left_s = link.expires_at.timestamp() - NOW
    assert ttl_s - window_s < left_s <= ttl_s
    assert int(parse_qs(urlsplit(link.url).query)["X-Amz-Expires"][0]) == ttl_s


def test_a_link_ends_with_the_archive_and_with_the_keys() -> None:
    """Whatever ends first counts, and is what `expires_at` says (D09)."""
    archive = signer().sign("k", "a.zip", (NOW + 700) * 1000, NOW)
    assert archive.expires_at == datetime.fromtimestamp(NOW + 700, UTC)
    keys = signer(keys=Keys("AKID", "secret", "token", NOW + 600)).sign("k", "a.zip", (NOW + 700) * 1000, NOW)
    assert keys.expires_at == datetime.fromtimestamp(NOW + 600, UTC)
    assert parse_qs(urlsplit(keys.url).query)["X-Amz-Security-Token"] == ["token"]
    gone = signer().sign("k", "a.zip", (NOW - 5000) * 1000, NOW)
    assert gone.expires_at.timestamp() <= NOW + 1


@pytest.mark.parametrize("token", [None, "to/ken+="])
@pytest.mark.parametrize("key", ["jobs/a.zip", "jobs/é (1)+~&=.zip"])
def test_botocore_signs_the_same(monkeypatch: pytest.MonkeyPatch, token: str | None, key: str) -> None:
    """Our signature is the SDK's for the same moment; the SDK's clock is pinned, which is why we sign ourselves."""
    link = signer(keys=Keys("AKID", "secret", token)).sign(key, "a–b.zip", None, NOW)
    moment = datetime.fromtimestamp(WINDOW, UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None))
    base, _, query = link.url.partition("?")
    request = AWSRequest(
        "GET", base, params={"response-content-disposition": parse_qs(query)["response-content-disposition"][0]}
    )
    S3SigV4QueryAuth(Credentials("AKID", "secret", token), "s3", "us-east-1", expires=3600).add_auth(request)
    theirs = parse_qs(urlsplit(request.url).query)
    assert theirs == parse_qs(query)


@pytest.mark.parametrize(
    ("more", "start"),
    [
        ({}, "https://files.example.com/archive-1/k.zip?"),
        ({"public_endpoint_url": ""}, "http://minio:9000/archive-1/k.zip?"),
        ({"public_endpoint_url": "https://files.example.com:443/"}, "https://files.example.com/archive-1/k.zip?"),
        ({"public_endpoint_url": "http://[::1]:9000"}, "http://[::1]:9000/archive-1/k.zip?"),
        ({"addressing": "virtual"}, "https://archive-1.files.example.com/k.zip?"),
        ({"addressing": "auto"}, "https://files.example.com/archive-1/k.zip?"),
        (
            {"addressing": "auto", "public_endpoint_url": "", "endpoint_url": "", "region": "eu-central-1"},
            "https://archive-1.s3.eu-central-1.amazonaws.com/k.zip?",
        ),
    ],
)
def test_links_are_made_for_the_address_people_use(more: dict[str, Any], start: str) -> None:
    """Public endpoint before inner one, default ports left out, the region's own host on AWS (D08)."""
    assert signer(**more).sign("k.zip", "a.zip", None, NOW).url.startswith(start)


@pytest.mark.parametrize("name", NAMES)
def test_a_disposition_is_ascii_and_gives_the_name_back(name: str) -> None:
    """A browser-like parser yields the original; nothing breaks out of the quotes (D11)."""
    header = content_disposition(name)
    assert header.isascii()
    assert len(header) < 3000
    message = Message()
    message["Content-Disposition"] = header.partition("; filename*")[0]
    assert message.get_content_disposition() == "attachment"
    assert message.get_filename()
    coded = header.partition("; filename*=UTF-8''")[2]
    assert unquote(coded) == name
    assert not set("'()* ;") & set(coded)


def test_control_characters_cannot_split_a_header() -> None:
    """CR, LF and NUL are dropped, lone surrogates too, and an empty name becomes `download`."""
    assert content_disposition("a\r\nSet-Cookie: z\0\udce9") == (
        "attachment; filename=\"aSet-Cookie: z\"; filename*=UTF-8''aSet-Cookie%3A%20z"
    )
    assert 'filename="download"' in content_disposition("\n")


def test_keys_of_the_environment_are_used_when_none_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own chain gives key, secret and token; none of them is shown by repr."""
    for name, value in (("ACCESS_KEY_ID", "ENVKEY"), ("SECRET_ACCESS_KEY", "s3cr3t"), ("SESSION_TOKEN", "tok")):
        monkeypatch.setenv(f"AWS_{name}", value)

    async def story() -> None:
        async with KeyRing.open("storage", "", SecretStr("")) as ring, LinkSigner.open(settings(), 3600) as made:
            assert ring.keys == Keys("ENVKEY", "s3cr3t", "tok", None)
            assert "s3cr3t" not in repr(ring.keys)
            assert "ENVKEY%2F" in made.sign("k", "a.zip", None, NOW).url

    asyncio.run(story())


def test_a_real_store_honours_the_link() -> None:
    """GET through the link gives the bytes and the name, also for names and keys that need escaping."""

    async def story() -> None:
        with start_weed() as s3:
            async with (
                Storage.open(s3.settings()) as storage,
                LinkSigner.open(s3.settings(), 3600) as made,
                aiohttp.ClientSession() as http,
            ):
                await storage.prepare()
                for name in NAMES:
                    key = f"links/é {len(name)}.zip"
                    await storage.put(key, PartBody([name.encode()]))
                    link = made.sign(key, name, None, time.time())
                    async with http.get(URL(link.url, encoded=True)) as answer:
                        assert answer.status == 200
                        assert await answer.read() == name.encode()
                        assert answer.headers["Content-Disposition"] == content_disposition(name)

    asyncio.run(story())
