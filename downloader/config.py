"""The settings: one frozen section per consumer, mirroring `config.toml`.

Read once, at the door (`downloader/settings.py`), and handed to each part by its constructor.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from downloader.keys import TENANT_PATTERN
from downloader.s3url import BUCKET_PATTERN, S3Url, is_s3

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
# Beyond 2^53 neither Lua nor JSON counts exactly.
Count = Annotated[int, Field(ge=1, le=2**53)]
Whole = Annotated[int, Field(ge=0, le=2**53)]
PORTS = range(1, 65536)
MIB = 1024 * 1024


class Section(BaseModel):
    """A frozen part of the settings; unknown keys are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _networks(value: list[str]) -> list[str]:
    for item in value:
        ipaddress.ip_network(item, strict=False)
    return value


class Named(Protocol):
    """A table of a list that has a name."""

    @property
    def name(self) -> str:
        """The name, which stands once in the list."""


N = TypeVar("N", bound=Named)


def _each_name_once(value: list[N]) -> list[N]:
    names = [item.name for item in value]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} stands there twice")
    return value


class ServerSettings(Section):
    """The HTTP server: where it listens and what it takes."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8080, description="Port to listen on; 0 takes any free one and prints it.")
    public_url: str = Field("", description="Base URL that people use, for printed links; empty = from host and port.")
    drain_s: float = Field(5, ge=0, description="How long running jobs may go on after SIGTERM, in seconds.")
    trusted_proxies: list[str] = Field([], description="Networks of proxies whose X-Forwarded-For is believed.")
    max_body_bytes: Count = Field(16_777_216, description="Largest request body, in bytes.")
    cors_origins: list[str] = Field([], description="Origins that browsers may call from; '*' for any.")

    _check_proxies = field_validator("trusted_proxies")(_networks)


class RedisSettings(Section):
    """Redis or Valkey: all state lives there."""

    url: str = Field(
        "embedded",
        description='"embedded", or redis://, rediss://, redis+sentinel://host:port,host:port/service, '
        "redis+cluster://host:port.",
    )
    prefix: str = Field("dl", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="First part of every key, its hash tag.")
    durable_ack: bool = Field(False, description="Answer 202 only after the job is on disk (WAITAOF).")


# What AWS allows in a tag; others allow no less.
_TAG = re.compile(r"(?P<name>[\w +\-.:/@]{1,128})=(?P<value>[\w +\-=.:/@]{0,256})")
_TAGS_MAX = 10


def _object_tags(value: list[str]) -> list[str]:
    names = []
    for item in value:
        tag = _TAG.fullmatch(item)
        if tag is None or tag["name"].lower().startswith("aws:"):
            raise ValueError(f"{item!r} is no tag; write name=value with letters, digits, blanks and + - . : / @ _")
        names.append(tag["name"])
    if len(names) > _TAGS_MAX or len(set(names)) < len(names):
        raise ValueError(f"an object has at most {_TAGS_MAX} tags, each name once")
    return value


class StorageSettings(Section):
    """The S3 bucket that holds the archives."""

    endpoint_url: str = Field("embedded", description='"embedded", an S3 endpoint, or empty for AWS.')
    public_endpoint_url: str = Field("", description="Endpoint in the links; empty = endpoint_url.")
    region: str = Field("us-east-1", description="Region that requests and links are signed for.")
    bucket: str = Field("downloads", min_length=3, max_length=63, description="Bucket of the archives.")
    create_bucket: bool = Field(True, description="Create the bucket at start if it is missing.")
    access_key_id: str = Field("", description="Access key; empty = the SDK's own chain.")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Secret key; empty = the SDK's own chain.")
    addressing: Literal["path", "virtual", "auto"] = Field("path", description="How the bucket stands in URLs.")
    prefix: str = Field("", description="First part of every object key, for a shared bucket.")
    part_bytes: int = Field(8 * MIB, ge=5 * MIB, le=1024 * MIB, description="Size of an upload part, in bytes.")
    checksums: Literal["auto", "crc32", "none"] = Field(
        "auto", description="Send CRC-32 with each part: find out once, always, or never."
    )
    sse: Literal["", "AES256", "aws:kms"] = Field(
        "", description="Encryption at rest that is asked for with each object; empty = whatever the bucket does."
    )
    sse_kms_key_id: str = Field("", description='Key for sse = "aws:kms"; empty = the account\'s own.')
    tags: list[str] = Field([], description='Tags of every stored object, at most 10, each as "name=value".')

    _check_tags = field_validator("tags")(_object_tags)

    @model_validator(mode="after")
    def _key_has_its_use(self) -> StorageSettings:
        if self.sse_kms_key_id and self.sse != "aws:kms":
            raise ValueError('sse_kms_key_id needs sse = "aws:kms"')
        return self


class WorkerSettings(Section):
    """How much is worked on at once."""

    concurrency: int = Field(4, ge=0, description="Jobs at once; 0 = serve the API only.")
    files_in_flight: Count = Field(8, description="Files fetched at once per job.")
    parts_in_flight: Count = Field(4, description="Upload parts in flight per job.")
    deflate: Literal["balanced", "fast"] = Field(
        "balanced", description="Compression: balanced (zlib-ng level 4) or fast (ISA-L level 1, larger archives)."
    )
    sha256: bool = Field(
        True,
        description="Digest every file with SHA-256: a third of the processor time of large files. Without it only "
        "those files have one whose request asks for a manifest or names a SHA-256.",
    )
    lease_s: Seconds = Field(20, description="How long a job stays a silent worker's, in seconds.")
    renew_s: Seconds = Field(4, description="How often leases are renewed, in seconds.")
    reap_s: Seconds = Field(2, description="How often lapsed leases are looked for, in seconds.")
    sweep_s: Seconds = Field(15, description="How often leftovers in the bucket are looked for, in seconds.")

    @model_validator(mode="after")
    def _renewal_fits(self) -> WorkerSettings:
        if self.renew_s * 2 > self.lease_s:
            raise ValueError("renew_s must be at most half of lease_s, else one slow renewal loses the job")
        return self


_HOST_LABEL = re.compile(r"[^\W_](?:[\w-]{0,61}\w)?|_[\w-]{0,62}")


def _host_patterns(value: list[str]) -> list[str]:
    for item in value:
        if not _is_host_pattern(item):
            raise ValueError(
                f"{item!r} is no host; write example.com, *.example.com (all below it) or an address, "
                "without scheme, port and path"
            )
    return value


def _is_host_pattern(text: str) -> bool:
    if text == "*":
        return True
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        labels = text.removeprefix("*.").removesuffix(".").split(".")
        return all(_HOST_LABEL.fullmatch(label) for label in labels)
    return True


class BucketSettings(Section):
    """One bucket that sources may lie in, as s3://name/key."""

    name: str = Field(pattern=f"^{BUCKET_PATTERN}$", description="The bucket.")
    endpoint_url: str = Field("", description="Its S3 endpoint; empty = AWS.")
    region: str = Field("us-east-1", description="Region that requests are signed for.")
    access_key_id: str = Field("", description="Access key; empty = the SDK's own chain.")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Secret key; empty = the SDK's own chain.")
    addressing: Literal["path", "virtual", "auto"] = Field("path", description="How the bucket stands in URLs.")
    tenants: list[str] = Field([], description="Tenants that may read it; empty = all.")

    @field_validator("endpoint_url")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        if value and not re.match(r"https?://[^/?#@\s]+/?$", value):
            raise ValueError("must be empty (AWS) or an URL such as https://minio.internal:9000, without userinfo")
        return value

    def admits(self, tenant: str) -> bool:
        """Whether `tenant` may read from this bucket."""
        return not self.tenants or tenant in self.tenants


