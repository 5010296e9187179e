"""The types of the initiate body's fields: for each a rule of `fields.py`, and the JSON schema that says the same."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from downloader.jobs import Checksum
from downloader.web import fields

_WORD = fields.HEADER_WORD
# A host or bucket begins; no control characters anywhere. What else makes a URL is not for a pattern to say.
_AFTER_SCHEME = r"[^\u0000-\u0020\u007f-\u009f/?#@:\[\]][^\u0000-\u001f\u007f-\u009f]*"

_FILE_ID: dict[str, Any] = {
    "oneOf": [
        {"type": "integer", "minimum": -fields.FILE_ID_MAX, "maximum": fields.FILE_ID_MAX},
        {"type": "string", "minLength": 1, "maxLength": fields.FILE_ID_CHARS},
    ]
}
_URL: dict[str, Any] = {
    "type": "string",
    "format": "source-url",
    "pattern": f"^([Hh][Tt][Tt][Pp][Ss]?|[Ss]3)://{_AFTER_SCHEME}$",
    "maxLength": fields.URL_CHARS,
}
_CALLBACK_URL: dict[str, Any] = _URL | {
    "format": "callback-url",
    "pattern": f"^[Hh][Tt][Tt][Pp][Ss]?://{_AFTER_SCHEME}$",
}
_FILE_NAME: dict[str, Any] = {"type": "string", "maxLength": fields.NAME_CHARS}
_MEDIA_TYPE: dict[str, Any] = {"type": "string", "pattern": rf"^\s*{_WORD}/{_WORD}\s*(;[\s\S]*)?$"}
_DIGEST = "^([Ss][Hh][Aa]256:[0-9A-Fa-f]{64}|[Mm][Dd]5:[0-9A-Fa-f]{32}|[Cc][Rr][Cc]32:[0-9A-Fa-f]{8})$"
_CHECKSUM: dict[str, Any] = {"anyOf": [{"type": "string", "pattern": _DIGEST}, {"type": "null"}]}
_HEADERS: dict[str, Any] = {
    "type": "object",
    "maxProperties": fields.HEADERS_MAX,
    "propertyNames": {"pattern": f"^{_WORD}$"},
    "additionalProperties": {
        "type": "string",
        "maxLength": fields.HEADER_VALUE_CHARS,
        "pattern": r"^[^\u0000-\u0008\u000a-\u001f\u007f-\u009f]*$",
    },
}
_COMPRESS: dict[str, Any] = {"enum": ["auto", True, False]}
_FORMAT: dict[str, Any] = {"const": "zip"}

Id = Annotated[Any, PlainValidator(fields.file_id), WithJsonSchema(_FILE_ID)]
Url = Annotated[str, AfterValidator(fields.source_url), WithJsonSchema(_URL)]
CallbackUrl = Annotated[str, AfterValidator(fields.callback_url), WithJsonSchema(_CALLBACK_URL)]
FileName = Annotated[str, AfterValidator(fields.file_name), WithJsonSchema(_FILE_NAME)]
Digest = Annotated[Checksum | None, PlainValidator(fields.checksum), WithJsonSchema(_CHECKSUM)]
MediaType = Annotated[str, AfterValidator(fields.media_type), WithJsonSchema(_MEDIA_TYPE)]
Headers = Annotated[dict[str, str], AfterValidator(fields.source_headers), WithJsonSchema(_HEADERS)]
Compress = Annotated[Any, PlainValidator(fields.compress), WithJsonSchema(_COMPRESS)]
Format = Annotated[str, AfterValidator(fields.archive_format), WithJsonSchema(_FORMAT)]
