"""What every code means and what to do about it: of problems, of jobs that ended without an archive, of missing files.

The table of docs/sources.md is held to the one below, word by word; `tests/test_contract.py` holds all of them
to the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from downloader.web.contract.remedies import REMEDIES
from downloader.web.problems import TABLE

Kind = Literal["problem", "job", "file"]


@dataclass(frozen=True, slots=True)
class Code:
    """One code: what carries it, its HTTP status if that is a problem, and two plain texts."""

    name: str
    kinds: tuple[Kind, ...]
    status: int | None
    title: str
    meaning: str
    remedy: str

    @property
    def job_status(self) -> str:
        """How a job stands that has this code."""
        return "cancelled" if self.name == "cancelled" else "failed"


@dataclass(frozen=True, slots=True)
class FileCodes:
    """Codes of missing files that have one cause; `happened` and `again` are the cells of the table there."""

    names: tuple[str, ...]
    happened: str
    again: str
    remedy: str


FILES: tuple[FileCodes, ...] = (
    FileCodes(
        ("bad_url", "bad_scheme", "bad_header"),
        "the URL or a header of the request cannot be used",
        "no",
        "Look at the file's message, mend its url or headers, and start a new job.",
    ),
    FileCodes(
        ("blocked_address", "bucket_not_allowed"),
        "the address, host or bucket may not be reached",
        "no",
        "Only public addresses are reached. If it is meant to be, the operator allows it by sources.allow_networks, "
        "sources.allow_hosts or sources.buckets.",
    ),
    FileCodes(
        ("dns_failure", "connect_failed"),
        "no address, or no connection",
        "yes, unless the name does not exist",
        "See that the host's name is right and its server runs; then retry the job.",
    ),
    FileCodes(
        ("tls_verify",),
        "the certificate is not to be trusted, or the handshake failed; says why",
        "no",
        "Have the source's certificate renewed or its chain completed; it is never passed over.",
    ),
    FileCodes(
        ("timeout", "too_slow"),
        "silence, or less than `sources.min_bytes_per_s`",
        "yes",
        "Retry the job when the source has less to do.",
    ),
    FileCodes(
        ("truncated", "protocol_error"),
        "the answer ended early, or is not HTTP",
        "yes, going on where it stopped if nothing can be mixed",
        "Fetch the URL by hand; if it breaks off there too, its server has to be mended.",
    ),
    FileCodes(
        ("source_changed",),
        "it changed between two tries, every time",
        "yes",
        "Retry the job once the file is no longer being written.",
    ),
    FileCodes(
        ("http_status:N", "unexpected_status"),
        "the answer was N, or a success that is no file",
        "408, 425, 429 and 5xx, after `Retry-After`",
        "401 and 403 mean that the link has expired or needs a header, 404 and 410 that the file is gone: start a new "
        "job with a fresh URL. For other numbers ask who runs the source.",
    ),
    FileCodes(
        ("redirect_invalid", "too_many_redirects"),
        "the redirect leads nowhere, or never ends",
        "no",
        "Give the URL that the redirects ought to lead to.",
    ),
    FileCodes(
        ("header_too_large", "too_large"),
        "over 32 KiB in a header, or over `jobs.max_file_bytes`",
        "no",
        "Leave the file out, or ask the operator for a higher jobs.max_file_bytes.",
    ),
    FileCodes(
        ("bad_encoding",),
        "a content or transfer coding that nobody asked for and that cannot be undone",
        "no",
        "Have the source serve the file as it is; none but gzip and deflate can be undone.",
    ),
    FileCodes(
        ("html_instead_of_file",),
        "a page (a login, an expired link) came where a file was asked for",
        "no",
        "Open the URL in a browser: log in, take a fresh link, or send the source's headers with the file.",
    ),
    FileCodes(
        ("size_mismatch", "checksum_mismatch", "type_mismatch"),
        "it is not the file that the request describes",
        "no",
        "See whether size, checksum or contentType of the request are those of this file, and whether the file is.",
    ),
)

JOBS: Mapping[str, tuple[str, str]] = {
    "all_files_failed": (
        "None of the files could be had, so there is nothing to pack.",
        "Each file's error says why; mend the request, or retry the job when the sources are back.",
    ),
    "file_failed": (
        'A file could not be had, and the job was asked to end then (options.onError is "fail").',
        "The job's error names the file and its code; mend it and retry, or let missing files be skipped.",
    ),
    "job_too_large": (
        "The files together are larger than jobs.max_job_bytes.",
        "Split the list into several jobs.",
    ),
    "archive_too_large": (
        "The archive takes more parts than S3 allows for one object.",
        "Split the list into several jobs, or have the operator raise storage.part_bytes.",
    ),
    "deadline_exceeded": (
        "The job took longer than jobs.deadline_s.",
        "Retry it when the sources are quicker, or split the list.",
    ),
    "request_gone": (
        "What the job was asked for is no longer remembered.",
        "Start a new job.",
    ),
    "worker_lost": (
        "The job took down the workers that had it, several times, and is not tried again.",
        "Tell the operator: something about its files ends the process. The log names the job.",
    ),
    "storage_unavailable": (
        "The store of the archives did not answer, in every attempt at the job.",
        "Retry the job later; /health tells when the store is back.",
    ),
    "storage_failed": (
        "The store of the archives refused what was asked of it.",
        "Tell the operator: credentials, rights or the bucket's settings are wrong.",
    ),
    "verify_failed": (
        "What was stored did not read back as it was written, in every attempt at the job.",
        "Tell the operator: the store loses or changes bytes.",
    ),
    "cancelled": (
        "The job was cancelled.",
        "Retry it if it is wanted after all.",
    ),
    "internal": (
        "The job failed by a fault of the service.",
        "Retry it; if it fails again, tell the operator its requestId.",
    ),
}


def _spoken(name: str) -> str:
    return name.partition(":")[0].replace("_", " ").capitalize().replace(" url", " URL").replace("http", "HTTP")


def _all() -> dict[str, Code]:
    found: dict[str, Code] = {}
    for group in FILES:
        meaning = f"{group.happened[0].upper()}{group.happened[1:].replace('`', '')}."
        for name in group.names:
            bare = name.partition(":")[0]
            again = f"Tried again: {group.again.replace('`', '')}."
            found[bare] = Code(bare, ("file",), None, _spoken(name), f"{meaning} {again}", group.remedy)
    for name, (meaning, remedy) in JOBS.items():
        found[name] = Code(name, ("job",), None, _spoken(name), meaning, remedy)
    for name, (status, title) in TABLE.items():
        meaning, remedy = REMEDIES[name]
        kinds: tuple[Kind, ...] = (*found[name].kinds, "problem") if name in found else ("problem",)
        found[name] = Code(name, kinds, status, title, meaning, remedy)
    return dict(sorted(found.items()))


CODES: Mapping[str, Code] = _all()


def of(name: str) -> Code | None:
    """The code of that name; `http_status:404` is found as `http_status`."""
    return CODES.get(name) or CODES.get("http_status" if name.startswith("http_status:") else "")
