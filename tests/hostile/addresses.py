"""Inner addresses in every spelling that some reader of URLs takes for them.

A form is a URL, or what stands for one in a Location, with `{port}` where a port may stand (`:80`, or nothing). `GOOD`
is the one host that may be asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

GOOD = "127.0.0.2"
CANARIES = ("127.0.0.1", "::1")
INNER = (
    "127.0.0.1 127.0.0.53 127.255.255.254 0.0.0.0 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 169.254.170.2 "
    "100.100.100.200 168.63.129.16 192.0.0.192 224.0.0.1 255.255.255.255"
).split()
INNER_6 = (
    "::1 :: fe80::1 fec0::1 fc00::1 fd00:ec2::254 fd20:ce::254 fd00:c1::a9fe:a9fe ff02::1 ff05::1:3 100::1 2001:db8::1 "
    "64:ff9b:1::1 5f00::1 2001::1 2001:10::1 3fff::1"
).split()
_SPELLED = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.0.1")
_FULLWIDTH = str.maketrans("0123456789.", "０１２３４５６７８９．")
_CIRCLED = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")
_BOLD = str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


class Form(NamedTuple):
    """One spelling: of which kind, and the text."""

    kind: str
    text: str


def forms() -> list[Form]:
    """All of them, each once."""
    found = [
        *(Form("IPv4", _url(host)) for address in INNER for host in _plain_4(address)),
        *(Form("IPv4 by inet_aton", _url(host)) for address in _SPELLED for host in _by_inet_aton(address)),
        *(Form("other digits and dots", _url(host)) for address in _SPELLED for host in _in_other_letters(address)),
        *(Form("percent-encoded", _url(host)) for address in (*_SPELLED, "localhost") for host in _escaped(address)),
        *(Form("IPv6", _url(f"[{host}]")) for address in INNER_6 for host in _plain_6(address)),
        *(Form("IPv4 inside IPv6", _url(f"[{host}]")) for address in INNER for host in _wrapped(address)),
        *(Form("zones and brackets", _url(host)) for host in _BRACKETS),
        *(Form("names", _url(host)) for host in (*_NAMES, *NAMED)),
        *(Form("users", _url(text)) for host in ("127.0.0.1", "[::1]", "localhost") for text in _with_users(host)),
        *(Form("blanks and controls", _url(text)) for host in ("127.0.0.1", "[::1]") for text in _with_blanks(host)),
        *(Form("slashes and schemes", text) for host in ("127.0.0.1", "[::1]") for text in _with_slashes(host)),
    ]
    return list(dict.fromkeys(found))


def _url(host: str) -> str:
    return f"http://{host}{{port}}/x"


def _plain_4(address: str) -> Iterator[str]:
    yield address
    yield address + "."
    yield str(int(ipaddress.IPv4Address(address)))
    yield hex(int(ipaddress.IPv4Address(address)))


def _by_inet_aton(address: str) -> Iterator[str]:
    a, b, c, d = (int(part) for part in address.split("."))
    number = int(ipaddress.IPv4Address(address))
    yield from (f"{number:#o}".replace("o", ""), f"0{number:o}", f"00{number:011o}", f"{number:#X}", f"0x00{number:x}")
    yield from (f"{number + 2**32}", f"{number}.", f"{number:#x}.", f"0{number}")
    yield from (f"{a}.{b << 16 | c << 8 | d}", f"{a}.{b}.{c << 8 | d}", f"0x{a:x}.{b << 16 | c << 8 | d}")
    yield from (f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"000{a:o}.{b}.{c}.{d}", f"{a:03}.{b:03}.{c:03}.{d:03}")
    yield from (f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}", f"0X{a:02X}.{b}.0{c:o}.{d}", f"{a}.{b}.{c}.0x{d:x}")
    yield from (
        f"{a + 256}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.{d}.",
        f"{a}.{b}.{c}.{d}..",
        f".{a}.{b}.{c}.{d}",
        f"{a}..{b}.{c}.{d}",
    )
    yield from (
        f"{a}.{b}.{c}.{d}.0",
        f"+{a}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.-{d}",
        f"{a}_.{b}.{c}.{d}",
        f"{a}.{b}.{c}.{d}e0",
    )


def _in_other_letters(address: str) -> Iterator[str]:
    tables = (_FULLWIDTH, _CIRCLED, _BOLD, _SUPERSCRIPT, _ARABIC)
    yield from (address.translate(table) for table in tables)
    yield from (str(int(ipaddress.IPv4Address(address))).translate(table) for table in tables)
    yield from (address.replace(".", dot) for dot in "\u3002\uff0e\uff61\u2024\u00b7")
    yield address.replace(".", "\u3002", 1)
    yield address.translate(_FULLWIDTH).replace("．", "\u3002")
    yield address[0] + "\u00ad" + address[1:]
    yield address[0] + "\u200b" + address[1:]
    yield address + "\u3002"
    yield address[:-1] + address[-1].translate(_FULLWIDTH)
    yield f"\uff10\uff58{int(ipaddress.IPv4Address(address)):x}"


def _escaped(address: str) -> Iterator[str]:
    yield "".join(f"%{ord(character):02x}" for character in address)
    yield f"%{ord(address[0]):02X}{address[1:]}"
    yield f"{address[:-1]}%{ord(address[-1]):02x}"
    yield address.replace(".", "%2e")
    yield address.replace(".", "%E3%80%82")
    yield address + "%00"
    yield address + "%20"
    yield address + "%2f"
    yield address + "%23@" + GOOD + "%2f"
    yield f"%25{ord(address[0]):02x}{address[1:]}"


def _plain_6(address: str) -> Iterator[str]:
    parsed = ipaddress.IPv6Address(address)
    groups = [f"{int(group, 16):x}" for group in parsed.exploded.split(":")]
    yield address
    yield parsed.exploded
    yield ":".join(groups)
    yield address.upper()
    yield from (f"{address}%{zone}" for zone in ("lo", "25lo", "1"))


def _wrapped(address: str) -> Iterator[str]:
    number = int(ipaddress.IPv4Address(address))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    flipped = number ^ 0xFFFFFFFF
    yield from (f"::ffff:{address}", f"::ffff:{high}:{low}", f"::FFFF:{high.upper()}:{low.upper()}")
    yield from (f"0:0:0:0:0:ffff:{high}:{low}", f"0000:0000:0000:0000:0000:ffff:{address}", f"::ffff:0:{address}")
    yield from (f"::{address}", f"::{high}:{low}", f"64:ff9b::{address}", f"64:ff9b::{high}:{low}")
    yield from (
        f"64:ff9b:1::{address}",
        f"2002:{high}:{low}::",
        f"2002:{high}:{low}::1",
        f"2002:{high}:{low}:0:0:0:0:1",
    )
    yield f"2001:0:{flipped >> 16:x}:{flipped & 0xFFFF:x}:0:ffff:{flipped >> 16:x}:{flipped & 0xFFFF:x}"
    yield f"2001::{high}:{low}"
    yield f"2001:0:{high}:{low}::f7f7:f7f7"
    yield f"fe80::5efe:{address}"


_BRACKETS = [
    "[::1", "::1", "::1]", "[[::1]]", "[::1]]", "[]", "[:]", "[::1]x", "x[::1]", "[::1]@", "[127.0.0.1]", "[0x7f.1]",
    "[2130706433]", "[localhost]", "[v1.::1]", "[vf.127.0.0.1]", "[::1%]", "[::1%25]", "[::1%251]", "[::1%2525lo]",
    "[fe80::1%25eth0]", "[fe80::1%eth0]", "[fe80::1%25lo%00]", "[::ffff:127.1]", "[::ffff:0x7f.0.0.1]",
    "[::127.0.0.01]",
    "[0::1]", "[0:0::1]", "[0:0:0:0:0:0:0:01]", "[::0001]", "[::00001]", "[0:0:0:0:0:0:0:0:1]", "[::1::]", "[1::]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]", "[:: 1]", "[ ::1]", "[::1 ]", "[::１]", "［::1］", "[：：1]",
    "%5B::1%5D",
    "[::1].", "[::1]:", "[::ffff:127.0.0.1.]", "[::ffff:127\u30020.0.1]", "0:0:0:0:0:0:0:1", "[0x1::1]", "[::1/128]",
]  # fmt: skip
# Every name is looked up to the canaries, and these to what they say.
_NAMES = [
    "localhost", "localhost.", "LOCALHOST", "LocalHost.", "localhost.localdomain", "ip6-localhost",
    "localhost4", "x.localhost",
    "localhoſt", "ⓛocalhost", "ｌｏｃａｌｈｏｓｔ", "localhost\u3002", "local\u00adhost", "metadata",
    "metadata.google.internal",
    "METADATA.GOOGLE.INTERNAL.", "instance-data", "kubernetes.default.svc", "host.docker.internal",
    "127.0.0.1.nip.test",
    "0x7f000001.nip.test", "127-0-0-1.sslip.test", "xn--localhost.test", "xn--a.test", "exa_mple.test", "-.test",
    "a" * 63 + ".test", "a" * 64 + ".test", "a." * 126 + "a", "bücher.test", "☃.test", "\u202e.test",
    "a..test", ".test",
    "127.0.0.1.", "1.test", "0x.test", "test.1a", "wpad", "printer.local", "router.lan", "*", "a*.test",
    "$HOME", "a,b.test",
]  # fmt: skip
NAMED: dict[str, tuple[str, ...]] = {
    **{f"four{number}.inner.test": (address,) for number, address in enumerate(INNER)},
    **{f"six{number}.inner.test": (address,) for number, address in enumerate(INNER_6)},
    "mapped.inner.test": ("::ffff:127.0.0.1",),
    "nat64.inner.test": ("64:ff9b::7f00:1",),
    "both.inner.test": ("127.0.0.1", "::1"),
    "many.inner.test": tuple(INNER),
    "nonsense.inner.test": ("nonsense",),
    "mixed.inner.test": ("127.0.0.1", GOOD, "::1"),
}


def _with_users(host: str) -> Iterator[str]:
    for trick in (
        "{good}@{bad}", "{good}:80@{bad}", "user:secret@{bad}", "@{bad}", ":@{bad}", "a@b@{bad}", "{good}%40{bad}",
        "{good}#@{bad}", "{good}?@{bad}", "{good}/@{bad}", "{good}\\@{bad}", "{bad}\\@{good}", "{good};@{bad}",
        "{good}%23@{bad}", "{good}%2f@{bad}", "{good}%5c@{bad}", "{good}:@{bad}", "{good}:80#@{bad}", "{good},{bad}",
        "{good}&@{bad}#@{good}", "{good}@{bad}@{good}", "{bad}#@{good}", "{bad}?@{good}", "{bad};{good}",
        "{good} @{bad}",
        "{good}\t@{bad}", "{good}\uff20{bad}", "{good}\uff0f@{bad}", "{good}\ufe6b{bad}", "[{good}]@{bad}",
        "{good}:80:{bad}",
        "{bad}:80@{good}:80@{bad}", "{good}\u2100@{bad}", "{good}\uff03@{bad}", "%00@{bad}", "{good}%0a@{bad}",
    ):  # fmt: skip
        yield trick.format(good=GOOD, bad=host)


def _with_blanks(host: str) -> Iterator[str]:
    for blank in (
        "\t",
        "\n",
        "\r",
        "\r\n",
        " ",
        "\0",
        "\x0b",
        "\x0c",
        "\x1f",
        "\x7f",
        "\x85",
        "\u00a0",
        "\u2028",
        "\ufeff",
    ):
        yield blank + host
        yield host + blank
        yield host[:2] + blank + host[2:]


def _with_slashes(host: str) -> Iterator[str]:
    for pattern in (
        "HTTP://{bad}{port}/x", "hTTp://{bad}{port}", "https://{bad}{port}/x", "http:{bad}{port}/x",
        "http:/{bad}{port}/x",
        "http:///{bad}{port}/x", "http:////{bad}{port}/x", "http:\\\\{bad}{port}/x", "http:/\\{bad}{port}/x",
        "http:\\/{bad}{port}/x", "http://\\{bad}{port}/x", "http://{bad}{port}\\x", "http://{bad}{port}?x",
        "http://{bad}{port}#x",
        "http://{bad}{port}\\@{good}/", "\\\\{bad}{port}/x", "/\\{bad}{port}/x", "\\/{bad}{port}/x", "///{bad}{port}/x",
        "////{bad}{port}/x", "/\t/{bad}{port}/x", "\t//{bad}{port}/x", "ht\ntp://{bad}{port}/x",
        " http://{bad}{port}/x",
        "http\t://{bad}{port}/x", "http:\t//{bad}{port}/x", "http:/\n/{bad}{port}/x", "http&#58;//{bad}{port}/x",
        "http%3A//{bad}{port}/x", "url:http://{bad}{port}/x", "view-source:http://{bad}{port}/x", "ftp://{bad}{port}/x",
        "gopher://{bad}{port}/_x", "ws://{bad}{port}/x", "file://{bad}{port}/etc/passwd", "jar:http://{bad}{port}/!x",
        "http+unix://{bad}{port}/x", "http;//{bad}{port}/x", "feed:http://{bad}{port}/x", "http\uff1a//{bad}{port}/x",
        "http:\uff0f\uff0f{bad}{port}/x", "//{good}@{bad}{port}/x", "//{good}\\@{bad}{port}/x", "http://{bad}:{port}/x",
        "http://{bad}{port}0000/x", "http://{bad}:00080/x", "http://{bad}:+80/x", "http://{bad}:８０/x",
        "http://{bad}:80\t/x",
    ):  # fmt: skip
        yield pattern.replace("{bad}", host).replace("{good}", GOOD)
