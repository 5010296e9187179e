"""The body of an initiate call, in both its forms, and what becomes of it: a JobRequest.

Names are taken in camelCase and in snake_case. An unknown field is refused by name, so a typo never passes for a wish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from downloader.config import Settings, SourcesSettings
from downloader.errors import Fault, InvalidRequest
from downloader.jobs import Checksum, FileId, JobRequest, Options, Source
from downloader.s3url import S3Url, is_s3
from downloader.web import fields
from downloader.web.faults import faults_of, pointer_to


class _Body(BaseModel):
    """A part of the body: strict types, unknown names refused, either spelling of a name."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


Id = Annotated[Any, PlainValidator(fields.file_id)]
Url = Annotated[str, AfterValidator(fields.source_url)]


class FileBody(_Body):
    """One file of the full form."""

    url: Url
    id: Id | None = None
    name: Annotated[str, AfterValidator(fields.file_name)] | None = None
    size: Annotated[int, Field(ge=0)] | None = None
    checksum: Annotated[Checksum | None, PlainValidator(fields.checksum)] = None
    content_type: Annotated[str, AfterValidator(fields.media_type)] | None = None
    headers: Annotated[dict[str, str], AfterValidator(fields.source_headers)] | None = None


class OptionsBody(_Body):
    """How the archive is wanted; what is left out is the service's default."""

    compress: Annotated[Any, PlainValidator(fields.compress)] = "auto"
    on_error: Literal["skip", "fail"] | None = None
    manifest: bool = False
    keep_files: bool = False
    reproducible: bool = False
    format: Annotated[str, AfterValidator(fields.archive_format)] = "zip"


class InitiateBody(_Body):
    """The whole body: either `files`, or `file_ids` with `source_urls` position by position."""

    files: list[FileBody] | None = None
    file_ids: list[Id] | None = None
    file_keys: list[Id] | None = None
    source_urls: list[Url] | None = None
    archive_name: str = fields.DEFAULT_ARCHIVE_NAME
    options: OptionsBody = OptionsBody()
    callback_url: str | None = None


_LISTS = {"files": "files", "fileIds": "file_ids", "fileKeys": "file_keys", "sourceUrls": "source_urls"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller wants: the job's request, and how many ids were given."""

    request: JobRequest
    total_file_ids: int


def read_wish(raw: Any, settings: Settings, tenant: str) -> Wish:
    """Check the tenant's parsed body and turn it into a wish; InvalidRequest names every fault."""
    if not isinstance(raw, dict):
        raise InvalidRequest((Fault("", "the body must be a JSON object"),))
    _refuse_too_many(raw, settings.jobs.max_files)
    try:
        body = InitiateBody.model_validate(raw)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error, raw, InitiateBody)) from error
    faults = [*_not_offered(body, raw), *_form_faults(body)]
    sources = () if faults else _sources(body, settings, faults)
    faults += _bucket_faults(body, sources, settings.sources, tenant)
    if faults:
        raise InvalidRequest(tuple(faults))
    options = Options(
        compress=body.options.compress,
        on_error=body.options.on_error or settings.jobs.on_error,
        manifest=body.options.manifest,
        reproducible=body.options.reproducible,
        keep_files=body.options.keep_files,
    )
    return Wish(JobRequest(sources, fields.archive_name(body.archive_name), options), _ids_given(body))


def _refuse_too_many(raw: dict[str, Any], max_files: int) -> None:
    """Look at the lengths first, so that an endless list is not checked entry by entry."""
    faults = []
    for camel, snake in _LISTS.items():
        for name in {camel, snake}:
            value = raw.get(name)
            if isinstance(value, list) and len(value) > max_files:
                faults.append(Fault(f"/{name}", f"has {len(value)} entries; at most {max_files} are allowed"))
    if faults:
        raise InvalidRequest(tuple(faults))


def _not_offered(body: InitiateBody, raw: dict[str, Any]) -> list[Fault]:
    faults = []
    if body.callback_url is not None:
        pointer = pointer_to(("callbackUrl",), raw)
        faults.append(Fault(pointer, "is not offered by this version; follow subscribeUrl or statusUrl"))
    return faults