_ORIGIN = re.compile(r"(?:(https?)://)?(\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]\s\\]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_PROXY = re.compile(r"http://(?:[^:/?#@\s]+:[^/?#@\s]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]\s]+)(?::[0-9]{1,5})?/?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class HostSettings(Section):
    """One host that the operator trusts: it may lie in the network, and is asked with what stands here."""

    name: str = Field(
        description="The host: files.internal or *.internal (all below it), with http:// and :port where these are not "
        "https and 443. The first table that fits counts.",
    )
    headers: dict[str, SecretStr] = Field(
        {},
        description='Headers to send, as { Authorization = "Bearer ..." }. With them the callers\' own headers and '
        "userinfo stay here.",
    )
    caller_headers: bool = Field(False, description="Send the callers' own headers beside headers and certificate.")
    ca_file: str = Field("", description="Certificates (PEM) to trust beside the system's.")
    cert_file: str = Field("", description="Certificate (PEM) to show to the host.")
    key_file: str = Field("", description="Its key (PEM, without a passphrase); empty = it is in cert_file.")
    proxy: str = Field("", description="HTTP proxy on the way to the host: http://user:password@proxy.internal:3128.")
    tenants: list[str] = Field([], description="Tenants that it is trusted for; empty = all.")

    @field_validator("name")
    @classmethod
    def _is_origin(cls, value: str) -> str:
        origin = _ORIGIN.fullmatch(value)
        if origin is None or origin[2] == "*" or not _is_host_pattern(origin[2]) or int(origin[3] or 1) not in PORTS:
            raise ValueError("must be a host such as files.internal, *.internal or http://files.internal:8080")
        return value

    @field_validator("proxy")
    @classmethod
    def _is_proxy(cls, value: str) -> str:
        if value and not _PROXY.fullmatch(value):
            raise ValueError("must be http://proxy.internal:3128, with user:password@ where it wants them")
        return value

    @model_validator(mode="after")
    def _key_has_its_certificate(self) -> HostSettings:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        return self

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host pattern and port that `name` stands for."""
        origin = _ORIGIN.fullmatch(self.name)
        if origin is None:
            raise RuntimeError("a name that was checked is none")
        scheme = (origin[1] or "https").lower()
        return scheme, origin[2], int(origin[3] or _DEFAULT_PORTS[scheme])

    def admits(self, tenant: str) -> bool:
        """Whether the host is trusted for `tenant`."""
        return not self.tenants or tenant in self.tenants


class SourcesSettings(Section):
    """Where files may come from and how they are fetched."""

    url_template: str = Field(
        "", description="URL for file_ids without source_urls; {file_id} stands for the id. Its host may lie inside."
    )
    allow_networks: list[str] = Field([], description="Non-public networks that sources may lie in.")
    allow_hosts: list[str] = Field([], description="If given, the only hosts that sources may have; *.example.com too.")
    deny_hosts: list[str] = Field([], description="Hosts that are refused; *.example.com too.")
    per_host: Count = Field(16, description="Connections to one host over all jobs of a process.")
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects followed for one file.")
    attempts: Count = Field(5, description="Tries for one file.")
    connect_timeout_s: Seconds = Field(10, description="Limit for connecting, in seconds.")
    idle_timeout_s: Seconds = Field(30, description="Limit for silence of the source, in seconds.")
    min_bytes_per_s: int = Field(1024, ge=0, description="Slowest speed that is waited for; 0 = any.")
    buckets: list[BucketSettings] = Field([], description="Buckets that s3:// sources may lie in, one table each.")
    hosts: list[HostSettings] = Field(
        [],
        description="Hosts that are trusted, one table each: they may have non-public addresses, and are asked with "
        "headers, certificates or a proxy. allow_hosts and deny_hosts count for them too. A redirect from a host that "
        "is not trusted never gets there.",
    )

    _check_networks = field_validator("allow_networks")(_networks)
    _check_hosts = field_validator("allow_hosts", "deny_hosts")(_host_patterns)
    _check_buckets = field_validator("buckets")(_each_name_once)

    @model_validator(mode="after")
    def _template_can_be_read(self) -> SourcesSettings:
        if not is_s3(self.url_template):
            return self
        if "{file_id}" in self.url_template.partition("//")[2].partition("/")[0]:
            raise ValueError("url_template must name its bucket; {file_id} stands in the key")
        try:
            bucket = S3Url.parse(self.url_template.replace("{file_id}", "id")).bucket
        except ValueError as error:
            raise ValueError(f"url_template {error}") from None
        if bucket not in [one.name for one in self.buckets]:
            raise ValueError(f"url_template names bucket {bucket!r}, which is not among sources.buckets")
        return self

    def bucket(self, name: str, tenant: str) -> BucketSettings | None:
        """The bucket of that name if `tenant` may read from it."""
        return next((bucket for bucket in self.buckets if bucket.name == name and bucket.admits(tenant)), None)

    @field_validator("url_template")
    @classmethod
    def _has_place(cls, value: str) -> str:
        if value and "{file_id}" not in value:
            raise ValueError("must contain {file_id}")
        return value


class MemorySettings(Section):
    """The one byte budget of the process."""

    budget_bytes: int = Field(
        160 * MIB, ge=24 * MIB, description="Bytes that files on their way and upload parts may take in memory."
    )


class CacheSettings(Section):
    """Room on disk for files that wait for their turn."""

    disk_bytes: int = Field(2048 * MIB, ge=0, description="Bytes of disk the process may use; 0 = none.")
    dir: str = Field("", description="Folder for these files; empty = the system's temporary folder.")


class JobsSettings(Section):
    """Limits and lifetimes of jobs."""

    max_files: Count = Field(10_000, description="Most files in one job.")
    max_file_bytes: Count = Field(53_687_091_200, description="Largest file, in bytes.")
    max_job_bytes: Count = Field(68_719_476_736, description="Largest sum of a job's files, in bytes.")
    deadline_s: Seconds = Field(21_600, description="Longest time for one attempt at a job, in seconds.")
    on_error: Literal["skip", "fail"] = Field("skip", description="What a missing file means when nothing is said.")
    link_ttl_s: int = Field(3600, ge=1, le=604_800, description="Life of a link, in seconds; at most 7 days.")
    archive_ttl_s: int = Field(86_400, ge=1, description="Life of an archive, in seconds.")
    record_ttl_s: int = Field(604_800, ge=1, description="Life of a finished job's record, in seconds.")
    retry_ttl_s: int = Field(86_400, ge=1, description="Life of a finished job's request (needed to retry), in s.")
    attempts: Count = Field(3, description="Attempts at a job before it fails for good.")


SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES_MIN = 24


def _signing_secrets(value: SecretStr) -> SecretStr:
    """Refuse what is no webhook secret; the message never shows it."""
    for secret in value.get_secret_value().split():
        if _decoded_bytes(secret) < SECRET_BYTES_MIN:
            raise ValueError(
                f"must be {SECRET_PREFIX} and the base64 of at least {SECRET_BYTES_MIN} random bytes; make one with "
                f'echo "{SECRET_PREFIX}$(openssl rand -base64 32)"; several are separated by blanks'
            )
    return value


def _decoded_bytes(secret: str) -> int:
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        return len(base64.b64decode(encoded, validate=True)) if encoded != secret else 0
    except ValueError:
        return 0


class WebhookTenantSettings(Section):
    """The webhook secret of one tenant."""

    name: str = Field(min_length=1, description="The tenant.")
    secret: SecretStr = Field(description="As webhook.secret, for this tenant's callbacks only.")

    @field_validator("secret")
    @classmethod
    def _is_given(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip():
            raise ValueError("must not be empty; take the table away to use webhook.secret")
        return _signing_secrets(value)


class WebhookSettings(Section):
    """Callbacks: the signed message that a job's end sends to its callbackUrl (Standard Webhooks)."""

    secret: SecretStr = Field(
        SecretStr(""),
        description="What callbacks are signed with: whsec_ and the base64 of at least 24 random bytes; several, "
        "separated by blanks, sign together while one takes the other's place. Empty = no callbacks.",
    )
    attempts: int = Field(8, ge=1, le=20, description="Tries to deliver a callback.")
    timeout_s: Seconds = Field(10, description="Limit for one try, from the look-up to the answer, in seconds.")
    first_pause_s: Seconds = Field(
        5, description="Pause after the first try, in seconds; the later ones are 12, 60, 360, 1440 ... times as long."
    )
    tenants: list[WebhookTenantSettings] = Field([], description="Secrets of single tenants, one table each.")

    _check_secret = field_validator("secret")(_signing_secrets)
    _check_tenants = field_validator("tenants")(_each_name_once)

    def secrets(self, tenant: str) -> tuple[str, ...]:
        """The secrets that sign the tenant's callbacks, () when it can have none."""
        own = next((one.secret for one in self.tenants if one.name == tenant), self.secret)
        return tuple(own.get_secret_value().split())


class AccessSettings(Section):
    """Who may call."""

    open: Literal["loopback"] | bool = Field(
        "loopback", description='Callers without a key: "loopback" = from this machine only, true = all, false = none.'
    )


class TenantLimits(Section):
    """The limits of one tenant; what is left out is as for all others."""

    name: str = Field(pattern=f"^{TENANT_PATTERN}$", description="The tenant.")
    initiate_per_minute: Count | None = Field(
        None, examples=[600], description="As limits.initiate_per_minute, for this tenant."
    )
    reads_per_minute: Count | None = Field(
        None, examples=[6_000], description="As limits.reads_per_minute, for this tenant."
    )
    changes_per_minute: Count | None = Field(
        None, examples=[600], description="As limits.changes_per_minute, for this tenant."
    )
    posts_per_minute: Count | None = Field(
        None, examples=[1_200], description="As limits.posts_per_minute, for this tenant."
    )
    opens_per_minute: Count | None = Field(
        None, examples=[6_000], description="As limits.opens_per_minute, for this tenant."
    )
    running_jobs: Count | None = Field(None, examples=[20], description="As limits.running_jobs, for this tenant.")
    queued_jobs: Count | None = Field(None, examples=[10_000], description="As limits.queued_jobs, for this tenant.")
    streams: Count | None = Field(None, examples=[1_000], description="As limits.streams, for this tenant.")
    job_files: Whole | None = Field(None, examples=[1_000], description="As limits.job_files, for this tenant.")
    job_bytes: Whole | None = Field(None, examples=[1_000_000_000], description="As limits.job_bytes, for this tenant.")
    day_files: Whole | None = Field(None, examples=[100_000], description="As limits.day_files, for this tenant.")
    day_bytes: Whole | None = Field(
        None, examples=[100_000_000_000], description="As limits.day_bytes, for this tenant."
    )
    stored_bytes: Whole | None = Field(
        None, examples=[100_000_000_000], description="As limits.stored_bytes, for this tenant."
    )


BYTES_PER_S_LEAST = 16 * 1024


class LimitsSettings(Section):
    """Fair shares, over all replicas: per tenant, and per address for callers without a key (0 = no limit)."""

    initiate_per_minute: Count = Field(600, description="New jobs per minute.")
    reads_per_minute: Count = Field(6000, description="Calls per minute that read: status, files, lists, links.")
    changes_per_minute: Count = Field(600, description="Calls per minute that change: cancel, delete, redeliver.")
    posts_per_minute: Count = Field(
        1200, description="Calls per minute that ask for new jobs, repeated and refused ones included."
    )
    opens_per_minute: Count = Field(6000, description="Event streams opened per minute.")
    running_jobs: Count = Field(20, description="Jobs worked on at once; more wait.")
    queued_jobs: Count = Field(10_000, description="Jobs that may wait; beyond, initiate answers 429.")
    streams: Count = Field(1000, description="Open event streams.")
    bytes_per_s: Whole = Field(
        0, description="Most bytes per second that all sources together send to this process; 0 = any."
    )
    job_files: Whole = Field(0, description="Files in one job, where that is less than jobs.max_files; 0 = that.")
    job_bytes: Whole = Field(0, description="Bytes of one job, where that is less than jobs.max_job_bytes; 0 = that.")
    day_files: Whole = Field(0, description="Files asked for in one day (UTC); 0 = no limit.")
    day_bytes: Whole = Field(
        0, description="Bytes fetched in one day (UTC), after which no new job is taken; 0 = no limit."
    )
    stored_bytes: Whole = Field(
        0, description="Bytes of archives and kept files, from which on no new job is taken; 0 = no limit."
    )
    address_initiate_per_minute: Whole = Field(60, description="New jobs per minute from one address without a key.")
    address_calls_per_minute: Whole = Field(
        3000, description="Calls per minute of each kind from one address without a key, those without right included."
    )
    address_streams: Whole = Field(100, description="Open event streams of one address without a key.")
    tenants: list[TenantLimits] = Field([], description="Limits of single tenants, one table each.")

    _check_tenants = field_validator("tenants")(_each_name_once)

    @field_validator("bytes_per_s")
    @classmethod
    def _moves_on(cls, value: int) -> int:
        if 0 < value < BYTES_PER_S_LEAST:
            raise ValueError(f"must be 0 (no cap) or at least {BYTES_PER_S_LEAST}, else nothing gets on")
        return value

    def of(self, tenant: str) -> LimitsSettings:
        """The limits as they are for `tenant`."""
        own = next((one for one in self.tenants if one.name == tenant), None)
        return self if own is None else self.model_copy(update=own.model_dump(exclude={"name"}, exclude_none=True))


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    format: Literal["auto", "console", "json"] = Field("auto", description="auto = console on a terminal, else json.")
    audit_file: str = Field("", description="File that the audit log is appended to; empty = with all other lines.")


class TelemetrySettings(Section):
    """What the service lets others see of itself: Prometheus metrics and OpenTelemetry traces."""

    metrics: bool = Field(True, description="Serve Prometheus metrics at /metrics.")
    metrics_port: Port = Field(
        0, description="Port of their own for the metrics, open to who reaches it; 0 = on server.port, with its rules."
    )
    metrics_host: str = Field("127.0.0.1", description="Address to listen on for metrics_port.")
    otlp_endpoint: str = Field(
        "",
        description="Base URL of an OTLP/HTTP collector for traces, such as http://localhost:4318; empty = no traces.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/?#\s]+(?:/[^?#\s]*)?", value):
            raise ValueError("must be empty or an http(s) URL without query, such as http://localhost:4318")
        return value


class EmbeddedSettings(Section):
    """The private Valkey and SeaweedFS of the default set-up."""

    data_dir: str = Field(".downloader", description="Folder for their data.")


class Settings(Section):
    """All settings; each part of the service takes only its own section."""

    server: ServerSettings = ServerSettings()
    redis: RedisSettings = RedisSettings()
    storage: StorageSettings = StorageSettings()
    worker: WorkerSettings = WorkerSettings()
    sources: SourcesSettings = SourcesSettings()
    memory: MemorySettings = MemorySettings()
    cache: CacheSettings = CacheSettings()
    jobs: JobsSettings = JobsSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitsSettings = LimitsSettings()
    webhook: WebhookSettings = WebhookSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    embedded: EmbeddedSettings = EmbeddedSettings()

    @model_validator(mode="after")
    def _archives_are_no_sources(self) -> Settings:
        own = self.storage
        for bucket in self.sources.buckets:
            is_at_home = own.endpoint_url == "embedded" or _same_endpoint(bucket.endpoint_url, own.endpoint_url)
            if bucket.name == own.bucket and is_at_home:
                raise ValueError(f"sources.buckets must not name {own.bucket!r}, the bucket of the archives")
        return self

    @model_validator(mode="after")
    def _one_job_fits(self) -> Settings:
        least = job_minimum_bytes(self.part_bytes)
        if self.memory.budget_bytes < least:
            raise ValueError(f"memory.budget_bytes must be at least {least} for parts of {self.part_bytes} bytes")
        return self

    @property
    def part_bytes(self) -> int:
        """Size of the parts in use: as configured, or more where the largest job needs it."""
        return part_plan(self.storage.part_bytes, self.jobs.max_job_bytes)


def _same_endpoint(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()


WINDOW_BYTES = 2 * MIB
# S3 takes 10,000 parts; some stay free for directories, compression that grows, and numbers that cannot be used again.
PARTS_PLANNED = 9_000


def part_plan(part_bytes: int, max_job_bytes: int) -> int:
    """The part size for archives of up to `max_job_bytes`: `part_bytes`, raised so that 10,000 parts suffice."""
    least = -(-max_job_bytes // PARTS_PLANNED)
    return max(part_bytes, -(-least // MIB) * MIB) if least > part_bytes else part_bytes


def job_minimum_bytes(part_bytes: int) -> int:
    """Memory one job needs to go on whatever happens: parts of `part_bytes` and the window of the followed file.

    Two parts may be held back by an open entry whose header lies across their border, one is being built, one is
    on its way to the store.
    """
    return 4 * part_bytes + WINDOW_BYTES
