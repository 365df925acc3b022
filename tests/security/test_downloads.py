"""Where data comes from: over https alone, and only what has the sum that is pinned here.

A wrong sum, a cut download: `tests/unit/text_recognizer/test_data.py`,
`tests/faults/test_data_faults.py`.
"""

from __future__ import annotations

import datetime
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.mirror import archives, small_mnist
from text_recognizer import util
from text_recognizer.data.mnist import MNIST, answers
from text_recognizer.errors import DataError
from text_recognizer.tables import DATASETS

NAME = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_address_is_https_and_every_file_has_a_sum(name: str) -> None:
    cls = DATASETS[name]
    if not issubclass(cls, MNIST):
        assert not hasattr(cls, "mirror"), "nothing is downloaded"
        return
    assert re.fullmatch(r"https://[a-z0-9./-]+/", cls.mirror)
    assert sorted(archive for archive, _ in cls.archives) == sorted(archives())
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for _, md5 in cls.archives)


def test_no_other_address_is_in_the_code() -> None:
    """But loopback, and names that nobody fetches: XML, schemas, licences."""
    root = Path(__file__).resolve().parents[2]
    paths = [
        path
        for package in ("text_recognizer", "training", "tuning")
        for path in (root / package).rglob("*.py")
    ]
    plain = {
        (path.name, url)
        for path in paths
        for url in re.findall(r"\bhttp://[^\s\"'`)]*", path.read_text())
    }
    assert {
        (name, url) for name, url in plain if not url.startswith(("http://127.0.0.1", "http://{"))
    } == {("json_schema.py", "http://json-schema.org/draft-07/schema#")} & plain


@pytest.fixture
def https_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """An https server on this machine that this process trusts, and that leads all who ask to
    another.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    plain = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem.write_bytes(
        key.private_bytes(*plain) + certificate.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    target = ""

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target + self.path.lstrip("/"))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = HTTPServer(("127.0.0.1", 0), Redirect)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def leads_to(url: str) -> str:
        nonlocal target
        target = url
        return f"https://127.0.0.1:{server.server_port}/"

    yield leads_to
    server.shutdown()
    server.server_close()


def test_a_redirect_away_from_https_is_refused(
    https_mirror: Callable[[str], str], mirror: str, tmp_path: Path
) -> None:
    """Though what is there is what was asked for: the rest of the world need not see who asks."""
    url = https_mirror(mirror)
    assert answers(mirror + NAME), "it is there"
    assert not answers(url + NAME)
    with pytest.raises(OSError, match="which is not https"):
        util.download(url + NAME, tmp_path / NAME, dict(MNIST.archives)[NAME])
    assert not (tmp_path / NAME).exists()
    with pytest.raises(DataError, match="no answer from"):
        small_mnist(tmp_path, url).prepare_data()


def test_a_mirror_that_sends_without_an_end_is_left(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(util, "MAX_DOWNLOAD", 20)
    monkeypatch.setattr(util, "CHUNK", 10)
    with pytest.raises(DataError, match="after 30 bytes"):
        small_mnist(tmp_path, mirror).prepare_data()
