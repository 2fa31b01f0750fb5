"""The shards load unchanged in the readers that people use: the same keys, captions and image bytes in each."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.pack.make_bank import Packed, Picture, pack, picture

EXTRA = [pa.field("score", pa.float32()), pa.field("rank", pa.int64()), pa.field("topic", pa.string())]

Samples = dict[str, tuple[str, str, dict[str, Any]]]
"""Key → caption, SHA-256 of the image, JSON."""


def pictures() -> list[Picture]:
    """Nothing in the first samples of a shard tells what later ones hold: nulls, whole numbers, then others."""
    made = []
    for i in range(24):
        late = i % 2 == 0
        columns = {
            "score": i + 0.5 if late else (None if i % 3 else float(i)),
            "rank": i if late else None,
            "topic": f"topic {i} 🦊" if late else None,
            "license": "CC0" if late else None,
            "alt_text": f"a caption\nof two lines, {i} – «ü»",
        }
        made.append(picture(i, (150 + i, 140), **columns))
    return made


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(tmp_path_factory.mktemp("interop"), pictures(), EXTRA, resolution=128, shard_samples=9)


@pytest.fixture(scope="module")
def expected(packed: Packed) -> Samples:
    """By the index alone."""
    found: Samples = {}
    shards = packed.shards()
    for row in packed.rows():
        at, shard = row["packed"], shards[f"{row['shard']}.tar"]
        parts = [shard[at[f"{m}_offset"] :][: at[f"{m}_length"]] for m in ("image", "txt", "json")]
        found[row["uid"]] = parts[1].decode(), hashlib.sha256(parts[0]).hexdigest(), json.loads(parts[2])
    assert len(found) == 24
    return found


def tars(packed: Packed) -> list[str]:
    return [str(path) for path in sorted((packed.folder / "shards").glob("*.tar"))]


def test_webdataset(packed: Packed, expected: Samples) -> None:
    import webdataset

    samples = list(webdataset.WebDataset(tars(packed), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == list(expected)
    found = {
        s["__key__"]: (s["txt"].decode(), hashlib.sha256(s["jpg"]).hexdigest(), json.loads(s["json"])) for s in samples
    }
    assert found == expected


def test_wids(packed: Packed, expected: Samples) -> None:
    import wids

    dataset = wids.ShardListDataset(str(packed.folder / "wids.json"), transformations=[])
    assert len(dataset) == 24
    found = {}
    for i in range(24):
        sample = dataset[i]
        image = hashlib.sha256(sample[".jpg"].read()).hexdigest()
        found[sample["__key__"]] = sample[".txt"].read().decode(), image, json.load(sample[".json"])
    assert list(found) == list(expected)
    assert found == expected


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets(
    packed: Packed, expected: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset(
        "webdataset", data_files={"train": tars(packed)}, split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    types = loaded.features["json"]
    assert {types["scores"][name].dtype for name in ("sharpness", "score")} == {"float64"}
    assert (types["extra"]["rank"].dtype, types["extra"]["topic"].dtype) == ("int64", "string")
    rows: Iterable[Any] = loaded.cast_column("jpg", datasets.Image(decode=False))
    found = {row["__key__"]: (row["txt"], hashlib.sha256(row["jpg"]["bytes"]).hexdigest(), row["json"]) for row in rows}
    assert list(found) == list(expected)
    assert found == expected


def test_every_json_has_the_same_keys_and_types(expected: Samples) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items()}
        return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__

    shapes = {json.dumps(shape(said)) for _, _, said in expected.values()}
    assert len(shapes) == 1
    assert "NoneType" not in shapes.pop()
