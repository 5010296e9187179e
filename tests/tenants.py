"""Callers with keys of their own: the tenants of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from downloader.keys import ApiKey
from downloader.state.client import connect, opened
from downloader.state.keys import Keys
from downloader.state.scripts import Scripts
from tests.api import Api


@asynccontextmanager
async def keyring(settings: dict[str, Any]) -> AsyncIterator[Keys]:
    """The keys of the service with these settings, as an operator has them in hand."""
    async with opened(connect(settings["redis"]["url"])) as client:
        yield Keys(client, Scripts(client, settings["redis"]["prefix"]))


async def make_key(settings: dict[str, Any], tenant: str, life_s: float | None = None) -> tuple[ApiKey, str]:
    """A new key of `tenant`, and its text."""
    async with keyring(settings) as keys:
        return await keys.make(tenant, life_s=life_s)


@asynccontextmanager
async def caller(base: str, **headers: str) -> AsyncIterator[Api]:
    """A client of its own that sends these headers with every call (`_` stands for `-`)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession(headers=named) as session:
        yield Api(session, base)


@asynccontextmanager
async def tenant(settings: dict[str, Any], base: str, name: str) -> AsyncIterator[Api]:
    """A client with a key of the tenant `name`."""
    _, key = await make_key(settings, name)
    async with caller(base, Authorization=f"Bearer {key}") as api:
        yield api
