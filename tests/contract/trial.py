"""One trial: a service with its neighbours and a source, and schemathesis against it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downloader.config import Settings
from downloader.service import running
from tests.contract import ORIGIN
from tests.files import serving
from tests.servers import S3, Redis
from tests.tenants import make_key

ROOT = Path(__file__).parent.parent.parent
PHASES = ("examples", "coverage", "fuzzing", "stateful")
MANY = 10**6
# Beside what schemathesis takes for granted: a valid call may come too late, or its key had another request before.
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "410", "422", "429", "5xx"]


@dataclass(frozen=True, slots=True)
class Target:
    """A running service, the source its jobs fetch from, and the key its callers need, if they do."""

    url: str
    origin: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a trial: how many cases, how many findings, and what schemathesis printed.

    `is_right` when every phase ran to its end without a finding.
    """

    cases: int
    findings: int
    is_right: bool
    said: str


@asynccontextmanager
async def target(redis: Redis, s3: S3, *, with_keys: bool = False, a_minute: int = MANY) -> AsyncIterator[Target]:
    """A service that takes so many calls of each kind a minute; by default so many that hardly any answer is a 429."""
    name = f"c{secrets.token_hex(6)}"
    sections: dict[str, Any] = {
        "server": {"port": 0, "drain_s": 0},
        "redis": {"url": redis.url, "prefix": name},
        "storage": s3.settings(prefix=f"{name}/").model_dump(),
        "sources": {"allow_networks": ["127.0.0.0/8", "::1/128"], "attempts": 1, "connect_timeout_s": 2},
        "jobs": {"max_files": 20, "attempts": 1},
        "limits": {
            "initiate_per_minute": a_minute,
            "reads_per_minute": a_minute,
            "changes_per_minute": a_minute,
            "posts_per_minute": a_minute,
            "opens_per_minute": max(a_minute, 1000),
        },
        "webhook": {"secret": "whsec_Y29udHJhY3QtdHJpYWwtc2VjcmV0LW9mLTI0LWJ5dGVz", "attempts": 1},
        "access": {"open": False if with_keys else "loopback"},
    }
    async with serving() as origin, running(Settings.model_validate(sections)) as service:
        key = (await make_key(sections, "contract"))[1] if with_keys else None
        yield Target(f"http://127.0.0.1:{service.port}", origin.base, key)


async def judge(target: Target, examples: int, seed: int) -> Verdict:
    """Run all checks in all phases, with up to `examples` cases per call in those that make up cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configuration, report = folder / "schemathesis.toml", folder / "report.json"
        configuration.write_text(_configuration(target), encoding="utf-8")
        said = await _run(
            *("--config-file", configuration, "run", f"{target.url}/openapi.json", "--no-color"),
            *("--checks", "all", "--phases", ",".join(PHASES), "--max-examples", examples, "--seed", seed),
            *("--report", "json", "--report-json-path", report, "--generation-database", "none"),
            folder=folder,
            origin=target.origin,
        )
        found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
    if found is None:
        return Verdict(0, 1, is_right=False, said=said)
    cases, findings = found["test_cases"]["generated"], found["test_cases"]["unique_failures"] + len(found["errors"])
    through = found["complete"] and all(found["phases"][phase]["status"] == "success" for phase in PHASES)
    return Verdict(cases, findings, is_right=through and not findings, said=said)


async def _run(*words: object, folder: Path, origin: str) -> str:
    """Run schemathesis in a process and a folder of its own; gives what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", *map(str, words)),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), ORIGIN: origin},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(errors="replace")


def _configuration(target: Target) -> str:
    lines = [
        'hooks = "tests.contract.hooks"',
        "request-timeout = 20",
        "max-redirects = 0",
        "continue-on-failure = true",
        "[checks.positive_data_acceptance]",
        f"expected-statuses = {json.dumps(ACCEPTED)}",
    ]
    if target.key:
        lines += ["[auth.openapi.key]", f'bearer = "{target.key}"']
    return "\n".join(lines) + "\n"
