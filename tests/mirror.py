"""A mirror of MNIST's archives on this machine: small files over real HTTP, and a mirror's faults."""

from __future__ import annotations

import gzip
import hashlib
import math
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, and most tests need none
    from text_recognizer.data.base_data_module import BaseDataModule
    from text_recognizer.data.mnist import MNIST

LIMIT_S = 60


class MirrorServer(ThreadingHTTPServer):
    """Serves a folder and records the requests. It sends nothing until `crowd` clients have asked
    whether it has the files.
    """

    daemon_threads = True
    # With the default of five the sixth client waits a second or more.
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Mirror, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.asked: list[str] = []
        self.crowd = 0
        self.changed = threading.Condition()
        self.closing = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: the tests kill clients on purpose."""

    def note(self, request: str) -> None:
        with self.changed:
            self.asked.append(request)
            self.changed.notify_all()

    def wait_for(self, holds: Callable[[list[str]], bool]) -> bool:
        """Wait until `holds(requests)`. Returns False after a minute."""
        with self.changed:
            return self.changed.wait_for(lambda: holds(self.asked), LIMIT_S)


class Mirror(SimpleHTTPRequestHandler):
    """`/short/` announces more than it sends, `/hang/` never answers."""

    server: MirrorServer

    def do_HEAD(self) -> None:
        self.server.note(f"HEAD {self.path}")
        if self.path.startswith("/hang/"):
            self.server.closing.wait()
            return
        self.path = self.path.removeprefix("/short")
        super().do_HEAD()

    def do_GET(self) -> None:
        self.server.note(f"GET {self.path}")
        self.server.wait_for(
            lambda asked: sum(request.startswith("HEAD") for request in asked) >= self.server.crowd
        )
        if not self.path.startswith("/short/"):
            return super().do_GET()
        content = Path(self.translate_path(self.path.removeprefix("/short"))).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        return None

    def log_message(self, *arguments: object) -> None:
        pass


def idx(*shape: int) -> bytes:
    """A gzipped idx file of this shape."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    return gzip.compress(header + bytes(i % 10 for i in range(math.prod(shape))), mtime=0)


def archives() -> dict[str, bytes]:
    """Twelve training and four test images of 28x28."""
    parts = {"train": 12, "t10k": 4}
    images = {f"{part}-images-idx3-ubyte.gz": idx(n, 28, 28) for part, n in parts.items()}
    return images | {f"{part}-labels-idx1-ubyte.gz": idx(n) for part, n in parts.items()}


def small_mnist(folder: Path, mirror: str = "") -> MNIST:
    """MNIST's code with another mirror and other checksums."""
    from text_recognizer.data.mnist import MNIST

    found = [(name, hashlib.md5(content).hexdigest()) for name, content in archives().items()]
    unpacked = [
        hashlib.md5(gzip.decompress(content)).hexdigest() for content in archives().values()
    ]
    own = {
        "mirror": mirror,
        "archives": found,
        "contents": unpacked,
        "trainval_size": 12,
        "val_size": 2,
    }
    cls = type("MNIST", (MNIST,), own)
    return cls(data_dir=str(folder), batch_size=5)


def digest(data: BaseDataModule) -> str:
    """The checksum of everything that a data set reads."""
    parts = (data.load_trainval(), data.load_test())
    return hashlib.sha256(
        b"".join(part.images.numpy().tobytes() + part.labels.numpy().tobytes() for part in parts)
    ).hexdigest()
