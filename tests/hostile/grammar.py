"""URLs by a grammar that knows where readers of URLs disagree, for Hypothesis to make up."""

from __future__ import annotations

import ipaddress

from hypothesis import strategies as st

from tests.hostile.addresses import GOOD, INNER, INNER_6, NAMED

_MISCHIEF = st.sampled_from(
    [
        *"@#?/\\:%[].;,&\t\n\r \0",
        *"\u3002\uff0e\uff20\uff0f\u00ad\u200b\u202e\u2100\ud800\udce9",
        *("%00", "%2e", "%40", "..", GOOD, f"@{GOOD}"),
    ]
)
_WRAPPINGS = (
    "::{d} ::ffff:{d} ::ffff:{h:x}:{l:x} ::ffff:0:{d} 64:ff9b::{d} 64:ff9b::{h:x}:{l:x} 2002:{h:x}:{l:x}:: "
    "2001:0:{h:x}:{l:x}:: 0:0:0:0:0:FFFF:{h:X}:{l:X}"
).split()


@st.composite
def _numbers(draw: st.DrawFn) -> str:
    """An IPv4 address with one to four parts, each in a radix of its own."""
    number = int(ipaddress.IPv4Address(draw(st.sampled_from(INNER))))
    parts = draw(st.integers(1, 4))
    last_bits = 8 * (5 - parts)
    values = [number >> (32 - 8 * (place + 1)) & 0xFF for place in range(parts - 1)] + [number & ((1 << last_bits) - 1)]
    radixes = st.sampled_from(["{}", "0x{:x}", "0X{:X}", "0{:o}", "{:03}", "0x0{:x}", "00{:o}"])
    return ".".join(draw(radixes).format(value) for value in values)


@st.composite
def _wrapped(draw: st.DrawFn) -> str:
    """An IPv6 address, perhaps with an IPv4 one inside."""
    number = int(ipaddress.IPv4Address(draw(st.sampled_from(INNER))))
    high, low = number >> 16, number & 0xFFFF
    dotted = f"{ipaddress.IPv4Address(number)}"
    pattern = draw(st.sampled_from([*_WRAPPINGS, *INNER_6]))
    zone = draw(st.sampled_from(["", "", "", "%25lo", "%lo", "%1"]))
    return f"[{pattern.format(d=dotted, h=high, l=low)}{zone}]"


_names = st.sampled_from(["localhost", "LOCALHOST.", "x.test", "bücher.test", *NAMED])
_hosts = st.one_of(st.sampled_from(INNER), _numbers(), _wrapped(), _names, st.text(max_size=12))
_users = st.one_of(
    st.just(""), st.sampled_from([f"{GOOD}@", "a:b@", "@", f"{GOOD}#@", f"{GOOD}\\@"]), st.text(max_size=5)
)
_ports = st.sampled_from(["", "{port}", "{port}", ":80", ":", ":0", ":65536", ":{port}", "{port}{port}"])
_starts = st.one_of(
    st.sampled_from(
        ["http://"] * 6
        + ["https://", "HTTP://", "//", "///", "\\\\", "/\\", "http:/", "http:", "http:\\\\", "http:///"]
    ),
    st.text(max_size=4),
)
_ends = st.one_of(st.sampled_from(["", "/", "/x", "?x", "#x", "\\x", f"@{GOOD}/", f"#@{GOOD}/"]), st.text(max_size=5))


@st.composite
def urls(draw: st.DrawFn) -> str:
    """A URL that is meant to end inside, with up to three pieces of mischief; `{port}` is where a port may stand."""
    text = "".join(draw(piece) for piece in (_starts, _users, _hosts, _ports, _ends))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_MISCHIEF) + text[at:]
    return text
