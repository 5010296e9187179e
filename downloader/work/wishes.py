"""What the operator wants of every stored object: encryption at rest, tags. Asked for wherever an object begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from downloader.config import StorageSettings


def wishes(settings: StorageSettings) -> dict[str, Any]:
    """The arguments for PutObject and CreateMultipartUpload; parts and part copies follow their upload."""
    asked: dict[str, Any] = {}
    if settings.sse:
        asked["ServerSideEncryption"] = settings.sse
    if settings.sse_kms_key_id:
        asked["SSEKMSKeyId"] = settings.sse_kms_key_id
    if settings.tags:
        pairs = (tag.partition("=") for tag in settings.tags)
        asked["Tagging"] = urlencode([(name, value) for name, _, value in pairs], quote_via=quote)
    return asked
