"""From Redis hashes to the words and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic_core import from_json, to_json

from downloader.callbacks import Callback, CallbackState
from downloader.events import integer, snapshot_from_fields, text
from downloader.jobs import (
    Archive,
    FileError,
    FileId,
    FileResult,
    FileStatus,
    JobRecord,
    JobRequest,
    JobState,
    public_url,
)
from downloader.wire import FileObject

PAGE_FILES = 200


def record_from_fields(job_id: str, fields: Mapping[bytes, bytes], queue_position: int | None) -> JobRecord | None:
    """Read a job's record; None when there is none or it was deleted."""
    if b"state" not in fields or b"gone" in fields:
        return None
    return JobRecord(
        job_id=job_id,
        tenant=fields[b"tenant"].decode(),
        snapshot=snapshot_from_fields(fields),
        total_file_ids=int(fields[b"ids"]),
        archive=_archive(fields),
        queue_position=queue_position,
        created_ms=int(fields[b"created"]),
        started_ms=integer(fields, b"started"),
        updated_ms=int(fields[b"updated"]),
        completed_ms=integer(fields, b"completed"),
        request_id=text(fields, b"rid") or "",
        event_id=fields[b"ev"].decode(),
        revision=int(fields[b"rev"]),
        callback=_callback(fields),
    )


def _callback(fields: Mapping[bytes, bytes]) -> Callback | None:
    state = text(fields, b"hook")
    if state is None:
        return None
    return Callback(CallbackState(state), integer(fields, b"hooktries") or 0, integer(fields, b"hooknext"))


def _archive(fields: Mapping[bytes, bytes]) -> Archive | None:
    if fields[b"state"].decode() != JobState.COMPLETED:
        return None
    return Archive(
        key=fields[b"akey"].decode(),
        name=fields[b"aname"].decode(),
        size=int(fields[b"asize"]),
        entries=int(fields[b"aentries"]),
        etag=fields[b"aetag"].decode(),
        kept=b"akept" in fields,
    )


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """A request as it is kept: whole for who works on it, and what is known of its files for who looks."""

    blob: bytes
    pages: tuple[bytes, ...]

    @classmethod
    def of(cls, request: JobRequest) -> Self:
        """Encode it, which takes long for many files."""
        return cls(request.to_json(), tuple(_file_pages(request)))


def _file_pages(request: JobRequest) -> Iterator[bytes]:
    """What is known of the files from the start, in pages of PAGE_FILES: JSON arrays of [id, URL, name]."""
    sources = request.sources
    for start in range(0, len(sources), PAGE_FILES):
        page = sources[start : start + PAGE_FILES]
        yield to_json([[source.file_id, public_url(source.url), source.name] for source in page])


def file_to_json(file: FileResult) -> bytes:
    """Encode what became of a file for its field; what the page holds is left out, as is what is unknown."""
    known: dict[str, Any] = {"status": str(file.status), "name": file.name}
    for name in ("size", "content_type", "sha256", "crc32", "metadata"):
        if value := getattr(file, name):
            known[name] = value
    if file.size == 0:
        known["size"] = 0
    if file.length_verified is not None:
        known["length_verified"] = file.length_verified
    if file.error:
        known["error"] = [file.error.code, file.error.message]
    return to_json(known)


def files_from_fields(
    first: int, last: int, pages: Mapping[int, bytes], changes: Mapping[int, bytes]
) -> list[FileResult]:
    """The files `first` to `last` (not included), from their pages and what became of them since."""
    decoded = {number: from_json(page) for number, page in pages.items()}
    return [_file(*known) for known in _known(first, last, decoded, changes)]


def wire_from_fields(
    first: int, last: int, pages: Mapping[int, bytes], changes: Mapping[int, bytes]
) -> Iterator[list[FileObject]]:
    """The same files in their wire form, page by page: made without the words between, which take ten times as long."""
    for start in (first, *range(first // PAGE_FILES * PAGE_FILES + PAGE_FILES, last, PAGE_FILES)):
        number = start // PAGE_FILES
        if number not in pages:
            break
        end = min(last, (number + 1) * PAGE_FILES)
        yield [_wire(*known) for known in _known(start, end, {number: from_json(pages[number])}, changes)]


def _known(
    first: int, last: int, pages: Mapping[int, list[Any]], changes: Mapping[int, bytes]
) -> Iterator[tuple[int, FileId, str, str | None, bytes | None]]:
    """Of each file its index, id, URL and name, and what became of it since; up to the end of what there is."""
    for index in range(first, last):
        page = pages.get(index // PAGE_FILES, ())
        if index % PAGE_FILES >= len(page):
            return
        file_id, url, name = page[index % PAGE_FILES]
        yield index, file_id, url, name, changes.get(index)


def _file(index: int, file_id: FileId, url: str, name: str | None, change: bytes | None) -> FileResult:
    if change is None:
        return FileResult(index, file_id, url, name)
    known = from_json(change)
    error = known.pop("error", None)
    known["status"] = FileStatus(known["status"])
    return FileResult(index, file_id, url, error=FileError(*error) if error else None, **known)


def _wire(index: int, file_id: FileId, url: str, name: str | None, change: bytes | None) -> FileObject:
    """As `wire.file_to_wire` makes it of what `_file` gives."""
    known: dict[str, Any] = from_json(change) if change is not None else {"name": name}
    error = known.get("error")
    return {
        "index": index,
        "fileId": file_id,
        "name": known["name"],
        "originalUrl": url,
        "status": known.get("status", FileStatus.PENDING.value),
        "size": known.get("size"),
        "contentType": known.get("content_type"),
        "sha256": known.get("sha256"),
        "crc32": known.get("crc32"),
        "lengthVerified": known.get("length_verified"),
        "metadata": known.get("metadata"),
        "error": {"code": error[0], "message": error[1]} if error else None,
    }
