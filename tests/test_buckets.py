"""Sources in buckets: `s3://bucket/key`, by the operator's word and for the tenants it is given for."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from downloader.errors import ConfigError
from downloader.settings import load, reference, show
from downloader.work.partbody import PartBody
from downloader.work.storage import Storage
from tests.conftest import Start
from tests.files import Origin, content
from tests.s3faults import relaying
from tests.servers import S3

KEYS = [
    "plain.bin",
    "a folder/Größe 100%25 + ü.txt",
    "what?.pdf",
    "a#b.txt",
    "deep/er/日本.txt",
    "a+b&c=d.txt",
    "~x!'()*.t",
]


@dataclass(frozen=True)
class Shelf:
    """A bucket with objects that are not ours."""

    name: str
    s3: S3

    def table(self, **more: Any) -> dict[str, Any]:
        """The bucket as it stands in the settings."""
        return {
            "name": self.name,
            "endpoint_url": self.s3.endpoint_url,
            "access_key_id": self.s3.access_key_id,
            "secret_access_key": self.s3.secret_access_key,
            **more,
        }

    def url(self, key: str) -> str:
        """The object's URL."""
        return f"s3://{self.name}/{key}"


@pytest.fixture
async def shelf(s3: S3) -> AsyncIterator[Shelf]:
    """A bucket with one object for each of KEYS."""
    name = f"shelf-{secrets.token_hex(6)}"
    async with Storage.open(s3.settings(name)) as storage:
        await storage.prepare()
        for key in KEYS:
            await storage.put(key, PartBody([content(5000, key)]))
        yield Shelf(name, s3)
        for key in KEYS:
            await storage.delete(key)


async def test_objects_are_packed_whatever_their_keys(start: Start, shelf: Shelf) -> None:
    """Every key is taken literally, its last part is the name, and the private endpoint needs no other permission."""
    async with start(sources={"allow_networks": [], "buckets": [shelf.table()]}) as api:
        status = await api.finished(await api.submit([shelf.url(key) for key in KEYS], options={"manifest": True}))
        assert [file["error"] for file in status["files"]] == [None] * len(KEYS)
        archive = await api.archive(status["jobId"])
        for key, file in zip(KEYS, status["files"], strict=True):
            assert archive.read(file["name"]) == content(5000, key)
            assert file["originalUrl"] == shelf.url(key)
        assert status["files"][1]["name"] == "Größe 100%25 + ü.txt"
        assert "Signature" not in json.dumps(status["files"]) + archive.read("manifest.json").decode()


async def test_what_is_not_there_says_so(start: Start, shelf: Shelf) -> None:
    """A missing object is a 404, wrong keys to the bucket are a 403; the others arrive."""
    wrong = shelf.table(secret_access_key="wrong")
    async with start(sources={"buckets": [shelf.table()]}) as api:
        status = await api.finished(await api.submit([shelf.url("plain.bin"), shelf.url("missing.bin")]))
        assert [file["status"] for file in status["files"]] == ["done", "failed"]
        assert status["files"][1]["error"]["code"] == "http_status:404"
    async with start(sources={"buckets": [wrong]}) as api:
        status = await api.finished(await api.submit([shelf.url("plain.bin")]))
        assert status["files"][0]["error"]["code"] == "http_status:403"


@pytest.mark.parametrize("tenants", [["others"], []])
async def test_a_bucket_of_others_is_not_there(start: Start, shelf: Shelf, tenants: list[str]) -> None:
    """Without a table, or with one for other tenants, the request is refused with the field and the remedy."""
    table = [shelf.table(tenants=tenants)] if tenants else []
    async with start(sources={"buckets": table}) as api:
        answer = await api.initiate(["https://example.com/a.pdf", shelf.url("plain.bin")])
        assert answer.status == 400
        (error,) = answer.body["errors"]
        assert error["pointer"] == "/files/1/url"
        assert "sources.buckets" in error["detail"]
        seed = {"file_ids": [1], "source_urls": [shelf.url("plain.bin")]}
        answer = await api.call("POST", "/v1/download/initiate", json=seed)
        assert answer.body["errors"][0]["pointer"] == "/source_urls/0"


async def test_the_endpoint_is_open_to_signed_requests_only(start: Start, shelf: Shelf, origin: Origin) -> None:
    """Neither a plain URL nor a redirect reaches the endpoint, even while a connection to it lies in the pool."""
    inside = f"{shelf.s3.endpoint_url}/{shelf.name}/plain.bin"
    async with start(sources={"allow_networks": [], "buckets": [shelf.table()]}) as api:
        status = await api.finished(await api.submit([shelf.url("plain.bin"), inside, origin.url(10, "x")]))
        assert [(file["error"] or {}).get("code") for file in status["files"]] == [
            None,
            "blocked_address",
            "blocked_address",
        ]


async def test_a_broken_answer_is_asked_for_again_and_signed_anew(start: Start, shelf: Shelf) -> None:
    """A connection that breaks and a store that is busy cost tries, not the file."""
    async with relaying(shelf.s3.endpoint_url) as relay:
        faults: dict[int, int | str] = {1: "lost", 2: 503}
        relay.fault = lambda call: faults.get(call.time) if call.operation == "Get" else None
        table = shelf.table(endpoint_url=relay.endpoint_url)
        async with start(sources={"attempts": 4, "buckets": [table]}) as api:
            status = await api.finished(await api.submit([shelf.url("plain.bin")]))
            assert status["files"][0]["status"] == "done"
        assert len(relay.made("Get")) == 3


