"""Clients for S3: how aiobotocore is set up, and what its errors mean at the start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError

from downloader.errors import StartError, UnavailableError
from downloader.work.storage_errors import failure_of, sentence

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

    from downloader.config import StorageSettings

_CONNECTIONS = 64
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
# Complete may take minutes for many parts.
_COMPLETE_TIMEOUT_S = 300
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Clients:
    """`api` retries by itself, `parts` never does, `patient` never does and waits long."""

    api: S3Client
    parts: S3Client
    patient: S3Client


@asynccontextmanager
async def s3_clients(settings: StorageSettings) -> AsyncIterator[Clients]:
    """Open all three; StartError when the settings do not make a client."""
    session = get_session()
    async with AsyncExitStack() as stack:
        opened = []
        try:
            for attempts, timeout_s in (
                (_ATTEMPTS, _READ_TIMEOUT_S),
                (1, _READ_TIMEOUT_S),
                (1, _COMPLETE_TIMEOUT_S),
            ):
                client = _client(session, settings, attempts=attempts, read_timeout_s=timeout_s)
                opened.append(await stack.enter_async_context(client))
        except (BotoCoreError, ValueError) as error:
            raise StartError(
                f"storage: the settings do not make a client ({type(error).__name__}); "
                "check storage.endpoint_url, region and the credentials"
            ) from error
        yield Clients(*opened)


def _client(session: AioSession, settings: StorageSettings, *, attempts: int, read_timeout_s: float) -> Any:
    """One S3 client: SigV4, bodies neither signed nor chunked."""
    config = AioConfig(
        signature_version="s3v4",
        # Without these two the SDK chunks and signs trailers, which many stores do not understand; and with them
        # alone it would hash every part again for its signature.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": settings.addressing, "payload_signing_enabled": False},
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=read_timeout_s,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        warm_up_loader_caches=True,
    )
    keys: dict[str, str] = {}
    if settings.access_key_id:
        keys = {
            "aws_access_key_id": settings.access_key_id,
            "aws_secret_access_key": settings.secret_access_key.get_secret_value(),
        }
    return session.create_client(
        "s3", region_name=settings.region, endpoint_url=settings.endpoint_url or None, config=config, **keys
    )


def start_failure(error: BaseException, bucket: str) -> UnavailableError | StartError:
    """What an error means while the service starts: S3 is away, or the settings cannot work."""
    if failure_of(error).transient:
        return UnavailableError("storage", sentence(error, "looking for the bucket"))
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StartError("storage: no credentials; set storage.access_key_id and storage.secret_access_key")
    remedy = "check storage.bucket, region, access_key_id and secret_access_key"
    return StartError(f"{sentence(error, f'storage: preparing bucket {bucket!r}')}; {remedy}")
