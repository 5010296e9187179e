"""Where things are. Sources lie on addresses that the services allow; 127.0.0.1 and ::1 must never be reached."""

from __future__ import annotations

import ipaddress

HOST = "127.0.0.2"
OTHER_HOST = "127.0.0.3"
CANARIES = ("127.0.0.1", "::1")


def named(*addresses: str, kind: str = "all", mark: str = "x") -> str:
    """A host name that the services' resolver (`system/sitecustomize.py`) takes for these addresses."""
    return ".".join([mark] * bool(mark) + [_label(address) for address in addresses] + [kind, "field.test"])


def failing(kind: str) -> str:
    """A host name whose look-up fails in this way."""
    return f"{kind}.fault.field.test"


def _label(address: str) -> str:
    return f"{int(ipaddress.ip_address(address)):0{8 if '.' in address else 32}x}"
