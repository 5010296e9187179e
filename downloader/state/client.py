"""Connections to Redis, and the border where its errors become ours.

Three clients with different duties: commands (short timeouts, one retry, since every script may be called twice),
the doorbell and the live reader (blocking calls: no retries, and a socket timeout above the block time, because
redis-py would otherwise repeat a pop whose answer was lost).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import redis.exceptions as rexc
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from downloader.errors import ConfigError, UnavailableError

COMMAND_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 3.0
BLOCK_S = 1.0
BLOCK_MARGIN_S = 5.0
COMMAND_CONNECTIONS = 64

Client = Redis
_KEEPALIVE: dict[str, Any] = {"socket_keepalive": True, "socket_connect_timeout": CONNECT_TIMEOUT_S}


# A server that was the master and is none any more answers READONLY for ever: only a new connection leads elsewhere,
# and redis-py closes the old one for the errors of its retry policy.
_BROKEN = (rexc.ConnectionError, rexc.ReadOnlyError)
_AWAY = (rexc.ConnectionError, rexc.TimeoutError, rexc.ClusterDownError, rexc.RedisClusterException, OSError)


def _command_options() -> dict[str, Any]:
    # A connection that broke is tried once more on a new one; a Redis that hangs has cost its time already.
    retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), 1, supported_errors=_BROKEN)
    return {**_KEEPALIVE, "socket_timeout": COMMAND_TIMEOUT_S, "retry": retry}


def _blocking_options() -> dict[str, Any]:
    retry = Retry(NoBackoff(), 0, supported_errors=(*_BROKEN, rexc.TimeoutError))
    return {**_KEEPALIVE, "socket_timeout": BLOCK_S + BLOCK_MARGIN_S, "retry": retry}


def connect(url: str, *, blocking: bool = False) -> Client:
    """Make a client for `url`; it connects at its first command, so this never fails because Redis is away.

    Schemes: redis, rediss, redis+sentinel://host:port,host:port/service, redis+cluster://host:port.
    Raises ConfigError for a URL that none of these fits.
    """
    options = _blocking_options() if blocking else _command_options()
    try:
        scheme = urlsplit(url).scheme
        if scheme == "redis+sentinel":
            return _sentinel(url, options)
        if scheme == "redis+cluster":
            return _cluster(url, options)
        size = 4 if blocking else COMMAND_CONNECTIONS
        pool = BlockingConnectionPool.from_url(url, max_connections=size, timeout=COMMAND_TIMEOUT_S, **options)
        return Redis.from_pool(pool)
    except ValueError as error:
        raise ConfigError(f"redis.url: {error}; use redis://host:port/0") from error


def _sentinel(url: str, options: dict[str, Any]) -> Client:
    parts = urlsplit(url)
    service = parts.path.strip("/") or "mymaster"
    hosts = parts.netloc.rpartition("@")[2].split(",")
    nodes = [(host.rpartition(":")[0] or host, int(host.rpartition(":")[2] or 26379)) for host in hosts]
    login: dict[str, Any] = dict(parse_qsl(parts.query))
    user, _, secret = parts.netloc.rpartition("@")[0].partition(":")
    if secret:
        login |= {"username": user or None, "password": secret}
    timeout = {"socket_timeout": CONNECT_TIMEOUT_S}
    sentinel = Sentinel(nodes, sentinel_kwargs=timeout, **options, **login)  # type: ignore[no-untyped-call]
    return cast(Client, sentinel.master_for(service, redis_class=Redis, connection_pool_class=SentinelConnectionPool))


def _cluster(url: str, options: dict[str, Any]) -> Client:
    plain = "redis" + url.removeprefix("redis+cluster")
    options = {key: value for key, value in options.items() if key != "retry"}
    return cast(Client, RedisCluster.from_url(plain, **options))


@asynccontextmanager
async def opened(client: Client) -> AsyncIterator[Client]:
    """Close the client at the end."""
    try:
        yield client
    finally:
        await client.aclose()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises while Redis is away, starting, full or failing over into UnavailableError.

    A cancellation that redis-py swallowed on the way (`asyncio.wait_for` of Python 3.11 may) rises at the end.
    """
    task = asyncio.current_task()
    # Not zero for ever after a task group of Python 3.11 has failed in this task.
    before = task.cancelling() if task is not None else 0
    try:
        yield
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
    except rexc.OutOfMemoryError as error:
        raise UnavailableError("redis", "Redis is out of memory", "redis_full") from error
    except rexc.NoPermissionError as error:
        raise UnavailableError("redis", f"the Redis user of redis.url lacks a right ({error})") from error
    except rexc.AuthenticationError as error:
        raise UnavailableError("redis", "Redis refuses the credentials of redis.url") from error
    except _AWAY as error:
        raise UnavailableError("redis", "Redis does not answer") from error
    except rexc.ResponseError as error:
        raise _answer(error) from error
    except rexc.RedisError as error:
        what = f"what answers at redis.url is no such Redis ({type(error).__name__})"
        raise UnavailableError("redis", what) from error
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise UnavailableError("redis", "the connection to Redis was reset") from error


# What uvloop says, as a bare RuntimeError, to who writes to a connection that the other side has just reset.
_CLOSED = "the handler is closed"
# The code of an answer that came at once and says that this cannot be done now; reading may well be possible.
REFUSES = "redis_refuses"
_PASSING = frozenset("LOADING READONLY MASTERDOWN UNBLOCKED NOREPLICAS CLUSTERDOWN TRYAGAIN BUSY MISCONF".split())


def _answer(error: rexc.ResponseError) -> Exception:
    word = str(error).partition(" ")[0]
    if isinstance(error, rexc.ReadOnlyError) or word in _PASSING:
        reason = "READONLY" if isinstance(error, rexc.ReadOnlyError) else word
        return UnavailableError("redis", f"Redis cannot serve now ({reason})", REFUSES)
    if word == "DB":
        return UnavailableError("redis", "Redis has no database of the number in redis.url")
    if word == "OOM" or "OOM" in str(error):
        return UnavailableError("redis", "Redis is out of memory", "redis_full")
    return error


async def answered(call: Awaitable[Any]) -> Any:
    """Await a command with its errors translated; the answer is raw, the caller turns it into words."""
    with translated():
        return await call
