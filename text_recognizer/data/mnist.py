"""MNIST: 70,000 handwritten digits, read from the four canonical archives as they are."""

from __future__ import annotations

import gzip
import queue
import sys
import threading
import time
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from torch import Tensor

from text_recognizer.command import exit_code_of
from text_recognizer.data.base_data_module import BaseDataModule, DataConfig, load_and_print
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import DataError
from text_recognizer.util import checksum, download, opened

# finding out that there is no network must not cost the user more than five seconds
PROBE_TIMEOUT_S = 4.0
IDX_UINT8 = 0x08  # the type byte of an idx file


@dataclass
class Source:
    """Where archives are downloaded from, and what each is called, with its md5."""

    mirrors: Sequence[str]
    resources: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, dataset: Any, *mirrors: str) -> Source:
        """torchvision's names and sums, with our mirrors, or those of its own that are https:
        some of them are not.
        """
        return cls(
            mirrors or [url for url in dataset.mirrors if url.startswith("https://")],
            dataset.resources,
        )


class MNIST(BaseDataModule):
    """60,000 training (5,000 of them for validation) and 10,000 test images of 28x28 grey pixels.

    The archives are `<data_dir>/MNIST/raw/*.gz`; that folder may be read-only. They are downloaded
    where they are missing.
    """

    source = Source.of(torchvision.datasets.MNIST)
    config = DataConfig((1, 28, 28), tuple("0123456789"), mean=0.1307, std=0.3081)
    trainval_size = 60_000
    val_size = 5_000

    @property
    def raw_dir(self) -> Path:
        return self.data_dir / type(self).__name__ / "raw"

    def prepare_data(self) -> None:
        """Verify the archives and download those that are missing; of several processes one does it
        and the rest wait.

        Raises:
            DataError: an archive is damaged, or cannot be downloaded.
        """
        missing = self._missing()
        if not missing:
            return
        mirror = first_answering(self.source.mirrors, missing[0][0])
        if mirror is None:
            raise self._unavailable(f"no mirror answered within {PROBE_TIMEOUT_S:.0f} seconds")
        try:
            self.raw_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(self.raw_dir / ".lock"):
                self._download(mirror, self._missing())  # nothing, where another process was faster
        except (OSError, HTTPException) as error:
            raise self._unavailable(str(error) or type(error).__name__) from None

    def _missing(self) -> list[tuple[str, str]]:
        """(name, md5) of the archives that are not there. Raises `DataError` where one is there
        but damaged or unreadable.
        """
        missing = []
        for name, md5 in self.source.resources:
            path = self.raw_dir / name
            try:
                found = checksum(path, "md5") if path.exists() else None
            except OSError as error:
                raise DataError(
                    f"{path}: `a readable file` must hold, but got: {error.strerror}. Delete it "
                    "or move it."
                ) from None
            if found is None:
                missing.append((name, md5))
            elif found != md5:
                raise DataError(
                    f"{path}: `md5 == {md5}` must hold, but got {found}. Delete the file, it is "
                    "damaged."
                )
        return missing

    def _download(self, mirror: str, archives: list[tuple[str, str]]) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, disable=not sys.stderr.isatty()) as bars:
            for name, md5 in archives:
                bar = bars.add_task(name, total=None)
                download(mirror + name, self.raw_dir / name, md5, progress=partial(show, bars, bar))

    def _unavailable(self, why: str) -> DataError:
        name = type(self).__name__
        files = ", ".join(archive for archive, _ in self.source.resources)
        return DataError(
            f"{name} is not in {self.data_dir} and could not be downloaded: {why}.",
            f"Put its archives ({files}) into {self.raw_dir}, name another folder with --data-dir, "
            "or use --data-class Digits, which needs no network.",
        )

    def load_trainval(self) -> BaseDataset:
        return self._read("train")

    def load_test(self) -> BaseDataset:
        return self._read("t10k")

    def _read(self, part: str) -> BaseDataset:
        images = read_idx(self.raw_dir / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(self.raw_dir / f"{part}-labels-idx1-ubyte.gz")
        return BaseDataset(images.unsqueeze(1), labels.long())


def read_idx(path: Path) -> Tensor:
    """A gzipped idx file of unsigned bytes as a uint8 tensor of the shape its header gives.

    Raises:
        DataError: the file is missing or is not such a file.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: `a whole gzip archive` must hold, but got {error}. Delete it to have it "
            "downloaded again."
        ) from None
    rank = content[3] if len(content) >= 4 else 0
    shape = (
        np.frombuffer(content, ">u4", count=rank, offset=4).tolist()
        if len(content) >= 4 + 4 * rank
        else []
    )
    if content[:3] != bytes([0, 0, IDX_UINT8]) or len(content) != 4 + 4 * rank + int(
        np.prod(shape)
    ):
        raise DataError(
            f"{path}: `an idx file of bytes` must hold, but its header does not fit its size. "
            "Delete it, it is damaged."
        )
    return torch.from_numpy(
        np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()
    )


def show(bars: Progress, bar: TaskID, done: int, total: int) -> None:
    """Move one download's progress bar."""
    bars.update(bar, completed=done, total=total or None)


def first_answering(
    mirrors: Sequence[str], name: str, timeout_s: float = PROBE_TIMEOUT_S
) -> str | None:
    """The first of `mirrors` that has `name` and says so within `timeout_s`, or None; also where
    name look-ups hang.
    """
    answers: queue.Queue[str | None] = queue.Queue()

    def probe(mirror: str) -> None:
        try:
            with opened(urllib.request.Request(mirror + name, method="HEAD"), timeout_s):
                answers.put(mirror)
        except (OSError, HTTPException):
            answers.put(None)

    for mirror in mirrors:  # daemons: a look-up that hangs must not keep the process alive
        threading.Thread(target=probe, args=(mirror,), daemon=True).start()
    deadline = time.monotonic() + timeout_s
    for _ in mirrors:
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if answer:
            return answer
    return None


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: load_and_print(MNIST)))
