"""`croissant.json`: the corpus described in Croissant 1.0 (MLCommons), which data catalogues and `mlcroissant` read.

Every shard is a FileObject with its hash; the members of one kind, over all shards, are a FileSet. There is a record
set for images, for captions, for `UID.json` and for the index; `uid` is the key of each. `mlcroissant` 1.1 reads all of
them. It could follow neither `references` between members of archives nor a JSON path into one, so there are none.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curation.pack.index import INDEX, INDEX_SCHEMA, Index
from curation.pack.sample import SampleMaker
from curation.storage import Folder

CROISSANT = "croissant.json"
_KEY = "([0-9a-f]{32})"
_MIME = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "txt": "text/plain",
    "json": "application/json",
    "tar": "application/x-tar",
    "parquet": "application/x-parquet",
}
_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT = {  # the one of the Croissant 1.0 specification; readers warn about any other
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS},
}


def write_croissant(folder: Folder, name: str, index: Index, extension: str, maker: SampleMaker) -> None:
    """Write `croissant.json` for the shards of `index`, whose images are files of `extension`."""
    folder.write_json(CROISSANT, croissant(name, index, extension, maker))


def croissant(name: str, index: Index, extension: str, maker: SampleMaker) -> dict[str, Any]:
    """The description as plain data."""
    shards = [_file(s.name, s.name, "tar", s.bytes, s.sha256) for s in index.shards]
    inside = [{"@id": shard["@id"]} for shard in shards]
    members = {"images": extension, "texts": "txt", "metadata": "json"}
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": title,
            "name": title,
            "containedIn": inside,
            "encodingFormat": _MIME[ending],
            "includes": f"*.{ending}",
        }
        for title, ending in members.items()
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{index.samples} images with captions ({', '.join(maker.kinds)}) in {len(shards)} WebDataset "
        "shards. Images keep the licence of their source, named in each sample's metadata where it is known.",
        "distribution": [*shards, _file(INDEX, INDEX, "parquet", index.bytes, index.sha256), *sets],
        "recordSet": [_images(), _captions(maker), _metadata(maker), _index()],
    }


def _file(identity: str, path: str, ending: str, size: int, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": identity,
        "name": path.rsplit("/", 1)[-1],
        "contentUrl": path,
        "contentSize": f"{size} B",
        "encodingFormat": _MIME[ending],
        "sha256": sha256,
    }


def _records(title: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    key = {"@id": f"{title}/uid"}
    return {"@type": "cr:RecordSet", "@id": title, "name": title, "key": key, "field": fields}


def _field(identity: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    name = identity.rsplit("/", 1)[-1]
    return {"@type": "cr:Field", "@id": identity, "name": name, "dataType": kind, "source": source}


def _of(files: str, what: str, transform: dict[str, str] | None = None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": files}, "extract": {"fileProperty": what}}
    return source | ({"transform": transform} if transform else {})


def _uid(title: str, files: str) -> dict[str, Any]:
    return _field(f"{title}/uid", "sc:Text", _of(files, "filename", {"regex": _KEY}))


def _images() -> dict[str, Any]:
    content = _of("images", "content")
    return _records(
        "image_records", [_uid("image_records", "images"), _field("image_records/image", "sc:ImageObject", content)]
    )


def _captions(maker: SampleMaker) -> dict[str, Any]:
    uid = _uid("caption_records", "texts")
    text = _field("caption_records/caption", "sc:Text", _of("texts", "content"))
    return _records("caption_records", [uid, text | {"description": f"The caption of kind {maker.kinds[0]}."}])


def _metadata(maker: SampleMaker) -> dict[str, Any]:
    content = _field("metadata_records/json", "sc:Text", _of("metadata", "content"))
    scores, kinds = ", ".join(maker.scores), ", ".join(maker.kinds)
    told = (
        "A JSON object, the same keys and types in every sample: uid, source, url, license, source_sha256, sha256, "
        "format, phash (text); width, height, original_width, original_height, crop_left, crop_top, pad_left, pad_top, "
        f"pad_right, pad_bottom (pixels); bucket; captions: [{{kind, model, text, tokens, words}}] for {kinds}; "
        f"scores, numbers named {scores}" + (f"; extra, with {', '.join(maker.extra)}." if maker.extra else ".")
    )
    return _records("metadata_records", [_uid("metadata_records", "metadata"), content | {"description": told}])


def _index() -> dict[str, Any]:
    title = "index_records"
    fields = [
        _field(
            f"{title}/{column.name}",
            "sc:Integer" if pa.types.is_integer(column.type) else "sc:Text",
            {"fileObject": {"@id": INDEX}, "extract": {"column": column.name}},
        )
        for column in INDEX_SCHEMA
        if not pa.types.is_nested(column.type)
    ]
    return _records(title, fields)
