"""The texts that the service itself adds to an archive: what is missing, the manifest, the checksums."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from downloader.jobs import FileResult, FileStatus
from downloader.wire import file_to_wire

MISSING_NAME = "MISSING-FILES.txt"
MANIFEST_NAME = "manifest.json"
CHECKSUMS_NAME = "SHA256SUMS"


def missing_report(files: Sequence[FileResult]) -> bytes:
    """A plain text that names each missing file with the reason; URLs without query and userinfo."""
    missing = [file for file in files if file.status is FileStatus.FAILED]
    lines = [f"{len(missing)} of {len(files)} files could not be included in this archive.", ""]
    for file in missing:
        reason = f"{file.error.message} ({file.error.code})" if file.error else "unknown"
        lines += [f"{file.name or file.file_id}", f"    id:     {file.file_id}", f"    source: {file.url}"]
        lines += [f"    reason: {reason}", ""]
    return "\n".join(lines).encode()


def manifest(job_id: str, files: Sequence[FileResult]) -> bytes:
    """`manifest.json`: every file of the request with what became of it, in request order."""
    return to_json({"version": 1, "jobId": job_id, "files": [file_to_wire(file) for file in files]}, indent=2)


def checksums(files: Sequence[FileResult]) -> bytes:
    """`SHA256SUMS` in the form of GNU `sha256sum`: `sha256sum -c` passes in the extracted folder."""
    present = [file for file in files if file.status is FileStatus.DONE]
    return "".join(f"{file.sha256}  {file.name}\n" for file in present).encode()
