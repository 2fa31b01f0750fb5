"""Lists that are Hugging Face datasets: a name on the hub or a local folder, streamed through `datasets`.

Nothing of the dataset is executed: `datasets` no longer runs loading scripts, and none is asked for. Images inside a
dataset are not read; a dataset that holds images and no addresses is refused, with the way out named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from curation.config import SourceSettings
from curation.errors import ConfigError, SourceError
from curation.sources.columns import check_columns, columns_in, wanted_with_where
from curation.sources.query import Query
from curation.sources.scratch import Scratch
from curation.text import one_line, without_secrets

BATCH_ROWS = 10_000


def open_hf(settings: SourceSettings, setting: str, scratch: Scratch) -> HfList:
    """The dataset. Raises ConfigError for a wrong setting, SourceError where the dataset cannot be reached or read."""
    names = columns_in(settings.where, scratch, setting)
    data = _load(settings, setting)
    features = data.features
    schema = features.arrow_schema if features is not None else _peek(data, settings)
    there = list(schema.names)
    images = [name for name, kind in (features or {}).items() if type(kind).__name__ == "Image"]
    if settings.columns.url not in there and images:
        raise ConfigError(
            f"{setting}.columns.url",
            f"no column {settings.columns.url!r}: this dataset holds the images themselves, in {images[0]!r}; "
            "write them as WebDataset tars and use `kind: webdataset`",
        )
    check_columns(settings.columns, there, setting)
    wanted = wanted_with_where(settings.columns, set(there) - set(images) if names is None else names, there)
    return HfList(data.select_columns(wanted), pa.schema([schema.field(n) for n in wanted]), settings, setting, scratch)


class HfList:
    """The opened dataset, a `UrlList`."""

    def __init__(self, data: Any, schema: pa.Schema, settings: SourceSettings, setting: str, scratch: Scratch) -> None:
        self._data = data
        self._schema = schema
        self._settings = settings
        self._scan = scratch.new_name("hf")
        self._cursor = scratch.cursor()
        self._cursor.register(self._scan, schema.empty_table())
        self._query = Query(scratch, self._scan, settings, setting, cursor=self._cursor)
        self.keep = self._query.keep

    def batches(self) -> Iterator[pa.Table]:
        left = self._settings.limit
        for batch in self._streamed():
            self._cursor.register(self._scan, batch)
            for rows in self._query.read():
                if left is None:
                    yield rows
                    continue
                yield rows.slice(0, left)
                left -= min(left, rows.num_rows)
                if left == 0:
                    return

    def _streamed(self) -> Iterator[pa.Table]:
        batches = self._data.with_format("arrow").iter(batch_size=BATCH_ROWS)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                rows = pa.table(batch).select(self._schema.names).cast(self._schema)
            except _data_faults() as error:
                raise _unreadable(self._settings, error) from error
            yield rows


def _load(settings: SourceSettings, setting: str) -> Any:
    """A `datasets.IterableDataset`."""
    import datasets

    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    path = os.path.expanduser(settings.path).removeprefix("hf://datasets/")
    try:
        if os.path.exists(os.path.join(path, "state.json")) or os.path.exists(os.path.join(path, "dataset_dict.json")):
            return _saved_to_disk(path, settings, setting)
        _check_card(path, settings, setting)
        builder = datasets.load_dataset_builder(path, name=settings.hf_config, revision=settings.revision)
        _check_files(builder, path, setting)
        return builder.as_streaming_dataset(split=settings.split)
    except FileNotFoundError as error:  # among them datasets' own DatasetNotFoundError and EmptyDatasetError
        raise ConfigError(f"{setting}.path", one_line(error)) from None
    except ConnectionError as error:
        raise SourceError(f"source {settings.name}: {one_line(error)}") from error
    except (ValueError, RuntimeError, TypeError, AttributeError, yaml.YAMLError) as error:  # a card may hold anything
        message = one_line(error)
        wrong = "split" if "split" in message.lower() else "hf_config" if "onfig" in message else "path"
        raise ConfigError(f"{setting}.{wrong}", message) from None
    finally:
        if bars:
            datasets.enable_progress_bars()


def _check_card(path: str, settings: SourceSettings, setting: str) -> None:
    """Refuse a dataset that names files elsewhere, before `datasets` asks for them: they may be this machine's,
    or those of a server that only this machine reaches. Raises ConfigError."""
    for given in (_card(path, settings), _beside_card(path, settings)):
        configs = given.get("configs")
        for config in configs if isinstance(configs, list) else ():
            for pattern in _patterns(config.get("data_files") if isinstance(config, dict) else None):
                if "://" in pattern or os.path.isabs(pattern) or ".." in pattern.split("/"):
                    told = f"it wants {pattern!r} read, which is no file of the dataset"
                    raise ConfigError(f"{setting}.path", told)


def _card(path: str, settings: SourceSettings) -> dict[str, Any]:
    from huggingface_hub import DatasetCard

    text = _text_of(path, "README.md", settings)
    try:
        found: dict[str, Any] = DatasetCard(text or "", ignore_metadata_errors=True).data.to_dict()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, yaml.YAMLError):  # `datasets` says better what is wrong with it
        return {}
    return found


def _beside_card(path: str, settings: SourceSettings) -> dict[str, Any]:
    """What `datasets` puts over the card."""
    try:
        found = yaml.safe_load(_text_of(path, ".huggingface.yaml", settings) or "")
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _text_of(path: str, name: str, settings: SourceSettings) -> str | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        if os.path.isdir(path):
            file = os.path.join(path, name)
        else:
            file = hf_hub_download(path, name, repo_type="dataset", revision=settings.revision)
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError, EntryNotFoundError):  # none, none such, offline: `datasets` says so better
        return None


def _patterns(value: Any) -> Iterator[str]:
    """Paths in a card's `data_files`: text, lists of it, and objects with a `path`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _patterns(value.get("path", list(value.values())))
    elif isinstance(value, list):
        for inner in value:
            yield from _patterns(inner)