def _form_faults(body: InitiateBody) -> list[Fault]:
    """What keeps the body from being one of the two forms, and whole."""
    if body.files is None:
        return _seed_form_faults(body)
    if any(other is not None for other in (body.file_ids, body.file_keys, body.source_urls)):
        return [Fault("/files", "cannot stand beside file_ids, file_keys or source_urls; use one form")]
    return [] if body.files else [Fault("/files", "must have at least one entry")]


def _seed_form_faults(body: InitiateBody) -> list[Fault]:
    ids = body.file_ids if body.file_ids is not None else body.file_keys
    if body.file_ids is not None and body.file_keys is not None:
        return [Fault("/file_keys", "is the older name of file_ids; send one of them")]
    name = "file_ids" if body.file_keys is None else "file_keys"
    if ids is None:
        if body.source_urls is not None:
            return [Fault("/file_ids", "is required with source_urls, one id for each; or use files: [{url}]")]
        return [Fault("", "give files, or file_ids with source_urls of the same length")]
    if body.source_urls is not None and len(ids) != len(body.source_urls):
        mismatch = f"{name} has {len(ids)} entries and source_urls has {len(body.source_urls)}"
        return [Fault("/source_urls", f"{mismatch}; they belong together position by position")]
    return [] if ids else [Fault(f"/{name}", "must have at least one entry")]


def _ids_given(body: InitiateBody) -> int:
    if body.files is not None:
        return sum(file.id is not None for file in body.files)
    return len(body.file_ids or body.file_keys or ())


def _sources(body: InitiateBody, settings: Settings, faults: list[Fault]) -> tuple[Source, ...]:
    if body.files is not None:
        return _full_form(body.files, settings.jobs.max_file_bytes, faults)
    name, ids = ("file_ids", body.file_ids) if body.file_keys is None else ("file_keys", body.file_keys)
    if body.source_urls is not None:
        pairs = zip(ids or (), body.source_urls, strict=True)
        return tuple(Source(index, file_id, url) for index, (file_id, url) in enumerate(pairs))
    return _by_template(name, ids or [], settings.sources.url_template, faults)


def _full_form(files: list[FileBody], max_file_bytes: int, faults: list[Fault]) -> tuple[Source, ...]:
    for index, file in enumerate(files):
        if file.size is not None and file.size > max_file_bytes:
            faults.append(Fault(f"/files/{index}/size", f"must be at most {max_file_bytes} (jobs.max_file_bytes)"))
    return tuple(
        Source(
            index=index,
            file_id=index if file.id is None else file.id,
            url=file.url,
            name=file.name or None,
            size=file.size,
            checksum=file.checksum,
            content_type=file.content_type,
            headers=tuple(file.headers.items()) if file.headers else (),
        )
        for index, file in enumerate(files)
    )


def _bucket_faults(
    body: InitiateBody, sources: tuple[Source, ...], settings: SourcesSettings, tenant: str
) -> list[Fault]:
    """What keeps an `s3://` source from being read; the bucket of another tenant is one that is not there."""
    faults = []
    for source in sources:
        if not is_s3(source.url):
            continue
        place = f"/files/{source.index}" if body.files is not None else f"/source_urls/{source.index}"
        bucket = S3Url.parse(source.url).bucket
        if settings.bucket(bucket, tenant) is None:
            pointer = f"{place}/url" if body.files is not None else place
            faults.append(Fault(pointer, f"names bucket {bucket!r}, which is not among this service's sources.buckets"))
        if source.headers:
            faults.append(Fault(f"{place}/headers", "cannot be sent to a bucket; leave them out for s3:// sources"))
    return faults


def _by_template(name: str, ids: list[FileId], template: str, faults: list[Fault]) -> tuple[Source, ...]:
    if not template:
        faults.append(Fault("/source_urls", f"is required with {name}: this service has no sources.url_template"))
        return ()
    sources = []
    for index, file_id in enumerate(ids):
        try:
            sources.append(Source(index, file_id, fields.expanded(template, file_id)))
        except ValueError as error:
            faults.append(Fault(f"/{name}/{index}", str(error)))
    return tuple(sources)
