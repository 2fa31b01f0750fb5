"""img2dataset output folders (`output_format="webdataset"`) as a source: tars, and beside each a Parquet file.

Parquet has a row a URL. Rows that img2dataset downloaded hold their image's place in the tar. Rows that it failed to
download have no image and stay URLs, which fetch tries once more; `where: status = 'success'` leaves them out. A row
whose image should be there and is not (a tar cut short, or gone) fails as `source_image_unreadable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from curation.config import SourceSettings
from curation.errors import SourceError
from curation.row import Reason
from curation.sources.files import READ_ERRORS, SourceFile, find_files
from curation.sources.parquet import ParquetScan
from curation.sources.query import OWN, PLACE, SAMPLE, Query
from curation.sources.scratch import Scratch
from curation.sources.tar_index import Damage, Member, samples, scan
from curation.sources.webdataset import open_tar
from curation.sql import identifier

_FILE, _KEY, _STATUS = OWN + "file", OWN + "key", OWN + "status"
_OWN = {_FILE: identifier(_FILE), _KEY: "CAST(key AS VARCHAR)", _STATUS: "CAST(status AS VARCHAR)"}


def open_img2dataset(settings: SourceSettings, setting: str, scratch: Scratch) -> Img2datasetOutput:
    """The folder. Raises ConfigError for a wrong setting, SourceError for files of another kind."""
    files = find_files(settings.path, settings.kind, setting)
    names = _columns(files)
    if not {"key", "status"} <= set(names):
        raise SourceError(f"{files[0].url} is not of img2dataset: it has no columns `key` and `status`")
    if settings.columns.alt_text is None and "caption" in names:
        columns = settings.columns.model_copy(update={"alt_text": "caption"})
        settings = settings.model_copy(update={"columns": columns})
    scan = ParquetScan.of(files, scratch)
    item = scan.sql(f", filename = '{_FILE}'")
    return Img2datasetOutput(scan, Query(scratch, item, settings, setting, own=_OWN, explain_fault=scan.blame))


def _columns(files: list[SourceFile]) -> list[str]:
    try:
        with files[0].open() as file:
            return list(pq.read_schema(file).names)
    except (pa.ArrowException, *READ_ERRORS) as error:
        raise SourceError(f"{files[0].url} is not readable as Parquet: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class _Shard:
    """Images of a tar by key, and what is wrong with it."""

    name: str
    path: str | None
    images: dict[str, Member]
    problem: str


class Img2datasetOutput:
    """The opened folder, a `UrlList`."""

    def __init__(self, parquets: ParquetScan, query: Query) -> None:
        self._files = parquets.files
        self._query = query
        self.keep = query.keep

    def batches(self) -> Iterator[pa.Table]:
        shard_url = ""
        shard = _Shard("", None, {}, "")
        for batch in self._query.batches():
            rows = []
            for url, key, status in zip(*(batch[n].to_pylist() for n in _OWN), strict=True):
                if url != shard_url:
                    shard_url, shard = url, _open_shard(self._files[url])
                rows.append(_row(shard, key or "", status == "success"))
            columns = zip(*rows, strict=True)
            batch = batch.drop_columns(list(_OWN))
            for field, values in zip(_FIELDS, columns, strict=True):
                batch = batch.append_column(field, pa.array(values, field.type))
            yield batch


_FIELDS = (
    pa.field("held_path", pa.string()),
    pa.field("held_offset", pa.int64()),
    pa.field("held_length", pa.int64()),
    pa.field(SAMPLE, pa.string()),
    pa.field(PLACE, pa.string()),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
)


def _row(shard: _Shard, key: str, success: bool) -> tuple[object, ...]:
    """Values of `_FIELDS`."""
    place = f"{shard.name}:{key}"
    if not success:
        return None, None, None, None, place, None, None
    image = shard.images.get(key)
    sample = f"{shard.name.removesuffix('.tar')}/{key}"
    if image is None:
        detail = f"{place}: {shard.problem or 'the tar has no image of this key'}"
        return None, None, None, sample, place, Reason.SOURCE_IMAGE_UNREADABLE.value, detail
    return shard.path, image.offset, image.size, sample, place, None, None


def _open_shard(parquet: SourceFile) -> _Shard:
    file = parquet.sibling(".tar")
    try:
        size = int(file.fs.info(file.path)["size"])
    except FileNotFoundError:
        return _Shard(file.name, None, {}, "the tar is not there")
    images: dict[str, Member] = {}
    problems = []
    with open_tar(file) as tar:
        for item in samples(scan(tar, size)):
            if isinstance(item, Damage):
                problems.append(item.problem)
            elif item.image is not None:
                images.setdefault(item.key, item.image)
    return _Shard(file.name, file.url, images, "; ".join(problems))
