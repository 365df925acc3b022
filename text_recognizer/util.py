"""Small tools: downloads, pictures."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import wrap_file

from text_recognizer.atomic import atomic_path, checksum
from text_recognizer.errors import DataError, InputError

if TYPE_CHECKING:
    from torch import Tensor

READ_TIMEOUT_S = 30
CHUNK = 1 << 20
MAX_DOWNLOAD = 1 << 30  # bytes, 40 times the largest archive; a mirror must not fill the disk


@contextmanager
def opened(url: str, timeout_s: float, method: str = "GET") -> Iterator[HTTPResponse]:
    """Open a URL. Raises `OSError`, also if a redirect leads from https to http."""
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        if urlsplit(url).scheme == "https" != urlsplit(response.url).scheme:
            raise OSError(f"{url} leads to {response.url}, which is not https")
        yield response


def download(url: str, path: Path, md5: str) -> None:
    """Download `url` to `path`, with a progress bar on a terminal.

    The file appears under `path` when it is whole and its checksum is right.

    Raises:
        DataError: the content does not match `md5`.
        OSError: the network or the disk failed.
    """
    with opened(url, READ_TIMEOUT_S) as response, atomic_path(path) as temporary:
        size = int(response.headers.get("Content-Length") or 0)
        console = Console(stderr=True)
        bar = wrap_file(
            response, size, description=path.name, console=console, disable=not console.is_terminal
        )
        with bar as source, temporary.open("wb") as file:
            # The header may promise any size, so the bytes are counted.
            while file.tell() <= MAX_DOWNLOAD and (chunk := source.read(CHUNK)):
                file.write(chunk)
        # The authors of the data publish md5 sums and no others.
        found = checksum(temporary, "md5")
        if found != md5:
            raise DataError(
                f"{url}: `md5 == {md5}` must hold, but got {found} after "
                f"{temporary.stat().st_size} bytes. Try again later."
            )


def read_image(path: Path, size: tuple[int, int], *, grey: bool = True) -> Tensor:
    """Read a picture as a uint8 tensor with light strokes on a dark ground.

    A picture with a light border (ink on paper) is inverted.

    Args:
        path: a file in any format that Pillow reads.
        size: (height, width) to resize it to, in pixels.
        grey: whether to return one channel, or else three: (channels, height, width).

    Raises:
        InputError: there is no such file, or it is not a picture.
    """
    from torch import from_numpy  # imported here: it takes seconds

    try:
        with Image.open(path) as file:
            picture = opaque(file).convert("L" if grey else "RGB")
            picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable picture: {error}. Give a PNG or JPEG.") from None
    pixels = np.array(picture, dtype=np.uint8)
    # The networks were trained on light strokes. A picture's border shows its ground.
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    if np.median(np.concatenate(edges)) > 127:
        pixels = 255 - pixels
    return from_numpy(pixels[None] if grey else pixels.transpose(2, 0, 1).copy())


def opaque(image: Image.Image) -> Image.Image:
    """Put a transparent picture on white paper, and reduce one with 16 bits to 8."""
    if image.has_transparency_data:
        ink = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", ink.size, "white"), ink)
    if image.mode.startswith("I"):  # Pillow itself would clip values above 255 instead
        return Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    return image