async def test_urls_that_are_refused(start: Start, shelf: Shelf) -> None:
    """What names no object is refused at once; nothing that may be a secret is repeated."""
    remedies = {
        "s3://abc": "must name an object",
        "s3://bucket/": "must name an object",
        "s3://bucket/folder/": "must name an object",
        "s3:///key": "must name a bucket",
        "s3://KEY:SECRET@bucket/key": "must name a bucket",
        "s3://bucket/../other/key": "'..'",
        "s3://bucket/./key": "'.'",
        "s3://bucket/" + "k" * 1025: "1024 bytes",
        "s3:bucket/key": "s3://",
    }
    async with start(sources={"buckets": [shelf.table(name="bucket")]}) as api:
        for url, remedy in remedies.items():
            answer = await api.initiate([url])
            assert answer.status == 400, url
            assert remedy in answer.body["errors"][0]["detail"], url
            assert "SECRET" not in answer.raw.decode()


async def test_headers_are_not_sent_to_a_bucket(start: Start, shelf: Shelf) -> None:
    """A header would not be signed: it is refused by name."""
    async with start(sources={"buckets": [shelf.table()]}) as api:
        answer = await api.initiate([{"url": shelf.url("plain.bin"), "headers": {"X-Amz-Meta": "1"}}])
        assert answer.body["errors"][0]["pointer"] == "/files/0/headers"


async def test_ids_alone_with_a_template_in_a_bucket(start: Start, shelf: Shelf) -> None:
    """`file_ids` without URLs: the id is the key, folders and all, but never leads out of the template's folder."""
    template = shelf.url("{file_id}")
    async with start(sources={"buckets": [shelf.table()], "url_template": template}) as api:
        answer = await api.call("POST", "/v1/download/initiate", json={"file_keys": KEYS})
        status = await api.finished(answer.body["jobId"])
        assert status["filesCompleted"] == len(KEYS)
        answer = await api.call("POST", "/v1/download/initiate", json={"file_keys": ["../x"]})
        assert answer.body["errors"][0]["pointer"] == "/file_keys/0"


BAD_TABLES = {
    'name = "downloads"': "the bucket of the archives",
    'name = "x"': "sources.buckets[0.name]",
    'name = "one"\nendpoint_url = "ftp://x"': "https://minio.internal:9000",
    'name = "one"\nendpoint_url = "http://user:secret@x"': "without userinfo",
    'name = "one"\nsecret = "hush"': "sources.buckets[0.secret]",
    'name = "one"\n[[sources.buckets]]\nname = "one"': "twice",
}


@pytest.mark.parametrize("table", BAD_TABLES)
def test_tables_that_are_refused(tmp_path: Path, table: str) -> None:
    """A wrong table ends the start with one line that names its key; a secret under a wrong name is not shown."""
    path = tmp_path / "config.toml"
    path.write_text(f"[[sources.buckets]]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environment={})
    assert BAD_TABLES[table] in caught.value.message
    assert "hush" not in caught.value.message
    assert "secret@" not in caught.value.message


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ("s3://{file_id}/x", "must name its bucket"),
        ("s3://other/{file_id}", "not among sources.buckets"),
        ("s3://one/{file_id}/", "must name an object"),
    ],
)
def test_templates_that_are_refused(template: str, remedy: str) -> None:
    """A template names a bucket of the settings, and the id stands in its key."""
    environment = {
        "DOWNLOADER_SOURCES__BUCKETS": '[{"name": "one"}]',
        "DOWNLOADER_SOURCES__URL_TEMPLATE": template,
    }
    with pytest.raises(ConfigError, match=remedy):
        load(environment=environment, files=False)


def test_tables_are_shown_without_their_secrets(tmp_path: Path) -> None:
    """`config` prints each table and masks its secret; what it prints can be read again."""
    environment = {"DOWNLOADER_SOURCES__BUCKETS": '[{"name": "one", "secret_access_key": "hush"}]'}
    shown = show(load(environment=environment, files=False))
    assert '[[sources.buckets]]\nname = "one"' in shown
    assert "hush" not in shown
    path = tmp_path / "config.toml"
    path.write_text(shown)
    assert load(path, environment={}).sources.buckets[0].name == "one"


def test_the_documented_table_works_when_its_marks_are_taken_off(tmp_path: Path) -> None:
    """The example in config.toml is a table as soon as it has a name."""
    lines = reference().splitlines()
    begin = lines.index("#[[sources.buckets]]")
    table = [line[1:] for line in lines[begin : lines.index("", begin)] if not line.startswith("# ")]
    path = tmp_path / "config.toml"
    path.write_text("\n".join(table).replace('name = ""', 'name = "one"') + "\n")
    assert load(path, environment={}).sources.buckets[0].region == "us-east-1"


@pytest.mark.parametrize(
    "host", ["https://a.example", "a.example/x", "a.example:80", "*.*.example", "a..b", "", "a*.b"]
)
@pytest.mark.parametrize("key", ["ALLOW_HOSTS", "DENY_HOSTS"])
def test_hosts_that_are_no_hosts_are_refused(key: str, host: str) -> None:
    """A list of hosts that could never match what was meant ends the start."""
    with pytest.raises(ConfigError, match="is no host"):
        load(environment={f"DOWNLOADER_SOURCES__{key}": json.dumps([host])}, files=False)


def test_hosts_that_are_hosts_are_taken() -> None:
    """Names, everything below a name, addresses in either form, and all."""
    hosts = ["example.com", "*.example.com.", "a_b.example", "xn--bcher-kva.example", "bücher.example", "10.0.0.1"]
    hosts += ["::1", "[2001:db8::1]", "*", "localhost"]
    loaded = load(environment={"DOWNLOADER_SOURCES__ALLOW_HOSTS": json.dumps(hosts)}, files=False)
    assert loaded.sources.allow_hosts == hosts
