"""Small tools of the recogniser: checksums, downloads, pictures, one-hot vectors."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, UnidentifiedImageError

from text_recognizer.atomic import atomic_write
from text_recognizer.errors import DataError, InputError, Problem

if TYPE_CHECKING:  # torch takes seconds to import, and most of this file needs none
    from torch import Tensor

READ_TIMEOUT_S = 30
CHUNK = 1 << 20
MAX_DOWNLOAD = 1 << 30  # bytes, forty times the largest archive; a mirror must not fill the disk


def checksum(path: Path, algorithm: Literal["sha256", "md5"] = "sha256") -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def opened(request: str | urllib.request.Request, timeout_s: float) -> Iterator[HTTPResponse]:
    """The answer to a request. Raises `OSError`, also where a redirect led from https to
    something less.
    """
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        asked = request if isinstance(request, str) else request.full_url
        schemes = [urlsplit(url).scheme for url in (asked, response.url)]
        if schemes[0] == "https" != schemes[1]:
            raise OSError(f"{asked} leads to {response.url}, which is not https")
        yield response


def download(
    url: str, path: Path, md5: str, *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Fetch `url`; it stands under `path` only once it is whole and its md5 is right.

    Args:
        progress: called with (bytes so far, bytes in all or 0 where unknown).

    Raises:
        DataError: the content does not match `md5`.
        OSError: the network or the disk failed.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with opened(url, READ_TIMEOUT_S) as response, atomic_write(path) as file:
        total, done = int(response.headers.get("Content-Length") or 0), 0
        while done <= MAX_DOWNLOAD and (chunk := response.read(CHUNK)):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
        if digest.hexdigest() != md5:
            raise DataError(
                f"{url}: `md5 == {md5}` must hold, but got {digest.hexdigest()} after {done} "
                "bytes. Try again later."
            )


def read_image(path: Path, size: tuple[int, int], *, grey: bool = True) -> Tensor:
    """A picture as a uint8 tensor of shape (channels, height, width), light strokes on dark as the
    networks know them.

    A picture with a light border (ink on paper) is inverted.

    Raises:
        InputError: there is no such file, or it is not a picture.
    """
    from torch import from_numpy

    try:
        with Image.open(path) as image:
            resized = (
                opaque(image)
                .convert("L" if grey else "RGB")
                .resize((size[1], size[0]), Image.Resampling.BILINEAR)
            )
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(
            Problem(str(path), "a readable picture", str(error), "Give a PNG or JPEG file.")
        ) from None
    pixels = np.array(resized, dtype=np.uint8)
    pixels = pixels[None] if grey else pixels.transpose(2, 0, 1)
    border = np.concatenate(
        [
            pixels[:, 0].ravel(),
            pixels[:, -1].ravel(),
            pixels[:, :, 0].ravel(),
            pixels[:, :, -1].ravel(),
        ]
    )
    return from_numpy(255 - pixels if np.median(border) > 127 else pixels)


def opaque(image: Image.Image) -> Image.Image:
    """The picture on white paper where it is transparent, and in eight bits where it has more."""
    if image.has_transparency_data:
        ink = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", ink.size, "white"), ink)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        scale = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1e-9)
        return Image.fromarray((values * (255 / scale)).clip(0, 255).astype(np.uint8))
    return image


def to_categorical(labels: Tensor, num_classes: int) -> Tensor:
    """One-hot: (n,) int64 class numbers in [0, num_classes) to (n, num_classes) int64 with a
    single 1 a row.
    """
    return labels.new_zeros(len(labels), num_classes).scatter_(1, labels.unsqueeze(1), 1)
