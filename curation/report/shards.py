"""The packed corpus as the report sees it: what it holds, and single samples out of its shards."""

from __future__ import annotations

from curation.report.facts import CorpusFacts
from curation.report.tables import StageTable, Tables


class Shards:
    """The shards of a pack stage."""

    def __init__(self, tables: Tables, pack: StageTable) -> None:
        self._tables = tables
        self._pack = pack

    def facts(self) -> CorpusFacts:
        """Shards, samples, bytes, and samples by bucket."""
        view = self._pack.view
        sizes = self._pack.folder.child("shards").sizes()
        tars = {name: size for name, size in sizes.items() if name.endswith(".tar")}
        buckets = []
        for bucket, n in self._tables.query(
            f"SELECT bucket, count(*) FROM {view} WHERE outcome = 'kept' AND bucket IS NOT NULL GROUP BY bucket"
        ):
            width, _, height = bucket.partition("x")
            buckets.append((int(width), int(height), n))
        buckets.sort(key=lambda b: (b[0] / b[1], b[0]))
        return CorpusFacts(self._pack.counts.kept, len(tars), sum(tars.values()), tuple(buckets))

    def read(self, uids: list[str]) -> dict[str, tuple[bytes | None, str | None]]:
        return {}
