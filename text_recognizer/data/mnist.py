"""MNIST: 70,000 handwritten digits, read from the four original archives."""

import gzip
import threading
import zlib
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torchvision
from filelock import FileLock
from torch import Tensor

from text_recognizer.data.base_data_module import BaseDataModule, DataConfig, load_and_print
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import DataError
from text_recognizer.util import checksum, download, opened

PROBE_TIMEOUT_S = 4.0  # without a network the user is told so within five seconds
IDX_UINT8 = 0x08  # the type byte of an idx file


class MNIST(BaseDataModule):
    """60,000 training (5,000 of them for validation) and 10,000 test images of 28x28 grey pixels.

    The archives are `<data_dir>/MNIST/raw/*.gz`; that folder may be read-only. Missing archives are
    downloaded.
    """

    archives = torchvision.datasets.MNIST.resources  # (name, md5)
    # Not all of torchvision's mirrors are https.
    mirror = next(url for url in torchvision.datasets.MNIST.mirrors if url.startswith("https://"))
    config = DataConfig((1, 28, 28), tuple("0123456789"), mean=0.1307, std=0.3081)
    trainval_size = 60_000
    val_size = 5_000

    @property
    def raw_dir(self) -> Path:
        # torchvision's layout: archives that it has downloaded are found here.
        return self.data_dir / type(self).__name__ / "raw"

    def prepare_data(self) -> None:
        """Verify the archives and download missing ones. One process downloads, others wait.

        Raises:
            DataError: an archive is damaged, or cannot be downloaded.
        """
        # Lightning calls this before each training, on the node of each trial. A node that was
        # given the examples as `trainval` needs no archives and must not download any.
        if "trainval" in vars(self):
            return
        try:
            missing = self._missing()
            if not missing:
                return
            if not answers(self.mirror + missing[0][0]):
                raise OSError(f"no answer from {self.mirror} in {PROBE_TIMEOUT_S:.0f} seconds")
            # The folder is made and locked only now: one that has all archives may be read-only.
            self.raw_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(self.raw_dir / ".lock"):
                for name, md5 in self._missing():  # less, if another process was faster
                    download(self.mirror + name, self.raw_dir / name, md5)
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            files = ", ".join(archive for archive, _ in self.archives)
            raise DataError(
                f"{type(self).__name__} is not in {self.data_dir} and could not be downloaded: "
                f"{reason}.",
                f"Put its archives ({files}) into {self.raw_dir}, name another folder with "
                "--data-dir, or use --data-class Digits, which needs no network.",
            ) from None

    def _missing(self) -> list[tuple[str, str]]:
        """(name, md5) of the missing archives. Raises `DataError` for a damaged one."""
        missing = []
        for name, md5 in self.archives:
            path = self.raw_dir / name
            if not path.exists():
                missing.append((name, md5))
                continue
            # Not deleted here, because the folder may be the user's own.
            found = checksum(path, "md5") if path.is_file() else "a folder"
            if found != md5:
                rule = f"`md5 == {md5}` must hold, but got {found}"
                raise DataError(f"{path}: {rule}.", "Delete it, it is damaged.")
        return missing

    def load_trainval(self) -> BaseDataset:
        return self._read("train")

    def load_test(self) -> BaseDataset:
        return self._read("t10k")

    def _read(self, part: str) -> BaseDataset:
        images = read_idx(self.raw_dir / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(self.raw_dir / f"{part}-labels-idx1-ubyte.gz")
        return BaseDataset(images.unsqueeze(1), labels.long())


def read_idx(path: Path) -> Tensor:
    """Read a gzipped idx file of bytes into a uint8 tensor of the shape in its header.

    The format: two zeros, a type byte, the number of dimensions, then each as a big-endian uint32,
    then the values (https://yann.lecun.com/exdb/mnist/).

    Raises:
        DataError: the file is missing or is not such a file.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        if content[:3] != bytes([0, 0, IDX_UINT8]):
            raise ValueError("not an idx file of bytes")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        values = np.frombuffer(content, np.uint8, offset=4 + shape.nbytes)
        # A copy, because the values lie in a read-only buffer.
        return torch.from_numpy(values.reshape(shape.tolist()).copy())
    # The first three are for what is no gzip archive, the others for what is no idx file.
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        advice = "Delete it to download it again."
        raise DataError(f"{path}: not a readable idx archive: {error}.", advice) from None


def answers(url: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether a file can be downloaded. Gives up after `timeout_s` seconds."""
    found = threading.Event()

    def probe() -> None:
        with suppress(OSError, HTTPException), opened(url, timeout_s, "HEAD"):
            found.set()

    # A request's timeout does not cover the look-up of the name. The thread is a daemon, so that a
    # hanging look-up does not keep the process alive.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return found.is_set()


if __name__ == "__main__":
    load_and_print(MNIST)
