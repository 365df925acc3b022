"""MNIST: 70,000 handwritten digits, read from the four original archives."""

import gzip
import hashlib
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
import torchvision
from filelock import FileLock, Timeout
from torch import Tensor

from text_recognizer.data.base_data_module import (
    DATA_DIR_VARIABLE,
    BaseDataModule,
    DataConfig,
    load_and_print,
)
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import DataError
from text_recognizer.text import printable, reason_of
from text_recognizer.util import checksum, download, opened

PROBE_TIMEOUT_S = 4.0  # without a network the user is told so within five seconds
LOCK_NOTE_S = 5.0  # a wait for another process's download is silent for so long
LOCK_LIMIT_S = 1800.0
IDX_UINT8 = 0x08  # the type byte of an idx file
GZIP = b"\x1f\x8b"  # how a gzip archive begins


class MNIST(BaseDataModule):
    """60,000 training (5,000 of them for validation) and 10,000 test images of 28x28 grey pixels.

    The four files are in `<data_dir>/MNIST/raw`, packed (`*.gz`) or unpacked; that folder may be
    read-only. `data_dir` may also name it, or the folder `MNIST`. Missing files are downloaded.
    """

    archives = torchvision.datasets.MNIST.resources  # (name, md5)
    contents = (  # the md5 of each, unpacked
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    )
    # Not all of torchvision's mirrors are https.
    mirror = next(url for url in torchvision.datasets.MNIST.mirrors if url.startswith("https://"))
    config = DataConfig((1, 28, 28), tuple("0123456789"), mean=0.1307, std=0.3081)
    trainval_size = 60_000
    val_size = 5_000

    @property
    def raw_dir(self) -> Path:
        """The folder of the files, which need not exist."""
        # torchvision's layout: what it has downloaded is found here. Only folders of these names
        # are one level too deep, because other data sets have files of the same names.
        name, given = type(self).__name__, self.data_dir
        usual = given / name / "raw"
        deeper = [path for path in (given / "raw", given) if path.parts[-2:] == (name, "raw")]
        return next((path for path in (usual, *deeper) if any(path.glob("*-ubyte*"))), usual)

    def prepare_data(self) -> None:
        """Verify the files and download missing ones. One process downloads, others wait.

        Raises:
            DataError: a file is damaged or cannot be downloaded, or the wait is too long.
        """
        # Lightning calls this before each training, on the node of each trial. A node that was
        # given the examples as `trainval` needs no files and must not download any.
        if "trainval" in vars(self) or not (missing := self._missing()):
            return
        try:
            if not answers(self.mirror + missing[0][0]):
                raise OSError(f"no answer from {self.mirror} in {PROBE_TIMEOUT_S:.0f} seconds")
            # The folder is made and locked only now: one that has all files may be read-only.
            self.raw_dir.mkdir(parents=True, exist_ok=True)
            with one_downloads(self.raw_dir):
                for name, md5 in self._missing():  # less, if another process was faster
                    download(self.mirror + name, self.raw_dir / name, md5)
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            files = ", ".join(name for name, _ in missing)
            raise DataError(
                f"{type(self).__name__} is not complete in {self.raw_dir}: {files} missing (packed "
                f"and unpacked), and the download failed: {reason}.",
                f"Put them there, name another folder with --data-dir or ${DATA_DIR_VARIABLE}, or "
                "use --data-class Digits, which needs no network.",
            ) from None

    def _missing(self) -> list[tuple[str, str]]:
        """(name, md5) of the archives that are missing, as is what was in them."""
        return [(name, md5) for name, md5 in self.archives if not self._find(name)]

    def _find(self, name: str) -> Path | None:
        """The first of an archive and its unpacked file that is sound; None if neither is there.

        Raises:
            DataError: what is there is damaged, or cannot be read.
        """
        archive = self.raw_dir / name
        index = [known for known, _ in self.archives].index(name)
        md5, content = self.archives[index][1], self.contents[index]
        problems = []
        unpacked = archive.with_suffix("")
        dotted = unpacked.with_name(unpacked.name.replace("-idx", ".idx"))  # Kaggle's names
        for path in (archive, unpacked, dotted):
            try:
                found = checksum(path, "md5")
                if found != md5:  # an archive that was packed again has its content still
                    with open_idx(path) as file:
                        found = hashlib.file_digest(file, "md5").hexdigest()
                if found in (md5, content):
                    return path
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, EOFError, zlib.error) as error:
                found = reason_of(error)
            problems.append(f"{path}: `md5 of the content == {content}` must hold, but got {found}")
        if problems:  # Not deleted here, because the folder may be the user's own.
            advice = "Delete it if it is damaged; it has to be readable."
            raise DataError(".\n".join(problems) + ".", advice)
        return None

    def load_trainval(self) -> BaseDataset:
        return self._read("train")

    def load_test(self) -> BaseDataset:
        return self._read("t10k")

    def _read(self, part: str) -> BaseDataset:
        names = (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
        images, labels = (read_idx(self._find(name) or self.raw_dir / name) for name in names)
        return BaseDataset(images.unsqueeze(1), labels.long())


@contextmanager
def one_downloads(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that is downloaded to.

    Raises:
        DataError: another process has held it for half an hour.
    """
    lock = FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=LOCK_NOTE_S)
        except Timeout:
            limit = f"at most {LOCK_LIMIT_S / 60:.0f} minutes"
            note = f"note: {folder}: waiting for another process's download, {limit}"
            sys.stderr.write(printable(note) + "\n")
            lock.acquire(timeout=LOCK_LIMIT_S)
    except Timeout:
        raise DataError(
            f"{folder}: another process still holds {lock.lock_file} after {LOCK_LIMIT_S / 60:.0f} "
            "minutes.",
            "See what it does, and end it if it hangs.",
        ) from None
    except (OSError, NotImplementedError):
        # The file system has no locks: processes may download the same, but each file appears
        # whole. If the folder cannot be written, the download says so.
        pass
    try:
        yield
    finally:
        lock.release()


def open_idx(path: Path) -> BufferedIOBase:
    """Open an idx file, packed or not: its first bytes tell, because names are not always right."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return gzip.open(path) if packed else path.open("rb")


def read_idx(path: Path) -> Tensor:
    """Read an idx file of bytes, packed or not, into a uint8 tensor of the shape in its header.

    The format: two zeros, a type byte, the number of dimensions, then each as a big-endian uint32,
    then the values (https://yann.lecun.com/exdb/mnist/).

    Raises:
        DataError: the file is missing or is not such a file.
    """
    try:
        with open_idx(path) as file:
            content = file.read()
        if content[:3] != bytes([0, 0, IDX_UINT8]):
            raise ValueError("not an idx file of bytes")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        values = np.frombuffer(content, np.uint8, offset=4 + shape.nbytes)
        # A copy, because the values lie in a read-only buffer.
        return torch.from_numpy(values.reshape(shape.tolist()).copy())
    # The first three are for a damaged gzip archive, the others for what is no idx file.
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        advice = "Delete it to download it again."
        raise DataError(f"{path}: not a readable idx file: {error}.", advice) from None


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
