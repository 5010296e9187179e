"""Coded answers. We ask for none (`Accept-Encoding: identity`); a server that codes anyway is decoded exactly once.

Except where the coded form is the file: servers label a stored `x.tar.gz` with `Content-Encoding: gzip`, and whoever
decodes that delivers a tar under the name of a gzip file. The rule, by name (the request's, the URL's or the
Content-Disposition's) or by media type:

| coding | names that are kept                       | media types that are kept                              |
|--------|-------------------------------------------|--------------------------------------------------------|
| gzip   | .gz .tgz .taz .gzip .svgz .emz .wmz .cpgz | application/gzip, -tar, -gtar, -tgz, -gzip-compressed  |
| others | the coding's own: .br .zst .bz2 .xz .z    | none                                                   |

When such a file was coded once more on its way (its decoded form still begins like gzip), that outer layer is taken
off. gzip and deflate can be decoded, one layer of them; anything else is `bad_encoding`.

A bomb cannot burst: the output comes in pieces of at most 256 KiB, each handed on before the next is made.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from downloader.errors import SourceError

PIECE_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_KEPT_NAMES = {
    "gzip": (".gz", ".tgz", ".taz", ".gzip", ".svgz", ".emz", ".wmz", ".cpgz"),
    "br": (".br",),
    "zstd": (".zst", ".tzst"),
    "bzip2": (".bz2", ".tbz", ".tbz2"),
    "xz": (".xz", ".txz"),
    "compress": (".z",),
}
_KEPT_TYPES = {
    "gzip": frozenset(
        "application/" + name
        for name in ("gzip", "x-gzip", "x-tar", "x-gtar", "x-tgz", "x-gtar-compressed", "x-gzip-compressed")
    )
}


def bad_encoding(why: str) -> SourceError:
    """The error for an answer whose content coding cannot be undone."""
    return SourceError("bad_encoding", f"the source sent the file in a coding that {why}")


def is_the_file(coding: str, names: tuple[str, ...], content_type: str | None) -> bool:
    """Whether the coded form is the file itself, by the table above."""
    endings = _KEPT_NAMES.get(coding, ())
    return any(name.lower().endswith(endings) for name in names) or content_type in _KEPT_TYPES.get(coding, ())


def is_coded_again(start: bytes) -> bool:
    """Whether a gzip file was gzipped once more on its way, by the first bytes of the answer."""
    try:
        return zlib.decompressobj(wbits=31).decompress(start, 2) == _GZIP_MAGIC
    except zlib.error:
        return False


class Decoder:
    """Undoes one gzip or deflate layer, piece by piece; raises `bad_encoding` where the data is broken."""

    def __init__(self, coding: str) -> None:
        if coding not in ("gzip", "deflate"):
            raise bad_encoding("was not asked for and is not supported")
        self._coding = coding
        self._stream = zlib.decompressobj(wbits=31) if coding == "gzip" else None
        self._pending = b""
        self._has_ended = False

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """The decoded form of `chunk`, at most 256 KiB at a time; each piece is computed when it is asked for."""
        self._pending += chunk
        piece = b""
        # All input may be taken while there is still output to come: a piece that is full is not the last one.
        while (self._pending or (len(piece) == PIECE_BYTES and not self.is_complete)) and not self._has_ended:
            stream = self._stream or self._begin_deflate()
            try:
                piece = stream.decompress(self._pending, PIECE_BYTES)
            except zlib.error:
                raise bad_encoding("is broken") from None
            self._pending = stream.unconsumed_tail
            if stream.eof:
                self._after_member(stream.unused_data)
            if piece:
                yield piece

    def _begin_deflate(self) -> zlib._Decompress:
        # RFC 9110 means zlib's wrapping, some servers send raw deflate: the first byte tells.
        is_wrapped = self._pending[0] & 0x0F == zlib.DEFLATED
        self._stream = zlib.decompressobj() if is_wrapped else zlib.decompressobj(wbits=-15)
        return self._stream

    def _after_member(self, rest: bytes) -> None:
        """Go on with the next gzip member; what else follows the last one is padding and dropped, as gzip does."""
        if self._coding == "gzip" and rest.startswith(_GZIP_MAGIC):
            self._pending = rest
            self._stream = zlib.decompressobj(wbits=31)
        elif rest not in (b"", _GZIP_MAGIC[:1]):
            self._has_ended = True

    @property
    def is_complete(self) -> bool:
        """Whether the coded stream has come to its end."""
        return self._has_ended or (self._stream is not None and self._stream.eof)
