"""The body of an initiate call, in both its forms, and what becomes of it: a JobRequest.

Names are taken in camelCase and in snake_case. An unknown field is refused by name, so a typo never passes for a wish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from downloader.config import Settings, SourcesSettings, WebhookSettings
from downloader.errors import Fault, InvalidRequest
from downloader.jobs import FileId, JobRequest, Options, Source
from downloader.s3url import S3Url, is_s3
from downloader.web import fields
from downloader.web.contract.inputs import (
    CallbackUrl,
    Compress,
    Digest,
    FileName,
    Format,
    Headers,
    Id,
    MediaType,
    Url,
)
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


class FileBody(_Body):
    """One file of the full form."""

    url: Url = Field(description="Where it lies: http://, https:// or s3://bucket/key. Kept letter for letter.")
    id: Id | None = Field(None, description="Your own id for it; its place in the list if you give none.")
    name: FileName | None = Field(
        None, description="Its name in the archive, with folders if you like; it comes out safe and unique."
    )
    size: Annotated[int, Field(ge=0)] | None = Field(
        None, description="How many bytes it must have; otherwise it is missing as `size_mismatch`."
    )
    checksum: Digest = Field(
        None, description="The digest it must have: `sha256:`, `md5:` or `crc32:` and the digest in hex."
    )
    content_type: MediaType | None = Field(None, description="The media type it must have; parameters do not count.")
    headers: Headers | None = Field(
        None,
        description="Headers to send to its source, such as Authorization. They go to that origin only, and are never "
        "shown. Those that the service sets itself (Host, Range, Accept-Encoding, ...) are refused.",
    )


class OptionsBody(_Body):
    """How the archive is wanted; what is left out is the service's default."""

    compress: Compress = Field("auto", description="Compress what pays (auto), everything or nothing.")
    on_error: Literal["skip", "fail"] | None = Field(
        None, description="Skip a file that cannot be had, or fail the job; null for the service's own choice."
    )
    manifest: bool = Field(False, description="Add manifest.json and SHA256SUMS to the archive.")
    keep_files: bool = Field(False, description="Keep each file as an object of its own beside the archive.")
    reproducible: bool = Field(False, description="Make the same files give the same bytes.")
    format: Format = Field("zip", description="The kind of archive.")


class InitiateBody(_Body):
    """The whole body: either `files`, or `file_ids` with `source_urls` position by position."""

    files: list[FileBody] | None = Field(None, description="The files, in the order of the archive.")
    file_ids: list[Id] | None = Field(None, description="Your ids of the files. `file_keys` is the older name.")
    file_keys: list[Id] | None = None
    source_urls: list[Url] | None = Field(
        None, description="Where the files lie: as many as there are ids, each at the place of its id."
    )
    archive_name: str = Field(
        fields.DEFAULT_ARCHIVE_NAME, description="The name the archive is saved as; it comes out safe, with .zip."
    )
    options: OptionsBody = Field(OptionsBody(), description="How the archive is wanted.")
    callback_url: CallbackUrl | None = Field(
        None,
        description="Where to post one signed message when the job has ended. The service needs a webhook.secret for "
        "that, and reaches the same addresses as for files.",
    )


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
    own = settings.limits.of(tenant)
    _refuse_too_many(raw, min(most for most in (own.job_files, own.day_files, settings.jobs.max_files) if most))
    try:
        body = InitiateBody.model_validate(raw)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error, raw, InitiateBody)) from error
    faults = [*_callback_faults(body, raw, settings.webhook, tenant), *_form_faults(body)]
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
    asked = JobRequest(sources, fields.archive_name(body.archive_name), options, body.callback_url or "")
    return Wish(asked, _ids_given(body))


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


def _callback_faults(body: InitiateBody, raw: dict[str, Any], settings: WebhookSettings, tenant: str) -> list[Fault]:
    """A callback that could not be signed is none: its receiver would have to believe anybody."""
    if body.callback_url is None or settings.secrets(tenant):
        return []
    remedy = "needs a webhook.secret in this service's settings; leave it out and follow subscribeUrl or statusUrl"
    return [Fault(pointer_to(("callbackUrl",), raw), remedy)]


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
            index,
            index if file.id is None else file.id,
            file.url,
            file.name or None,
            file.size,
            file.checksum,
            file.content_type,
            tuple(file.headers.items()) if file.headers else (),
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
