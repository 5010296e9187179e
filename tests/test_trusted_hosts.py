"""Hosts that the operator trusts: what they get, and that nobody else gets it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from downloader.config import SourcesSettings
from downloader.errors import ConfigError, SourceError, StartError
from downloader.jobs import Source
from downloader.settings import load, reference, show
from downloader.work.connector import system_lookup, tls_context
from downloader.work.fetch import Fetcher, Surroundings
from downloader.work.threads import threads
from tests.conftest import Start
from tests.httpproxy import http_proxy
from tests.origins import Bin, Exchange, RawOrigin, raw_origin

TLS = tls_context()
# All that is public here is 127.0.0.1; what lies inside has another address of the loopback.
PUBLIC = "127.0.0.1"
INSIDE = "127.0.0.2"
BODY = b"from the inside"


def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
    """Names end in .public.test or .inner.test; whoever asks for anything else asks the system."""
    if host.endswith(".test"):
        address = PUBLIC if host.endswith(".public.test") else INSIDE
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
    return system_lookup(host, port)


@asynccontextmanager
async def fetching(**changes: Any) -> AsyncIterator[Fetcher]:
    """A fetcher to which only PUBLIC is public, and which does not pause."""
    outside = Surroundings(tls=TLS, sleep=lambda _: asyncio.sleep(0), names_ttl_s=0, lookup=lookup)
    fields: dict[str, Any] = {"allow_networks": [f"{PUBLIC}/32"], "attempts": 2, "connect_timeout_s": 2} | changes
    with threads() as pools:
        async with Fetcher.open(SourcesSettings(**fields), pools, outside) as fetcher:
            yield fetcher


async def got(fetcher: Fetcher, url: str, tenant: str = "", **fields: Any) -> bytes | str:
    """The bytes at `url`, or the code of what came instead."""
    sink = Bin()
    try:
        await fetcher.fetch(Source(0, fields.pop("file_id", 0), url, **fields), sink, tenant)
    except SourceError as error:
        assert "test" not in error.message
        return error.code
    return sink.data


async def serve_body(exchange: Exchange) -> None:
    """Answer anybody."""
    await exchange.answer("200 OK", {}, BODY)


async def serve_redirects(exchange: Exchange) -> None:
    """Answer `/to/{url}` with a redirect there, and anything else with the body."""
    if exchange.target.startswith("/to/"):
        await exchange.answer("302 Found", {"Location": unquote(exchange.target.removeprefix("/to/"))})
    else:
        await serve_body(exchange)


def at(name: str, origin: RawOrigin, path: str = "/f.bin") -> str:
    """The URL of `path` at an origin by a name."""
    return f"{origin.scheme}://{name}:{origin.port}{path}"


def seen(origin: RawOrigin, *names: str) -> list[tuple[str | None, ...]]:
    """What each request that came had in these headers."""
    return [tuple(exchange.header(name) for name in names) for exchange in origin.exchanges]


async def test_a_listed_host_gets_the_operators_headers_and_no_one_else_does() -> None:
    """It may lie inside, by its name, scheme and port alone; beside the operator's headers the caller's stay here."""
    callers = (("Authorization", "Basic mine"), ("X-Sudo", "root"), ("Accept-Language", "de"))
    names = ("Authorization", "X-Key", "X-Sudo", "Accept-Language")
    async with raw_origin(serve_body, INSIDE) as inside, raw_origin(serve_body, PUBLIC) as stranger:
        table = {
            "name": f"http://files.inner.test:{inside.port}",
            "headers": {"Authorization": "Bearer hush", "x-key": "k"},
        }
        async with fetching(hosts=[table]) as fetcher:
            assert await got(fetcher, at("FILES.inner.test", inside), headers=callers) == BODY
            assert await got(fetcher, at("any.public.test", stranger), headers=callers) == BODY
            assert seen(inside, *names) == [("Bearer hush", "k", None, "de")]
            assert seen(stranger, *names) == [("Basic mine", None, "root", "de")]
            for url in (
                at("user:pw@files.inner.test", stranger),  # another port
                at("other.inner.test", inside),
                at(INSIDE, inside),
                at("files.inner.test", inside).replace("http:", "https:"),
            ):
                assert await got(fetcher, url) == "blocked_address"
        async with fetching(hosts=[table | {"headers": {"X-Key": "k"}}]) as fetcher:
            assert await got(fetcher, at("u:p@files.inner.test", inside), headers=callers) == BODY
            assert seen(inside, *names)[1:] == [(None, "k", None, "de")]
        async with fetching(hosts=[table | {"caller_headers": True}]) as fetcher:
            assert await got(fetcher, at("u:p@files.inner.test", inside), headers=callers) == BODY
            assert seen(inside, *names)[2:] == [("Bearer hush", "k", "root", "de")]
        async with fetching(hosts=[{"name": table["name"]}]) as fetcher:  # without headers nothing is mixed
            assert await got(fetcher, at("files.inner.test", inside), headers=callers) == BODY
            assert seen(inside, *names)[3:] == [("Basic mine", None, "root", "de")]


async def test_each_hop_is_judged_by_its_own_host_and_a_stranger_leads_nowhere() -> None:
    """Trust is kept from one listed host to another; a stranger's redirect gets none, wherever it leads."""
    async with AsyncExitStack() as stack:
        inside, other = [await stack.enter_async_context(raw_origin(serve_redirects, INSIDE)) for _ in range(2)]
        stranger, listed = [await stack.enter_async_context(raw_origin(serve_redirects, PUBLIC)) for _ in range(2)]
        hosts = [
            {"name": f"http://a.inner.test:{inside.port}", "headers": {"X-Key": "a"}},
            {"name": f"http://*.inner.test:{other.port}", "headers": {"X-Key": "b"}},
            {"name": f"http://p.public.test:{listed.port}", "headers": {"X-Key": "p"}},
        ]
        fetcher = await stack.enter_async_context(fetching(hosts=hosts))
        a, b = at("a.inner.test", inside), at("b.inner.test", other)
        trusted, strange = at("a.inner.test", inside, "/to/"), at("s.public.test", stranger, "/to/")

        assert await got(fetcher, trusted + b) == BODY
        assert await got(fetcher, trusted + at("s.public.test", stranger)) == BODY
        assert seen(inside, "X-Key") == [("a",), ("a",)]
        assert seen(other, "X-Key") == [("b",)]
        assert seen(stranger, "X-Key") == [(None,)]

        assert await got(fetcher, strange + a) == "blocked_address"
        assert await got(fetcher, trusted + strange + b) == "blocked_address"
        assert await got(fetcher, strange + at("p.public.test", listed)) == BODY
        assert seen(listed, "X-Key") == [(None,)]
        assert (len(inside.exchanges), len(other.exchanges)) == (3, 1)


