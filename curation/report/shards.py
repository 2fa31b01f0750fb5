"""The packed corpus as the report sees it: what it holds, and single samples out of its shards."""

from __future__ import annotations

from dataclasses import dataclass

from crc32c import crc32c

from curation.errors import StorageError
from curation.pack.shard import shard_path
from curation.report.facts import CorpusFacts
from curation.report.tables import StageTable, Tables
from curation.row import PACKED


@dataclass(frozen=True)
class Packed:
    """What a shard holds of a row; None for a member that is gone or damaged."""

    image: bytes | None
    caption: str | None


class Shards:
    """The shards of a pack stage, finished or not: those whose rows are committed."""

    def __init__(self, tables: Tables, pack: StageTable) -> None:
        self._tables = tables
        self._pack = pack

    def facts(self) -> CorpusFacts:
        """Shards, samples, bytes, and samples by bucket."""
        view = self._pack.view
        ((shards, size),) = self._tables.query(
            "SELECT count(*), coalesce(sum(bytes), 0)::BIGINT FROM ("
            f"SELECT shard, max({PACKED.name}.tar_bytes) AS bytes FROM {view} WHERE outcome = 'kept' GROUP BY shard)"
        )
        buckets = []
        for bucket, n in self._tables.query(
            f"SELECT bucket, count(*) FROM {view} WHERE outcome = 'kept' AND bucket IS NOT NULL GROUP BY bucket"
        ):
            width, _, height = bucket.partition("x")
            buckets.append((int(width), int(height), n))
        buckets.sort(key=lambda b: (b[0] / b[1], b[0]))
        return CorpusFacts(self._pack.counts.kept, shards, size, tuple(buckets))

    def read(self, uids: list[str]) -> dict[str, Packed]:
        """Image and primary caption of some samples, straight from their places in the shards."""
        members = ", ".join(
            f"{PACKED.name}.{member}_{what}" for member in ("image", "txt") for what in ("offset", "length", "crc32c")
        )
        rows = self._tables.query(
            f"SELECT uid, shard, {members} FROM {self._pack.view} "
            "WHERE outcome = 'kept' AND uid IN (SELECT unnest(?::VARCHAR[]))",
            [uids],
        )
        found = {}
        for uid, shard, *places in rows:
            image, text = self._member(shard, *places[:3]), self._member(shard, *places[3:])
            found[uid] = Packed(image, None if text is None else text.decode("utf-8", "replace"))
        return found

    def _member(self, shard: str, offset: int, length: int, expected: int) -> bytes | None:
        try:
            data = self._pack.folder.read_range(shard_path(shard), offset, length)
        except StorageError:
            return None  # the tile says that there is no picture; `curate fsck` says why
        return data if len(data) == length and crc32c(data) == expected else None
