"""A folder of tars as others pack them: odd sizes, an EXIF turn, members that must never be executed."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

from PIL import Image

from curation.stream.foreign import index_tars
from tests.pack.make_bank import encoded, pixels


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._path,)


def foreign_corpus(folder: Path, count: int = 20, broken: int = 0, trap: Path | None = None) -> Path:
    """`tars`, indexed for 64 pixels."""
    tars(folder, count, broken, trap)
    index_tars(str(folder), 64)
    return folder


def tars(folder: Path, count: int = 20, broken: int = 0, trap: Path | None = None) -> None:
    """`count` samples in two tars, the first `broken` of them with half an image."""
    for part in range(2):
        with tarfile.open(folder / f"part-{part}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for i in range(part, count, 2):
                image = encoded(pixels(i, (150 + i, 100)))
                if i < broken:
                    image = image[: len(image) // 2]
                add(tar, f"sample-{i:03d}.jpg", image)
                add(tar, f"sample-{i:03d}.txt", f"caption {i}".encode())
                if trap is not None:
                    for extension in ("pkl", "pyd", "pth", "npy"):
                        add(tar, f"sample-{i:03d}.{extension}", pickle.dumps(Trap(trap)))


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def turned(image: Image.Image) -> bytes:
    """A JPEG that EXIF says to turn clockwise by 90°."""
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()
