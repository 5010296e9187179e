"""Throw-away certificates, good and bad, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.field.host import HOST

_ISSUING = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n"
_OURS = f"subjectAltName=IP:{HOST}\n"
_LEAVES = {
    "good": (_OURS, "2"),
    "other": ("subjectAltName=DNS:elsewhere.test\n", "2"),
    "elsewhere": ("subjectAltName=IP:192.0.2.7\n", "2"),
    "expired": (_OURS, "-1"),
    "named": ("subjectAltName=DNS:*.turn.field.test,DNS:*.all.field.test\n", "2"),
}


@dataclass(frozen=True, slots=True)
class Authority:
    """A folder with a root, an intermediate and leaves with their faults."""

    folder: Path

    @property
    def root(self) -> Path:
        """What is trusted."""
        return self.folder / "root.pem"

    def server(self, leaf: str, *, chain: bool = True) -> ssl.SSLContext:
        """A server that shows this leaf, with or without the intermediate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        shown = self.folder / (f"{leaf}-chain.pem" if chain else f"{leaf}.pem")
        context.load_cert_chain(shown, self.folder / f"{leaf}.key")
        return context


def authority(parent: Path) -> Authority:
    """Make all of them in a new folder."""
    folder = parent / "certificates"
    folder.mkdir()
    _issue(folder, "root", "root", _ISSUING, "2")
    _issue(folder, "middle", "root", _ISSUING, "2")
    _issue(folder, "self", "self", _OURS, "2")
    for name, (extensions, days) in _LEAVES.items():
        _issue(folder, name, "middle", extensions, days)
        chain = (folder / f"{name}.pem").read_text() + (folder / "middle.pem").read_text()
        (folder / f"{name}-chain.pem").write_text(chain)
    return Authority(folder)


def _issue(folder: Path, name: str, issuer: str, extensions: str, days: str) -> None:
    (folder / f"{name}.ext").write_text(extensions)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    _openssl(
        folder, "req", "-new", *curve, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
    )
    by_other = ("-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial")
    signing = ("-signkey", f"{name}.key") if issuer == name else by_other
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        "-days", days,
    )  # fmt: skip


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