def _check_files(builder: Any, path: str, setting: str) -> None:
    """Refuse files outside of the dataset, whatever named them. Raises ConfigError."""
    # What a link in a folder leads to is the business of whoever made the folder: the hub's cache is full of them.
    inside = os.path.realpath(path) + os.sep if os.path.isdir(path) else f"hf://datasets/{path}@"
    for files in (builder.config.data_files or {}).values():
        for file in map(str, files):
            if not (file if "://" in file else os.path.abspath(file)).startswith(inside):
                raise ConfigError(f"{setting}.path", f"{file!r} is no file of the dataset")


def _saved_to_disk(path: str, settings: SourceSettings, setting: str) -> Any:
    """A folder that `save_to_disk` wrote, which `load_dataset` refuses."""
    import datasets

    data = datasets.load_from_disk(path)
    if isinstance(data, datasets.DatasetDict):
        if settings.split not in data:
            raise ConfigError(f"{setting}.split", f"no split {settings.split!r}; there are: {', '.join(data)}")
        data = data[settings.split]
    return data.to_iterable_dataset()


def _peek(data: Any, settings: SourceSettings) -> pa.Schema:
    """Column types of a dataset that does not know them before it is read: those of its first rows."""
    try:
        first = next(data.with_format("arrow").iter(batch_size=BATCH_ROWS), None)
    except _data_faults() as error:
        raise _unreadable(settings, error) from error
    if first is None:
        raise SourceError(f"source {settings.name} ({without_secrets(settings.path)}): no rows")
    return pa.table(first).schema


def _data_faults() -> tuple[type[Exception], ...]:
    """What `datasets` raises on damaged or changing files (its own errors descend from these or from DatasetsError)."""
    from datasets.exceptions import DatasetsError

    return (OSError, ValueError, KeyError, pa.ArrowException, DatasetsError)


def _unreadable(settings: SourceSettings, error: Exception) -> SourceError:
    return SourceError(f"source {settings.name} ({without_secrets(settings.path)}) is not readable: {one_line(error)}")
