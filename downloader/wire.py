"""The wire form of a file: the same object in the status answer, in the pages of files and in `files` events."""

from __future__ import annotations

from typing import Any

from downloader.jobs import FileResult


def file_to_wire(file: FileResult) -> dict[str, Any]:
    """A file as a JSON-ready object with camelCase names; `originalUrl` has no query and no userinfo."""
    return {
        "index": file.index,
        "fileId": file.file_id,
        "name": file.name,
        "originalUrl": file.url,
        "status": file.status.value,
        "size": file.size,
        "contentType": file.content_type,
        "sha256": file.sha256,
        "crc32": file.crc32,
        "lengthVerified": file.length_verified,
        "metadata": file.metadata or None,
        "error": {"code": file.error.code, "message": file.error.message} if file.error else None,
    }
