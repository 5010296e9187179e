"""The system's resolver of a process that has this folder on its path: names in `field.test` say their own answers.

    7f000002.fd00dead000000000000000000000001.all.field.test     all of these addresses
    x1.7f000002.7f000001.turn.field.test                         one after the other, the last for ever; x.. is ignored
    nxdomain.fault.field.test                                    a failure, see below

Every other name in `test` does not exist; the rest is left to the system.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections import Counter
from typing import Any

_system = socket.getaddrinfo
_asked: Counter[str] = Counter()
_SLOW_S = 5.0


def _address(word: str) -> str:
    number = int(word, 16)
    return str(ipaddress.IPv4Address(number) if len(word) == 8 else ipaddress.IPv6Address(number))


def _answers(name: str) -> list[str]:
    """The addresses of `name`; raises what a resolver raises."""
    *words, kind = name.removesuffix(".field.test").split(".")
    if kind == "fault":
        return _fault(words[-1])
    if not name.endswith(".field.test") or kind not in ("all", "turn"):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    addresses = [_address(word) for word in words if not word.startswith("x")]
    if kind == "all":
        return addresses
    _asked[name] += 1
    return [addresses[min(_asked[name], len(addresses)) - 1]]


def _fault(kind: str) -> list[str]:
    match kind:
        case "again":
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        case "unicode":
            raise UnicodeError("label too long")
        case "os":
            raise OSError("the network is down")
        case "empty":
            return []
        case "slow":
            time.sleep(_SLOW_S)
        case _:
            pass
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


def getaddrinfo(host: Any, port: Any, *rest: Any, **options: Any) -> list[Any]:
    """As `socket.getaddrinfo`."""
    name = host.decode() if isinstance(host, bytes) else str(host)
    name = name.lower().removesuffix(".")
    if not name.endswith(".test"):
        return list(_system(host, port, *rest, **options))
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (text, int(port), 0, 0))
        if ":" in text
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, int(port)))
        for text in _answers(name)
    ]


socket.getaddrinfo = getaddrinfo
