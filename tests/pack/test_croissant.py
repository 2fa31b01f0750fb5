"""`croissant.json` by its structure; it was also read with `mlcroissant` 1.1, all four record sets."""

import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.sql import nodes
from tests.pack.make_bank import Packed, pack, picture


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    pictures = [picture(i, (150, 140)) for i in range(5)]
    return pack(tmp_path_factory.mktemp("croissant"), pictures, resolution=128, shard_samples=2, format="webp")


@pytest.fixture(scope="module")
def said(packed: Packed) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((packed.folder / "croissant.json").read_text())
    return data


def test_it_is_croissant(said: dict[str, Any]) -> None:
    assert said["@type"] == "sc:Dataset"
    assert said["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert said["name"] == "toy"
    used = {key for node in nodes({k: v for k, v in said.items() if k != "@context"}) for key in node}
    schema_org = {"name", "description", "distribution", "contentUrl", "contentSize", "encodingFormat", "sha256"}
    # `containedIn` is schema.org's in 1.0; everything else is defined by the context
    assert used - {"@type", "@id", "@context", "containedIn"} - schema_org <= set(said["@context"])


def test_every_reference_is_defined(said: dict[str, Any]) -> None:
    defined = {node["@id"] for node in nodes(said["distribution"]) if "@type" in node}
    defined |= {node["@id"] for node in nodes(said["recordSet"]) if "@type" in node}
    referred = {node["@id"] for node in nodes(said) if set(node) == {"@id"}}
    assert referred
    assert referred <= defined


def test_files_are_those_that_are_there(packed: Packed, said: dict[str, Any]) -> None:
    files = [node for node in said["distribution"] if node["@type"] == "cr:FileObject"]
    assert [f["contentUrl"] for f in files] == [*(f"shards/{i:05d}.tar" for i in range(3)), "index.parquet"]
    for file in files:
        data = (packed.folder / Path(file["contentUrl"])).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["contentSize"] == f"{len(data)} B"


def test_file_sets_and_columns_match(packed: Packed, said: dict[str, Any]) -> None:
    import tarfile

    with tarfile.open(packed.folder / "shards" / "00000.tar") as tar:
        names = tar.getnames()
    sets = {node["@id"]: node for node in said["distribution"] if node["@type"] == "cr:FileSet"}
    assert [sum(fnmatch(name, s["includes"]) for name in names) for s in sets.values()] == [2, 2, 2]
    assert sets["images"]["encodingFormat"] == "image/webp"
    columns = [
        field["source"]["extract"]["column"]
        for records in said["recordSet"]
        for field in records["field"]
        if "column" in field["source"]["extract"]
    ]
    assert set(columns) <= set(pq.read_schema(packed.folder / "index.parquet").names)
    assert {"uid", "shard", "image_offset", "crc32c"} <= set(columns)