async def test_a_host_is_trusted_for_its_tenants_and_the_first_table_that_fits_counts() -> None:
    """For others the same URL is judged like any; the operator's lists of hosts count for trusted ones too."""
    async with raw_origin(serve_body, INSIDE) as inside:
        name = f"http://files.inner.test:{inside.port}"
        hosts: list[dict[str, Any]] = [
            {"name": name, "tenants": ["red"], "headers": {"X-Key": "red"}},
            {"name": name, "tenants": ["red", "blue"], "headers": {"X-Key": "blue"}},
        ]
        url = at("files.inner.test", inside)
        async with fetching(hosts=hosts) as fetcher:
            assert [await got(fetcher, url, tenant) for tenant in ("red", "blue")] == [BODY, BODY]
            assert [await got(fetcher, url, tenant) for tenant in ("green", "")] == ["blocked_address"] * 2
        assert seen(inside, "X-Key") == [("red",), ("blue",)]
        for lists in ({"deny_hosts": ["*.inner.test"]}, {"allow_hosts": ["*.public.test"]}):
            async with fetching(hosts=hosts, **lists) as fetcher:
                assert await got(fetcher, url, "red") == "blocked_address"


async def test_the_templates_host_is_trusted_for_what_the_template_makes() -> None:
    """A URL of the template may lie inside, and its redirects on the same host; nothing else there can be asked for."""
    async with raw_origin(serve_redirects, INSIDE) as inside:
        base = at("files.inner.test", inside, "")
        async with fetching(url_template=f"{base}/{{file_id}}?v=1") as fetcher:
            assert await got(fetcher, f"{base}/a%2Fb%20c?v=1", file_id="a/b c") == BODY
            assert await got(fetcher, f"{base}/7?v=1", file_id=7) == BODY
            assert inside.exchanges[0].target == "/a%2Fb%20c?v=1"
            for path, file_id in (("/admin?v=1", 7), ("/7?v=2", 7), ("/..?v=1", ".."), ("/to/7", 7)):
                assert await got(fetcher, base + path, file_id=file_id) == "blocked_address"
        async with fetching(url_template=f"{base}/to/{{file_id}}") as fetcher:
            assert await got(fetcher, f"{base}/to/%2Fshelf%2F7", file_id="/shelf/7") == BODY
            assert inside.exchanges[-1].target == "/shelf/7"
            inner = at("other.inner.test", inside)
            assert await got(fetcher, f"{base}/to/{quote(inner, safe='')}", file_id=inner) == "blocked_address"
            assert inside.exchanges[-1].target.startswith("/to/http%3A")
        async with fetching(url_template="http://{file_id}/x") as fetcher:
            assert await got(fetcher, f"http://{INSIDE}/x", file_id=INSIDE) == "blocked_address"


