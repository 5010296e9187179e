"""The wire form of a file: the same object in the status answer, in the pages of files and in `files` events."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from downloader.jobs import FileId, FileResult, FileStatus

_STATUS = {"type": "string", "enum": [status.value for status in FileStatus]}


class FileErrorObject(TypedDict):
    """Why a file is missing."""

    code: Annotated[str, Field(description="A stable code; `/errors/{code}` explains it.")]
    message: Annotated[str, Field(description="The same in one sentence.")]


class FileObject(TypedDict):
    """One file of a job."""

    index: Annotated[int, Field(ge=0, description="Its place in the request, from 0.")]
    fileId: Annotated[FileId, Field(description="Its id as the request gave it, else its place.")]
    name: Annotated[str | None, Field(description="Its name in the archive, once that is settled.")]
    originalUrl: Annotated[str, Field(description="Where it comes from, without query and userinfo.")]
    status: Annotated[str, WithJsonSchema(_STATUS)]
    size: Annotated[int | None, Field(ge=0, description="Bytes, once known.")]
    contentType: Annotated[str | None, Field(description="The media type its source gave it.")]
    sha256: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{64}$", description="Of its bytes, in hex; null where the service makes none."),
    ]
    crc32: Annotated[str | None, Field(pattern="^[0-9a-f]{8}$", description="Of its bytes, in hex.")]
    lengthVerified: Annotated[
        bool | None, Field(description="False where the source ended its answer so that a cut would not show.")
    ]
    metadata: Annotated[
        dict[str, Any] | None, Field(description="What its two ends tell: media type, size of a picture, duration.")
    ]
    error: FileErrorObject | None
    downloadUrl: NotRequired[
        Annotated[str, Field(description="Where the file itself is, if the job's files were kept.")]
    ]


def file_to_wire(file: FileResult) -> FileObject:
    """A file as a JSON-ready object with camelCase names; `originalUrl` has no query and no userinfo."""
    return {
        "index": file.index,
        "fileId": file.file_id,
        "name": file.name,
        "originalUrl": file.url,
        "status": str(file.status),
        "size": file.size,
        "contentType": file.content_type,
        "sha256": file.sha256,
        "crc32": file.crc32,
        "lengthVerified": file.length_verified,
        "metadata": file.metadata or None,
        "error": {"code": file.error.code, "message": file.error.message} if file.error else None,
    }
