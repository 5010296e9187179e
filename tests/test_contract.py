"""The API is what its documentation says, and people and programs can read that without any other server."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import downloader
from downloader.web.contract import codes
from downloader.web.contract.examples import REQUESTS, TRANSCRIPT
from downloader.web.contract.remedies import REMEDIES
from downloader.web.contract.sharing import resolved
from downloader.web.problems import TABLE
from downloader.web.routes import ROUTES
from tests.api import Api
from tests.conftest import Start
from tests.contract.trial import judge, target
from tests.files import Origin
from tests.servers import S3, Redis, missing
from tests.test_cli import run

ROOT = Path(__file__).parent.parent
HOUSE = Path(downloader.__file__).parent
COMMITTED = ROOT / "openapi.json"
PAGE = {"Accept": "text/html"}


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and the text of its blocks of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.blocks: list[str] = []
        self._in_block = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "pre":
            self._in_block = True
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_block = self._in_block and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_block:
            self.blocks[-1] += data

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


async def page(api: Api, path: str) -> Page:
    """A page, which asks nothing of other servers and runs no script, whatever stands in it."""
    answer = await api.call("GET", path, headers=PAGE)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    found = Page(answer.raw.decode())
    assert not {tag for tag, _ in found.tags} & {"script", "img", "link", "iframe", "form"}
    assert not [name for _, attributes in found.tags for name in attributes if name == "style" or name.startswith("on")]
    assert [target for target in found.all("href") if not target.startswith(("/", "#"))] == []
    return found


async def test_one_document(api: Api) -> None:
    """The service serves the document that is committed and that the command prints; refresh it with that command.

    It is valid, names every route, is asked for again at no cost, and needs no key.
    """
    said = (await run("openapi", cwd=HOUSE)).out
    remedy = "run: python -m downloader openapi > openapi.json"
    assert said == COMMITTED.read_text(encoding="utf-8"), remedy
    answer = await api.call("GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.body == json.loads(said), remedy
    again = await api.call("GET", "/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.raw) == (304, b"")
    OpenAPIV31SpecValidator(answer.body).validate()
    operations = [operation for methods in answer.body["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)
    links = (await api.call("GET", "/", headers={"Accept": "application/json"})).body["links"]
    assert (links["docs"], links["openapi"]) == ("/docs", "/openapi.json")


async def test_the_examples_are_real(api: Api) -> None:
    """Each example of a body is taken as it stands; each example of an answer fits its own schema."""
    for _, body in REQUESTS.values():
        answer = await api.call("POST", "/v1/download/initiate", json=body)
        assert answer.status == 202
        await api.call("DELETE", f"/v1/download/{answer.body['jobId']}")
    document = (await api.call("GET", "/openapi.json")).body
    judged = 0
    for schema, example in _examples(document):
        jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]}).validate(example)
        judged += 1
    assert judged >= 40


def _examples(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    known = document["components"]["examples"]
    for methods in document["paths"].values():
        for operation in methods.values():
            answers = [resolved(response, document) for response in operation["responses"].values()]
            bodies = [operation.get("requestBody", {}), *answers]
            for callback in operation.get("callbacks", {}).values():
                bodies += [one["post"]["requestBody"] for one in callback.values()]
            for media, content in [pair for body in bodies for pair in body.get("content", {}).items()]:
                if "example" in content and media != "text/event-stream":
                    yield content["schema"], content["example"]
                for example in content.get("examples", {}).values():
                    found = known[example["$ref"].rpartition("/")[2]] if "$ref" in example else example
                    yield content["schema"], found["value"]


async def test_the_transcript_is_a_stream(start: Start, origin: Origin) -> None:
    """A real stream has the fields of the documented events and no others, from its first event to its last."""
    async with start() as api:
        document = (await api.call("GET", "/openapi.json")).body
        events = document["paths"]["/v1/download/subscribe/{jobId}"]["get"]["responses"]["200"]["content"]
        items = events["text/event-stream"]["schema"]["oneOf"]
        schemas = {item["title"]: item["properties"]["data"]["contentSchema"] for item in items}
        job = await api.submit([origin.url(1000, "a"), origin.status(404)])
        told = [frame async for frame in api.stream(job)]
        assert told[-1].event == "complete"
        for frame in told:
            schema = schemas[frame.event] | {"components": document["components"]}
            jsonschema_rs.Draft202012Validator(schema).validate(frame.data)
    shown = {line.removeprefix("event: ") for line in TRANSCRIPT.splitlines() if line.startswith("event: ")}
    assert {frame.event for frame in told} <= shown == {"progress", "files", "complete"}


async def test_the_docs_page(api: Api, origin: Origin) -> None:
    """The page tells every call, each of its links leads somewhere, and its calls work as they stand, in a shell."""
    found = await page(api, "/docs")
    document = (await api.call("GET", "/openapi.json")).body
    anchors, links = set(found.all("id")), found.all("href")
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert {operation["operationId"] for operation in operations} <= anchors
    assert set(document["components"]["schemas"]) <= anchors
    assert [link for link in links if link[0] == "#" and link[1:] not in anchors] == []
    for path in sorted({link.partition("#")[0] for link in links if link[0] == "/"}):
        assert (await api.call("GET", path)).status == 200, path
    if shutil.which("curl") is None:
        missing("curl")
    calls = [block for block in found.blocks if block.startswith("curl")]
    assert len(calls) == len(ROUTES)
    initiate = next(call for call in calls if "/initiate" in call)
    job = json.loads(await _shell(re.sub(r'https://[^"]+', origin.url(10, "docs"), initiate)))["jobId"]
    await api.finished(job)
    for call in calls:
        if "$job" in call and "-X DELETE" not in call:
            said = await _shell(f"job={job}; cd $(mktemp -d); {call}")
            assert '"job_not_found"' not in said
            assert '"method_not_allowed"' not in said


async def _shell(script: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_every_code_has_its_page(api: Api) -> None:
    """A problem's type leads to what it means and what to do, as a page and as JSON; codes of jobs and files do too."""
    assert set(REMEDIES) == set(TABLE)
    for code in codes.CODES.values():
        told = (await api.call("GET", f"/errors/{code.name}")).body
        assert told["code"] == code.name
        assert told["status"] == (TABLE[code.name][0] if code.name in TABLE else None)
        assert min(len(told["meaning"]), len(told["remedy"])) > 8
        shown = await page(api, f"/errors/{code.name}")
        assert all(code.name in block for block in shown.blocks)
        assert len(shown.blocks) == len(code.kinds)
    assert (await api.call("GET", "/errors/http_status:404")).body["code"] == "http_status"
    unknown = await api.call("GET", "/errors/%3Cscript%3E")
    assert (unknown.status, unknown.body["code"]) == (404, "not_found")
    assert (await api.call("GET", unknown.body["type"])).body["code"] == "not_found"


