"""The client's exceptions as errors of ours: one table, at the border.

Texts of foreign exceptions hold whole URLs and header lines, so none of them is shown or kept in a chain.

| code             | means                                                                           | another try?   |
|------------------|---------------------------------------------------------------------------------|----------------|
| blocked_address  | the address, or the host by the operator's lists, may not be reached            | no             |
| dns_failure      | the name has no address, or the look-up did not work                            | if it may help |
| connect_failed   | no connection could be made, or the operator's proxy for the host refused to    | if it may help |
| tls_verify       | the TLS handshake failed, or the certificate is not to be trusted; says why     | no             |
| timeout          | the source was silent for too long                                              | yes            |
| too_slow         | the source sent less than the least speed                                       | yes            |
| truncated        | the file ended before its announced end                                         | yes            |
| protocol_error   | the answer is not HTTP, or the connection closed without one                    | yes            |
| header_too_large | a header of the answer is over 32 KiB, or there are more than 512               | no             |
| bad_url          | the URL cannot be used                                                          | no             |
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import aiohttp
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, LineTooLong, TransferEncodingError

from downloader.errors import SourceError
from downloader.work.dial import Dial

CLIENT_ERRORS = (aiohttp.ClientError, OSError, ValueError)  # TimeoutError is an OSError, UnicodeError a ValueError

# X509_V_ERR_* of OpenSSL, in words.
_CERTIFICATE_FAULTS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate's chain ends in an unknown root",
    20: "the certificate's chain is incomplete or its issuer is unknown",
    21: "the certificate's chain is incomplete",
    23: "the certificate was revoked",
    62: "the certificate is for another host",
    64: "the certificate is for another address",
}
_HANDSHAKE_FAULTS = {
    "WRONG_VERSION_NUMBER": "the source does not speak TLS on this port",
    "HTTP_REQUEST": "the source does not speak TLS on this port",
    "UNSUPPORTED_PROTOCOL": "the source speaks only an outdated TLS version",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the source refuses our TLS versions",
}
_NO_SUCH_NAME = frozenset(
    code for name in ("EAI_NONAME", "EAI_NODATA") if (code := getattr(socket, name, None)) is not None
)


def blocked_address() -> SourceError:
    """The one answer for everything that may not be reached: it tells nothing about what is there."""
    return SourceError("blocked_address", "the source's address is not allowed")


def truncated(received: int, expected: int | None) -> SourceError:
    """The file ended early; sizes in bytes."""
    known = "" if expected is None else f" of {expected}"
    return SourceError("truncated", f"the file ended after {received}{known} bytes", transient=True)


def protocol_error(what: str = "the source's answer is not valid HTTP") -> SourceError:
    """The answer cannot be what the source meant to say."""
    return SourceError("protocol_error", what, transient=True)


def timeout(waited_s: float) -> SourceError:
    """The source was silent for `waited_s`."""
    return SourceError("timeout", f"the source sent nothing for {waited_s:g} s", transient=True)


def request_fault(error: Exception, dial: Dial) -> SourceError:
    """What a failure before the answer's head was read means."""
    if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, aiohttp.ClientError | OSError):
        return SourceError("bad_url", "the URL cannot be used")
    if not dial.connected:
        return blocked_address() if dial.blocked else _connection_fault(error)
    if isinstance(error, aiohttp.ClientResponseError):
        return _head_fault(error)
    if isinstance(error, TimeoutError):
        return timeout(dial.answer_timeout_s)
    return protocol_error("the source closed the connection without an answer")


def _connection_fault(error: Exception) -> SourceError:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        is_passing = error.status >= 500 or error.status == 429
        return SourceError("connect_failed", f"the proxy answered with status {error.status}", transient=is_passing)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _dns_failure(error.os_error)
    if isinstance(error, aiohttp.ClientSSLError):
        return SourceError("tls_verify", f"no trusted connection: {_tls_reason(error)}")
    return SourceError("connect_failed", "no connection to the source could be made", transient=True)


def body_fault(error: Exception, received: int, expected: int | None) -> SourceError:
    """What a failure while the body was read means."""
    causes = tuple(_chain(error))
    is_garbled = any(
        isinstance(cause, HttpProcessingError) and not isinstance(cause, ContentLengthError | TransferEncodingError)
        for cause in causes
    )
    if is_garbled or any(_is_bad_chunk(cause) for cause in causes):
        return protocol_error()
    return truncated(received, expected)


def _is_bad_chunk(error: BaseException) -> bool:
    # Both a cut and a garbled chunk are a TransferEncodingError; only a cut says that data is missing.
    return isinstance(error, TransferEncodingError) and "not enough data" not in error.message.lower()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    cause = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _dns_failure(error: OSError) -> SourceError:
    if error.errno in _NO_SUCH_NAME:
        return SourceError("dns_failure", "the source's host name does not exist")
    return SourceError("dns_failure", "the source's host name could not be looked up", transient=True)


def _head_fault(error: aiohttp.ClientResponseError) -> SourceError:
    for cause in _chain(error):
        if isinstance(cause, LineTooLong) or "too many headers" in str(getattr(cause, "message", "")).lower():
            return SourceError("header_too_large", "the source's answer has a header that is too large")
    return protocol_error()


def _tls_reason(error: aiohttp.ClientSSLError) -> str:
    for cause in _chain(error.__cause__):  # aiohttp's own is an ssl error too, but an empty one
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _CERTIFICATE_FAULTS.get(cause.verify_code, "the certificate cannot be verified")
        if isinstance(cause, ssl.SSLError) and cause.reason is not None:
            return _HANDSHAKE_FAULTS.get(cause.reason, "the TLS handshake failed")
    return "the TLS handshake failed"
