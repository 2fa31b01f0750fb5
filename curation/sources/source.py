"""The source stage as engines see it: its identity is what the config says and what the lists hold."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from curation.config import SourceSettings
from curation.fingerprint import result_settings
from curation.fragments import Fragment
from curation.sources.signature import signature
from curation.sources.stage import build_source, setting_path
from curation.stage import Solo
from curation.storage import Folder

ORDER_SEED = 0
"""Not the config's seed: another order of the shards must not mean fetching everything again."""


class Source(Solo):
    """Merges the config's lists into the run's first table."""

    name = "source"

    def __init__(self, output: Folder, sources: Sequence[SourceSettings]) -> None:
        self.sources = tuple(sources)
        identity = {
            # Not where a list lies: `content` is what it holds, and a path may have secrets.
            "sources": [{k: v for k, v in result_settings(s).items() if k != "path"} for s in self.sources],
            "content": [signature(s, setting_path(self.sources, i)) for i, s in enumerate(self.sources)],
        }
        super().__init__(output, None, identity)

    @property
    def schema(self) -> pa.Schema:
        manifest = self.manifest()
        assert manifest is not None, "a list's own columns are known once it is read"
        return self.folder.read_schema(manifest.fragments[0].name)

    def build(self) -> list[Fragment]:
        return build_source(self.sources, self.folder, seed=ORDER_SEED)
