"""An answer's body, as it is read: by aiohttp's parser, or straight from the socket where nothing needs parsing."""

from __future__ import annotations

from typing import Protocol

from downloader.work.asking import Answer
from downloader.work.connector import BoundedProtocol
from downloader.work.receiver import Receiver


class Body(Protocol):
    """What comes after an answer's head; `length` in bytes where it is known, `taken` the bytes that were read."""

    length: int | None
    taken: int

    @property
    def is_ready(self) -> bool:
        """Whether `read` would not wait."""
        ...

    @property
    def is_at_end(self) -> bool:
        """Whether all has been read."""
        ...

    async def read(self) -> bytes | memoryview:
        """The next bytes; empty at the end. Raises aiohttp.ClientError, OSError or RuntimeError when it breaks off."""
        ...

    def rest(self) -> bytes:
        """What has come and was not read, for who gives up."""
        ...


class ParsedBody:
    """A body that comes through aiohttp's parser, which knows chunks and where the answer ends."""

    def __init__(self, response: Answer, length: int | None, taken: int = 0) -> None:
        """`taken` bytes of it have been read already."""
        self.length = length
        self.taken = taken
        self._content = response.content
        if response.connection is not None and isinstance(response.connection.protocol, BoundedProtocol):
            response.connection.protocol.read_on()

    @property
    def is_ready(self) -> bool:
        """Whether something has come that was not read."""
        return self._content.total_bytes > self.taken

    @property
    def is_at_end(self) -> bool:
        """Whether the body has ended and all of it was read."""
        return self._content.at_eof()

    async def read(self) -> bytes:
        """The next bytes.

        `readany` joins, and so copies, all that have come, which is good where a chunked body has tiny chunks;
        `readchunk` hands out each block as it came from the socket.
        """
        chunk = await self._content.readany() if self.length is None else (await self._content.readchunk())[0]
        self.taken += len(chunk)
        return chunk

    def rest(self) -> bytes:
        """Nothing: what comes is read at once, and aiohttp drops the rest of a body that broke off."""
        return b""


def of(response: Answer, length: int | None, *, taken: int, is_plain: bool) -> Body:
    """The body of an answer of which `taken` bytes were read; `is_plain` if nothing has to look at its bytes first."""
    # One that came whole with its head, as small ones do, has nothing left to receive.
    receiver = Receiver.of(response, length) if is_plain and not taken and not response.content.is_eof() else None
    return receiver or ParsedBody(response, length, taken)
