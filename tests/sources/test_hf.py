"""Hugging Face datasets from local folders, streamed by the real library."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import ConfigError, SourceError
from tests.sources.built import build, by_url, reasons

datasets = pytest.importorskip("datasets")


def urls(start: int, end: int) -> list[str]:
    return [f"http://h{i}.example/{i}" for i in range(start, end)]


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "set"
    path.mkdir()
    for split, start, end in (("train-0", 0, 6), ("train-1", 6, 10), ("test", 10, 12)):
        table = {"url": urls(start, end), "TEXT": [str(i) for i in range(start, end)], "n": range(start, end)}
        pq.write_table(pa.table({**table, "heavy": [b"x" * 1000] * (end - start)}), path / f"{split}.parquet")
    return {"kind": "hf", "path": str(path)}


def test_local_folder(tmp_path: Path, folder: dict[str, Any]) -> None:
    table = build(tmp_path / "out", {**folder, "columns": {"alt_text": "TEXT", "keep": ["n"]}})
    assert {u: (r["alt_text"], r["n"]) for u, r in by_url(table).items()} == {
        url: (str(i), i) for i, url in enumerate(urls(0, 10))
    }
    assert sorted(by_url(build(tmp_path / "test", {**folder, "split": "test"}))) == urls(10, 12)


def test_where_and_limit(tmp_path: Path, folder: dict[str, Any]) -> None:
    table = build(tmp_path / "out", {**folder, "where": "n >= 3 AND TEXT <> '4'", "limit": 4})
    assert sorted(by_url(table)) == sorted([*urls(3, 4), *urls(5, 8)])


def test_only_wanted_columns_are_asked_for(tmp_path: Path, folder: dict[str, Any], monkeypatch: Any) -> None:
    asked: list[list[str]] = []
    select = datasets.IterableDataset.select_columns

    def noting(self: Any, columns: list[str]) -> Any:
        asked.append(columns)
        return select(self, columns)

    monkeypatch.setattr(datasets.IterableDataset, "select_columns", noting)
    build(tmp_path / "out", {**folder, "where": "N > 3", "columns": {"alt_text": "TEXT"}})
    assert asked == [["url", "TEXT", "n"]]


def test_saved_to_disk(tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"url": urls(0, 4), "n": list(range(4))})
    data.save_to_disk(str(tmp_path / "one"))
    assert sorted(by_url(build(tmp_path / "a", {"kind": "hf", "path": str(tmp_path / "one")}))) == urls(0, 4)
    datasets.DatasetDict({"train": data, "dev": data.select([1])}).save_to_disk(str(tmp_path / "two"))
    settings = {"kind": "hf", "path": str(tmp_path / "two")}
    assert sorted(by_url(build(tmp_path / "b", {**settings, "split": "dev"}))) == urls(1, 2)
    with pytest.raises(ConfigError, match=r"source\.split: no split 'test'; there are: train, dev"):
        build(tmp_path / "c", {**settings, "split": "test"})


def test_columns_of_mixed_type(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()
    lines = [json.dumps({"url": url, "mixed": i if i % 2 else str(i)}) for i, url in enumerate(urls(0, 6))]
    (path / "a.jsonl").write_text("\n".join(lines))
    table = build(tmp_path / "out", {"kind": "hf", "path": str(path), "columns": {"keep": ["mixed"]}})
    assert {r["mixed"] for r in by_url(table).values()} == set("012345")


def test_images_inside_a_dataset_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()
    data = datasets.Dataset.from_dict({"image": [{"bytes": b"\xff\xd8", "path": None}], "text": ["t"]})
    data.cast_column("image", datasets.Image()).to_parquet(str(path / "train.parquet"))
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "out", {"kind": "hf", "path": str(path)})
    assert caught.value.path == "source.columns.url"
    assert "holds the images themselves, in 'image'" in caught.value.problem
    assert "kind: webdataset" in caught.value.problem


def test_images_beside_addresses_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()
    data = datasets.Dataset.from_dict({"image": [{"bytes": b"no image", "path": None}], "url": urls(0, 1)})
    data.cast_column("image", datasets.Image()).to_parquet(str(path / "train.parquet"))
    assert reasons(build(tmp_path / "out", {"kind": "hf", "path": str(path), "where": "true"})) == {None: 1}


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ({"columns": {"url": "URL"}}, "source.columns.url", "did you mean 'url'?"),
        ({"columns": {"keep": ["N"]}}, "source.columns.keep", "did you mean 'n'?"),
        ({"split": "dev"}, "source.split", "Available splits"),
        ({"hf_config": "small"}, "source.hf_config", "not found. Available: ['default']"),
        ({"where": "m > 3"}, "source.where", 'Referenced column "m" not found'),
        ({"where": "n >"}, "source.where", "syntax error"),
        ({"path": "/nowhere/set"}, "source.path", "Couldn't find any data file at /nowhere/set"),
    ],
)
def test_wrong_settings(tmp_path: Path, folder: dict[str, Any], change: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "out", {**folder, **change})
    assert caught.value.path == path
    assert said in caught.value.problem
    assert "\n" not in str(caught.value)


def test_code_in_a_dataset_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()
    (path / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(ConfigError, match=r"source\.path: Dataset scripts are no longer supported"):
        build(tmp_path / "out", {"kind": "hf", "path": str(path)})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "named", ["{outside}", "../secret.csv", "http://127.0.0.1:{port}/x.csv", "hf://datasets/a/b/x.csv"]
)
@pytest.mark.parametrize("by", ["README.md", ".huggingface.yaml"])
def test_a_card_names_files_of_the_dataset_alone(tmp_path: Path, named: str, by: str) -> None:
    """Others are not so much as asked for."""
    (tmp_path / "secret.csv").write_text("url,TEXT\nhttp://a/1,secret\n")
    path = tmp_path / "set"
    path.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        file = named.format(outside=tmp_path / "secret.csv", port=server.getsockname()[1])
        split = [{"split": "train", "path": file}]
        card = {"configs": [{"config_name": "default", "data_files": split}]}
        (path / by).write_text(f"---\n{json.dumps(card)}\n---\n" if by == "README.md" else json.dumps(card))
        with pytest.raises(ConfigError, match=r"source\.path: .* is no file of the dataset"):
            build(tmp_path / "out", {"kind": "hf", "path": str(path)})
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("text", ["---\nconfigs: 5\n---\n", "---\na: [b\n---\n", "---\nconfigs:\n- 3\n---\n"])
def test_a_damaged_card_is_a_clear_error(tmp_path: Path, folder: dict[str, Any], text: str) -> None:
    (Path(folder["path"]) / "README.md").write_text(text)
    with pytest.raises(ConfigError, match=r"source\."):
        build(tmp_path / "out", folder)


def test_links_are_followed_as_in_the_hubs_cache(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("url,TEXT\nhttp://a/1,text\n")
    path = tmp_path / "snapshot"
    path.mkdir()
    (path / "train.csv").symlink_to(tmp_path / "blob")
    assert list(by_url(build(tmp_path / "out", {"kind": "hf", "path": str(path)}))) == ["http://a/1"]


def test_a_card_of_ones_own_files_is_followed(tmp_path: Path, folder: dict[str, Any]) -> None:
    card = {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": ["train-1.*"]}]}]}
    (Path(folder["path"]) / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    assert sorted(by_url(build(tmp_path / "out", folder))) == urls(6, 10)


def test_a_damaged_file(tmp_path: Path, folder: dict[str, Any]) -> None:
    (Path(folder["path"]) / "train-1.parquet").write_bytes(b"junk")
    with pytest.raises(SourceError, match=r"source default .* is not readable"):
        build(tmp_path / "out", folder)


def test_no_rows(tmp_path: Path, folder: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="no rows where n > 99"):
        build(tmp_path / "out", {**folder, "where": "n > 99"})