# TLS and proxies


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA of its own, a server's certificate for *.inner.test and *.public.test, and a client's."""
    folder = tmp_path_factory.mktemp("keys")

    def issue(name: str, *more: str) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")
        command = ["openssl", "req", "-x509", "-new", *curve, *files, *more]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    issue("root", "-addext", "keyUsage=critical,keyCertSign")
    by_root = ("-CA", "root.pem", "-CAkey", "root.key", "-addext", "basicConstraints=critical,CA:FALSE")
    issue("server", *by_root, "-addext", "subjectAltName=DNS:*.inner.test,DNS:*.public.test")
    issue("client", *by_root)
    (folder / "both.pem").write_text((folder / "client.pem").read_text() + (folder / "client.key").read_text())
    return folder


def server_tls(keys: Path, *, client_wanted: bool = False) -> ssl.SSLContext:
    """A server with the certificate of `keys`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    if client_wanted:
        context.load_verify_locations(keys / "root.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_ca_and_a_certificate_are_for_their_host_alone(keys: Path) -> None:
    """With its CA and our certificate the host answers; neither is shown to, or believed of, anybody else."""
    ca, pair = {"ca_file": f"{keys}/root.pem"}, {"cert_file": f"{keys}/client.pem", "key_file": f"{keys}/client.key"}
    async with (
        raw_origin(serve_body, INSIDE, ssl=server_tls(keys, client_wanted=True)) as inside,
        raw_origin(serve_body, PUBLIC, ssl=server_tls(keys)) as stranger,
    ):
        name, url = f"files.inner.test:{inside.port}", at("files.inner.test", inside)
        caller = (("Authorization", "Basic mine"),)
        for table in (ca | pair, ca | {"cert_file": f"{keys}/both.pem"}):
            async with fetching(hosts=[{"name": name} | table]) as fetcher:
                assert await got(fetcher, url, headers=caller) == BODY
                assert await got(fetcher, at("s.public.test", stranger)) == "tls_verify"
        assert seen(inside, "Authorization") == [(None,)] * 2  # what our certificate opens is ours to ask for
        for table, code in (({}, "tls_verify"), (ca, "protocol_error")):  # TLS 1.3 refuses a client after its own part
            async with fetching(hosts=[{"name": name} | table]) as fetcher:
                assert await got(fetcher, url) == code


async def test_a_proxy_stands_before_its_hosts_alone(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Http is asked of it whole, https through a tunnel, names are its business; the environment's is not heard."""
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(http_proxy(INSIDE, wants="Basic bWU6aHVzaA=="))
        plain = await stack.enter_async_context(raw_origin(serve_redirects, INSIDE))
        secure = await stack.enter_async_context(raw_origin(serve_body, INSIDE, ssl=server_tls(keys)))
        stranger = await stack.enter_async_context(raw_origin(serve_body, PUBLIC))
        hosts = [
            {
                "name": f"http://known-to-the-proxy:{plain.port}",
                "proxy": proxy.url("me:hush"),
                "headers": {"X-Key": "k"},
            },
            {"name": f"*.inner.test:{secure.port}", "proxy": proxy.url("me:hush"), "ca_file": f"{keys}/root.pem"},
        ]
        fetcher = await stack.enter_async_context(fetching(hosts=hosts))
        odd = at("known-to-the-proxy", plain, "/a%2fb;c//?x=%7e&y")
        for url in (odd, odd, at("files.inner.test", secure), at("s.public.test", stranger)):
            assert await got(fetcher, url) == BODY
        hop = at("known-to-the-proxy", plain, "/to/") + at("s.public.test", stranger)
        assert await got(fetcher, hop) == BODY

        assert {line for line, _ in proxy.passed} == {
            f"GET {odd} HTTP/1.1",
            f"GET {hop} HTTP/1.1",
            f"CONNECT files.inner.test:{secure.port} HTTP/1.1",
        }
        assert {exchange.target for exchange in plain.exchanges} == {
            "/a%2fb;c//?x=%7e&y",
            hop.partition(str(plain.port))[2],
        }
        hidden = ("X-Key", "Proxy-Authorization")
        assert seen(secure, *hidden) + seen(stranger, *hidden) == [(None, None)] * 3
        tunnel = next(headers for line, headers in proxy.passed if line.startswith("CONNECT"))
        assert "x-key" not in tunnel


@pytest.mark.parametrize("userinfo", ["", "me:wrong"])
async def test_a_proxy_that_refuses_says_so(keys: Path, userinfo: str) -> None:
    """Wrong credentials end the file at once, and a proxy that is away is a connection that fails."""
    async with http_proxy(INSIDE, wants="Basic bWU6aHVzaA==") as proxy:
        names = ["http://files.inner.test", "files.inner.test"]
        tables = [{"name": name, "proxy": proxy.url(userinfo)} for name in names]
        away = {"name": "away.inner.test", "proxy": "http://127.0.0.1:1"}
        async with fetching(hosts=[*tables, away]) as fetcher:
            assert await got(fetcher, "http://files.inner.test/x") == "http_status:407"
            assert await got(fetcher, "https://files.inner.test/x") == "connect_failed"
            assert len(proxy.passed) == 2
            assert await got(fetcher, "https://away.inner.test/x") == "connect_failed"


# The settings

BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "no CA": ({"ca_file": "/no/such.pem"}, "No such file"),
    "CA of words": ({"ca_file": __file__}, "PEM form"),
    "no certificate": ({"cert_file": "/no/such.pem"}, "No such file"),
    "another's key": ({"cert_file": "{keys}/client.pem", "key_file": "{keys}/server.key"}, "its own key"),
    "our header": ({"headers": {"Connection": "close"}}, "'Connection'"),
    "refused header": ({"headers": {"Host": "x"}}, "'Host'"),
    "no header": ({"headers": {"X-Key": "hush\r\nX: y"}}, "forbidden character"),
}


@pytest.mark.parametrize("case", BAD_FILES)
async def test_what_cannot_be_used_ends_the_start_with_one_line(keys: Path, case: str) -> None:
    """The line names the table, the key and the remedy, and never a header's value."""
    table, says = BAD_FILES[case]
    filled = json.loads(json.dumps(table).replace("{keys}", str(keys)))
    with pytest.raises(StartError) as caught:
        async with fetching(hosts=[{"name": "files.inner.test"} | filled]):
            pass
    message = caught.value.message
    assert message.startswith("sources.hosts (files.inner.test): ")
    assert says in message
    assert "\n" not in message
    assert "hush" not in message


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for_at_the_terminal(keys: Path) -> None:
    """Nobody sits there to type it."""
    command = ["openssl", "ec", "-in", "client.key", "-aes256", "-passout", "pass:x", "-out", "locked.key"]
    subprocess.run(command, cwd=keys, check=True, capture_output=True)
    table = {"name": "a.test", "cert_file": f"{keys}/client.pem", "key_file": f"{keys}/locked.key"}

    async def story() -> None:
        async with fetching(hosts=[table]):
            pass

    with pytest.raises(StartError, match="no passphrase"):
        asyncio.run(story())


BAD_TABLES = {
    '{"name": "*"}': "http://files.internal:8080",
    '{"name": "files.internal/x"}': "http://files.internal:8080",
    '{"name": "ftp://files.internal"}': "http://files.internal:8080",
    '{"name": "me:hush@files.internal"}': "http://files.internal:8080",
    '{"name": "files.internal:0"}': "http://files.internal:8080",
    '{"name": "a.b", "proxy": "https://p"}': "http://proxy.internal:3128",
    '{"name": "a.b", "proxy": "http://hush@p"}': "http://proxy.internal:3128",
    '{"name": "a.b", "key_file": "k"}': "cert_file",
    '{"name": "a.b", "headers": {"A": ["hush"]}}': "sources.hosts[0.headers.A]",
}


@pytest.mark.parametrize("table", BAD_TABLES)
def test_tables_that_are_refused(table: str) -> None:
    """A wrong table ends the start with one line; what may be a secret is not repeated."""
    with pytest.raises(ConfigError) as caught:
        load(environment={"DOWNLOADER_SOURCES__HOSTS": f"[{table}]"}, files=False)
    assert BAD_TABLES[table] in caught.value.message
    assert "hush" not in caught.value.message


def test_tables_are_shown_without_their_secrets(tmp_path: Path) -> None:
    """`config` prints names and masks values; what it prints, and the documented example, can be read again."""
    table = {"name": "*.internal", "headers": {"Authorization": "hush"}, "proxy": "http://me:hush@p:1"}
    shown = show(load(environment={"DOWNLOADER_SOURCES__HOSTS": json.dumps([table])}, files=False))
    assert "hush" not in shown
    assert 'headers = { "Authorization" = "********" }' in shown
    path = tmp_path / "config.toml"
    path.write_text(shown)
    assert load(path, environment={}).sources.hosts[0].proxy == "http://me:********@p:1"
    lines = reference().splitlines()
    begin = lines.index("#[[sources.hosts]]")
    example = [line[1:] for line in lines[begin : lines.index("", begin)] if not line.startswith("# ")]
    path.write_text("\n".join(example).replace('name = ""', 'name = "one"') + "\n")
    assert load(path, environment={}).sources.hosts[0].headers == {}


async def test_no_secret_of_the_operator_comes_out(start: Start, caplog: pytest.LogCaptureFixture, keys: Path) -> None:
    """After files that came and files that failed, status, events, archive and logs hold no header and no password."""
    caplog.set_level(logging.DEBUG)

    async def script(exchange: Exchange) -> None:
        codes = {"/gone": "404 Not Found", "/away": "503 Service Unavailable"}
        await exchange.answer(codes.get(exchange.target, "200 OK"), {}, BODY)

    async with raw_origin(script) as origin, http_proxy(PUBLIC, wants="Basic bWU6aHVzaA==") as proxy:
        hosts = [
            {"name": f"http://localhost:{origin.port}", "headers": {"Authorization": "Bearer hush"}},
            {"name": f"http://x.test:{origin.port}", "headers": {"X-Key": "hush"}, "proxy": proxy.url("me:hush")},
            {"name": "y.test", "headers": {"X-Key": "hush"}, "proxy": proxy.url("me:hush-hush")},
        ]
        urls = [at(name, origin, path) for name in ("localhost", "x.test") for path in ("/a", "/gone", "/away")]
        async with start(sources={"allow_networks": [], "hosts": hosts}) as api:
            job_id = await api.submit([*urls, "https://y.test/b"], options={"manifest": True})
            events = await api.events(job_id)
            status = await api.finished(job_id)
            archive = await api.archive(job_id)
            inside = b"".join(archive.read(name) for name in archive.namelist()).decode()
        codes = [(file["error"] or {}).get("code") for file in status["files"]]
        assert codes == [None, "http_status:404", "http_status:503"] * 2 + ["connect_failed"]
        assert {("Bearer hush", None), (None, "hush")} == set(seen(origin, "Authorization", "X-Key"))
        records = "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
        for text in (json.dumps(status), repr(events), inside, records):
            assert "hush" not in text
            assert "bWU6" not in text
