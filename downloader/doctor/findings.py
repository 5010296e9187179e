"""What the doctor finds, and how it says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: all well, worth a look, or in the way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do, empty when there is nothing to do. Holds no secret."""

    level: Level
    name: str
    finding: str
    remedy: str = ""

    def line(self) -> str:
        """The finding as a line for people."""
        return f"{self.level.value:<4}  {self.name}: {self.finding}{f'; {self.remedy}' if self.remedy else ''}"


def ok(name: str, finding: str) -> Finding:
    """Something that is as it should be."""
    return Finding(Level.OK, name, finding)


def warn(name: str, finding: str, remedy: str) -> Finding:
    """Something that works, and may hurt later."""
    return Finding(Level.WARN, name, finding, remedy)


def fail(name: str, finding: str, remedy: str) -> Finding:
    """Something that keeps the service from working."""
    return Finding(Level.FAIL, name, finding, remedy)


def has_failure(findings: Sequence[Finding]) -> bool:
    """Whether anything is in the way."""
    return any(finding.level is Level.FAIL for finding in findings)


def to_json(findings: Sequence[Finding]) -> str:
    """All findings for a machine: `{"ok": bool, "findings": [{"level", "name", "finding", "remedy"}]}`."""
    body = {"ok": not has_failure(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(body, ensure_ascii=False, indent=2)
