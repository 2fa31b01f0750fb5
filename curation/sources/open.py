"""Which reader opens which kind of source. Called by `stage.build_source`."""

from __future__ import annotations

from collections.abc import Callable

from curation.config import SourceSettings
from curation.sources.delimited import open_delimited
from curation.sources.hf import open_hf
from curation.sources.img2dataset import open_img2dataset
from curation.sources.jsonl import open_jsonl
from curation.sources.parquet import open_parquet
from curation.sources.query import UrlList
from curation.sources.scratch import Scratch
from curation.sources.txt import open_txt
from curation.sources.webdataset import open_webdataset

_OPENERS: dict[str, Callable[[SourceSettings, str, Scratch], UrlList]] = {
    "parquet": open_parquet,
    "csv": open_delimited,
    "tsv": open_delimited,
    "jsonl": open_jsonl,
    "txt": open_txt,
    "hf": open_hf,
    "webdataset": open_webdataset,
    "img2dataset": open_img2dataset,
}


def open_list(settings: SourceSettings, setting: str, scratch: Scratch) -> UrlList:
    """Open the source at `setting` ("source", "source.1"): check its settings, stage its text.

    Raises ConfigError with the dotted path of a wrong setting, and SourceError for a list that cannot be read.
    """
    return _OPENERS[settings.kind](settings, setting, scratch)
