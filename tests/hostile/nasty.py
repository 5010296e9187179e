"""Names made up by people who mean harm, or do not care: a generator that reaches for trouble, the same for a seed."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

from downloader.jobs import Source

Family = Callable[[random.Random], list[str]]

# Few, so that names often meet.
_STEMS = "a b c report data img x Readme index café straße ﬁle ılık İSTANBUL Σίσυφος K ſet 日本語 Привет".split()
_EXTENSIONS = ["", "", ".txt", ".TXT", ".pdf", ".tar.gz", ".c", ".", ". ", ".a.b", ".ext\u0131"]
_DEVICES = (
    "con prn aux nul conin$ conout$ com0 com1 com9 lpt0 lpt1 lpt9 com¹ com² com³ lpt¹ lpt² lpt³ ＣＯＮ clock$".split()
)
_BLANKS = [" ", ".", ". ", " .", "..", "...", "\t", "\u00a0", "\u3000", "\u2003", "\r\n", "\x1f", "\u200b", "\ufeff"]
_BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_NONCHARACTERS = "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0001ffff\U0002fffe\U000fffff\U0010fffe\U0010ffff\ufffd\ufffc"
_INVISIBLE = "\u00ad\u034f\u115f\u180e\u200b\u200c\u200d\u2060\u2061\ufe0f\U000e0001\U000e0041\ue000\uf8ff"
_JOINED = [
    "👨\u200d👩\u200d👧\u200d👦",
    "🏳\ufe0f\u200d🌈",
    "👍🏽",
    "🇩🇪",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "1\ufe0f\u20e3",
]
_COMPOSED = [
    "é", "Å", "ḍ̇", "가각", "ﬃ", "①", "ﾊﾟ", "Ⅳ", "½", "ｆｕｌｌ", "ǆ", "ſt", "ŉ", "ΐ", "\u1e9b\u0323",
    "\u212b", "\u2126",
]  # fmt: skip
_CASES = [
    "straße", "STRASSE", "ılık", "ILIK", "ilik", "İ", "i\u0307", "ς", "Σ", "σ", "ſ", "ﬀ", "FF", "ǅ",
    "ŉ", "ΰ", "K", "Ꭰ", "ꭰ",
]  # fmt: skip
_OURS = (
    "MISSING-FILES.txt manifest.json SHA256SUMS missing-files.TXT MISSING-FILES.txt/x Manifest.json/y SHA256SUMS."
).split()
_FRONTS = [
    "/", "\\", "C:\\", "c:/", "C:", "Z:\\..\\", "\\\\server\\share\\", "//server/share/", "\\\\?\\C:\\", "\\\\.\\",
    "file:///", "\\\\?\\UNC\\server\\share\\", "\\\\?\\GLOBALROOT\\Device\\", "/proc/self/", " /", "\t\\",
]  # fmt: skip


def _stem(rng: random.Random) -> str:
    return rng.choice(_STEMS) + rng.choice(["", "", str(rng.randrange(10)), f" ({rng.randrange(2, 5)})"])


def _plain(rng: random.Random) -> str:
    return _stem(rng) + rng.choice(_EXTENSIONS)


def _with(rng: random.Random, mischief: str) -> str:
    """A plain name with `mischief` put in somewhere."""
    name = _plain(rng)
    at = rng.randrange(len(name) + 1)
    return name[:at] + mischief + name[at:]


def _traversal(rng: random.Random) -> list[str]:
    slash = rng.choice(["/", "\\", "//", "/./", "\\/", "/../", "／", "＼", "\u2215", "\u29f8"])
    up = rng.choice(["..", ". .", ".. ", "...", "..\0", " ..", "．．", "\u2025", "~", "$HOME", "%TEMP%"])
    return [slash.join([rng.choice(["", up])] + [up] * rng.randrange(1, 9) + [rng.choice(["etc", "a"]), _plain(rng)])]


def _encoded(rng: random.Random) -> list[str]:
    up = rng.choice(["%2e%2e%2f", "..%2f", "..%5c", "%2e%2e%5C", "%252e%252e%252f", "%c0%ae%c0%ae%c0%af", "..%00/"])
    return [up * rng.randrange(1, 5) + _plain(rng)]


def _absolute(rng: random.Random) -> list[str]:
    return [rng.choice(_FRONTS) + _plain(rng)]


def _device(rng: random.Random) -> list[str]:
    cased = "".join(rng.choice([str.upper, str.lower])(character) for character in rng.choice(_DEVICES))
    folder = rng.choice(["", "", "a/", "\\\\.\\", cased + "/"])
    return [
        folder + cased + rng.choice(["", *_BLANKS, " .txt", ".txt", ".tar.gz", ":", ":stream", "::$DATA", ".", "/x"])
    ]


def _control(rng: random.Random) -> list[str]:
    bad = rng.choice(
        [chr(rng.randrange(32)), "\0", "\r\n", "\r", "\n", "\x7f", chr(rng.randrange(0x80, 0xA0)), "\x1b[2J"]
    )
    return [_with(rng, bad)]


def _illegal(rng: random.Random) -> list[str]:
    return [_with(rng, rng.choice('<>:"|?*') * rng.randrange(1, 3))]


def _unseen(rng: random.Random) -> list[str]:
    return [_with(rng, rng.choice(_BIDI + _INVISIBLE + _NONCHARACTERS + "\u2028\u2029"))]


def _surrogate(rng: random.Random) -> list[str]:
    return [_with(rng, rng.choice(["\ud800", "\udfff", "\udc80", "\udce9", "\ude00\ud83d", "\ud83d"]))]


def _emoji(rng: random.Random) -> list[str]:
    return [rng.choice(_JOINED) * rng.choice([1, 1, 3, 60, 300]) + rng.choice(_EXTENSIONS)]


def _twins(rng: random.Random) -> list[str]:
    """One name in all Unicode forms."""
    name = _with(rng, rng.choice(_COMPOSED))
    return [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD"))]


def _cases(rng: random.Random) -> list[str]:
    """One name in all cases."""
    name = rng.choice(_CASES) + rng.choice(_EXTENSIONS)
    return [name, name.upper(), name.lower(), name.title(), name.casefold(), name.swapcase()]


def _long(rng: random.Random) -> list[str]:
    piece = rng.choice(
        ["x", "é", "e\u0301", "日", "😀", "ab ", "a.", "👨\u200d👩\u200d👧", "q\u0323\u0307", "ﷺ", "ß", "İ"]
    )
    size = rng.choice([149, 150, 151, 200, 255, 256, 300, 300, 5000])
    return [(piece * size)[:size] + rng.choice(_EXTENSIONS)]


def _equal_when_cut(rng: random.Random) -> list[str]:
    front = rng.choice(["x", "é", "日", "😀"]) * rng.choice([150, 255, 300])
    return [f"{front}{end}{extension}" for end in ("one", "two", "ONE") for extension in ("", ".txt")]


def _deep(rng: random.Random) -> list[str]:
    folder = rng.choice(["d", "folder with a long name", "日本語" * 9, "😀" * 30, "..", "con", "x" * 300, "é" * 200])
    return ["/".join([folder] * rng.randrange(2, 25) + [name]) for name in (_plain(rng), *_long(rng))]


def _trailing(rng: random.Random) -> list[str]:
    ends = "".join(rng.choice(_BLANKS) for _ in range(rng.randrange(1, 4)))
    return [_plain(rng) + ends, ends + _plain(rng), f"{_stem(rng)}{ends}/{_plain(rng)}", ends]


def _short(rng: random.Random) -> list[str]:
    """What looks like the 8.3 name of another file."""
    return rng.choice(
        [["PROGRA~1", "Program Files"], ["REPORT~1.TXT", "report"], ["longna~1.txt", "longname of a file.txt"]]
    )


def _ours(rng: random.Random) -> list[str]:
    return [rng.choice(_OURS)]


def _clash(rng: random.Random) -> list[str]:
    """A file where another one needs a folder."""
    one, two = _stem(rng), _stem(rng)
    names = [
        one,
        f"{one}/{two}",
        f"{one}/{two}/{one}",
        f"{one.upper()}/{two}",
        f"{one.swapcase()}\\{two}.txt",
        f"{one}.",
    ]
    rng.shuffle(names)
    return names


def _shell(rng: random.Random) -> list[str]:
    return [
        rng.choice(
            ["-rf", "--help", "$(id)", "`id`", ";ls", "@list", "-", "~", "~root", "#", "!x", "a&b", "%s%n", ".git/x"]
        )
    ]


def _anything(rng: random.Random) -> list[str]:
    return [
        "".join(chr(rng.choice([rng.randrange(0x110000), rng.randrange(0x3000), 47])) for _ in range(rng.randrange(9)))
    ]


FAMILIES: tuple[Family, ...] = (
    _traversal, _encoded, _absolute, _device, _control, _illegal, _unseen, _surrogate, _emoji, _twins, _cases, _long,
    _equal_when_cut, _deep, _trailing, _short, _ours, _clash, _shell, _anything,
)  # fmt: skip


def hostile_names(count: int, seed: int) -> list[str]:
    """`count` names, all families in turn, twins beside each other."""
    rng = random.Random(seed)
    names: list[str] = []
    while len(names) < count:
        for family in FAMILIES:
            names += family(rng)
    return names[:count]


def carried(names: list[str], seed: int) -> list[tuple[Source, str | None]]:
    """Each name in one of the three ways that a name can come by.

    By the request, by the URL's last segment, or by the answer's Content-Disposition, which stands beside the source.
    """
    rng = random.Random(seed)
    return [_carried(index, name, rng.randrange(4)) for index, name in enumerate(names)]


def _carried(index: int, name: str, way: int) -> tuple[Source, str | None]:
    escaped = quote(name.encode("utf-8", "surrogatepass"))
    if way == 0:
        return Source(index, index, f"http://source.test/{escaped}"), None
    if way == 1:
        return Source(index, index, "http://source.test/get.php"), f"attachment; filename*=UTF-8''{escaped}"
    return Source(index, index, "http://source.test/", name=name), None