def test_the_documentation_has_the_words_of_the_table() -> None:
    """What docs/sources.md says of missing files is what the pages say."""
    told = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*) \| (.*) \| (.*) \|$", told, re.MULTILINE)
    table = [(", ".join(f"`{name}`" for name in one.names), one.happened, one.again) for one in codes.FILES]
    assert [row for row in rows if row[0].startswith(tuple(names for names, _, _ in table))] == table


def test_the_table_names_every_code_of_a_job() -> None:
    """No way in which a job can end without an archive is left out, and none is made up."""
    assert set(codes.JOBS) == set(_ends())


def _ends() -> Iterator[str]:
    """The codes in what the worker raises, in the store's failures, and in the scripts."""
    makers = {"JobError", "StorageError", "Failure", "Failed"}
    for path in (HOUSE / "work").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in makers:
                continue
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)
    for path in (HOUSE / "state" / "lua").glob("*.lua"):
        yield from re.findall(r"'ecode', '([a-z_]+)',\s*'err'", path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("examples", "circumstances"),
    [(20, {}), (12, {"with_keys": True}), (5, {"a_minute": 20})],
    ids=["open", "keys", "limits"],
)
async def test_the_service_keeps_its_contract(
    valkey: Redis, s3: S3, examples: int, circumstances: dict[str, Any]
) -> None:
    """Schemathesis finds nothing: two thousand calls, right and wrong ones, in all phases and by all checks."""
    async with target(valkey, s3, **circumstances) as service:
        verdict = await judge(service, examples, seed=6)
    assert verdict.is_right, verdict.said
    assert verdict.cases > 600
