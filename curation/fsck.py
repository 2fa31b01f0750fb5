"""Is every row accounted for, and is what is stored what was committed? `curate fsck` prints the findings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.bank import ImageBank
from curation.encode.cache import EMPTY_FILE
from curation.errors import ConfigError, CorruptionError, StorageError
from curation.fragments import FRAGMENT, MANIFEST, Counts, Manifest, committed, read_manifest
from curation.lock import alone
from curation.pack.shard import shard_path
from curation.run_log import RUN_FILE, read_run
from curation.storage import TEMP_MARK, Folder
from curation.stream.corpus import open_corpus
from curation.upstream import is_stale


@dataclass(frozen=True)
class Finding:
    """A fault (`wrong`), or something worth knowing."""

    path: str
    what: str
    wrong: bool

    def text(self) -> str:
        return f"{'FAULT' if self.wrong else 'note '} {self.path}: {self.what}"


def fsck(output: Folder, *, deep: bool = False, repair: bool = False) -> list[Finding]:
    """Check all stages in `output`.

    Always: manifests and fragments agree, rows kept by a stage are exactly the rows of the next, kept + rejected +
    failed = rows, files are there and whole. `deep`: also each stored image and each shard against its hash. `repair`:
    remove files that nothing names. A packed corpus by itself will do as `output`: then its shards and its index are
    checked. Raises ConfigError if `output` holds no stages, StorageError where `repair` would disturb a run.
    """
    if output.exists(MANIFEST):  # a corpus by itself: packed and copied away, or indexed
        return list(_check_corpus(output, deep))
    with alone(output.url) if repair and output.folders() else nullcontext():
        return _fsck(output, deep, repair)


def _fsck(output: Folder, deep: bool, repair: bool) -> list[Finding]:
    folders = [output.child(name) for name in output.folders()]
    manifests = {folder: read_manifest(folder) for folder in folders if folder.exists(MANIFEST) or committed(folder)}
    if not manifests:
        raise ConfigError("OUTPUT", f"{output.url} holds no stages of a run")
    findings: list[Finding] = []
    for folder, manifest in manifests.items():
        if manifest is None:
            findings.append(Finding(folder.url, "unfinished; the next run goes on with it", wrong=False))
        else:
            findings += _check_counts(output, folder, manifest)
            findings += _check_files(folder, manifest)
            if deep and manifest.stage == "fetch":
                findings += _check_images(folder, manifest)
            if manifest.stage in ("pack", "encode"):
                findings += _check_shards(folder, manifest.extra["corpus"], deep)
        findings += _garbage(folder, manifest, repair)
        findings += _left_shards(folder, manifest, repair)
    return findings


def _check_counts(output: Folder, folder: Folder, manifest: Manifest) -> Iterator[Finding]:
    total = sum((f.counts for f in manifest.fragments), Counts())
    if total != manifest.counts:
        yield Finding(folder.path(MANIFEST), "its totals are not the sum of its fragments", wrong=True)
    c = manifest.counts
    if c.kept + c.rejected + c.failed != c.rows or sum(c.reasons.values()) != c.rejected + c.failed:
        yield Finding(folder.path(MANIFEST), "kept + rejected + failed is not the number of rows", wrong=True)
    if manifest.upstream is None:
        return
    upstream_folder = output.child(manifest.upstream)
    upstream = read_manifest(upstream_folder)
    if upstream is None:
        told, wanted = f"its rows come from {manifest.upstream}, which is not there", _wanted(output, folder)
        yield Finding(folder.url, told if wanted else f"{told}; no run needs it any more: delete it", wrong=wanted)
        return
    if is_stale(folder, upstream_folder):
        yield Finding(folder.url, f"is of an earlier {manifest.upstream}; the next run makes it anew", wrong=True)
        return
    try:
        same = _uid_sum(upstream_folder, upstream, kept_only=True) == _uid_sum(folder, manifest, kept_only=False)
    except (StorageError, KeyError) as error:
        yield Finding(folder.url, f"cannot compare its rows with {manifest.upstream}: {error}", wrong=True)
        return
    if not same:
        yield Finding(folder.url, f"its rows are not the rows that {manifest.upstream} kept", wrong=True)


def _wanted(output: Folder, folder: Folder) -> bool:
    """Whether the last run names a stage's folder; of a run that nothing tells of, all are."""
    if not output.exists(RUN_FILE):
        return True
    return folder in [output.child(str(stage["folder"])) for stage in read_run(output)["stages"]]


def _uid_sum(folder: Folder, manifest: Manifest, *, kept_only: bool) -> tuple[int, int, int]:
    """Number of rows and the sums of both halves of their uids modulo 2^64.

    Uids are hashes, so two sets of rows with equal sums are the same rows; and memory does not grow with them.
    """
    rows, high, low = 0, 0, 0
    for fragment in manifest.fragments:
        table = folder.read_table(fragment.name, ["uid", "outcome"])
        uids = [u for u, o in zip(*table.to_pydict().values(), strict=True) if o == "kept" or not kept_only]
        halves = np.frombuffer(bytes.fromhex("".join(uids)), ">u8").reshape(-1, 2)
        rows += len(uids)
        high = (high + int(halves[:, 0].sum(dtype=np.uint64))) % 2**64
        low = (low + int(halves[:, 1].sum(dtype=np.uint64))) % 2**64
    return rows, high, low


def _check_files(folder: Folder, manifest: Manifest) -> Iterator[Finding]:
    sizes = folder.sizes()
    for fragment in manifest.fragments:
        if fragment.name not in sizes:
            yield Finding(folder.path(fragment.name), "the manifest names it, and it is gone", wrong=True)
            continue
        try:
            table = folder.read_table(fragment.name, ["outcome", "reason"])
        except StorageError as error:
            yield Finding(folder.path(fragment.name), str(error), wrong=True)
            continue
        counts = Counts.of(table)
        if (counts.rows, counts.kept, counts.reasons) != (
            fragment.counts.rows,
            fragment.counts.kept,
            fragment.counts.reasons,
        ):
            yield Finding(folder.path(fragment.name), "its rows are not those that the manifest counts", wrong=True)
        if fragment.tar is not None and "/" not in fragment.tar and sizes.get(fragment.tar) != fragment.tar_bytes:
            given = sizes.get(fragment.tar)
            what = "is gone" if given is None else f"has {given} bytes, not {fragment.tar_bytes}"
            yield Finding(folder.path(fragment.tar), f"the tar {what}", wrong=True)


def _check_images(folder: Folder, manifest: Manifest) -> Iterator[Finding]:
    bank = ImageBank(folder)
    for fragment in manifest.fragments:
        table = folder.read_table(fragment.name, ["uid", "outcome", "tar", "offset", "length", "sha256"])
        kept = [row for row in table.to_pylist() if row["outcome"] == "kept"]
        for row in kept:
            try:
                bank.read(row["tar"], row["offset"], row["length"], row["sha256"])
            except (CorruptionError, StorageError) as error:
                yield Finding(folder.path(row["tar"]), f"image {row['uid']}: {error}", wrong=True)


def _check_corpus(folder: Folder, deep: bool) -> Iterator[Finding]:
    """A corpus that may be anybody's: the index must name samples of its shards, and nothing else is opened."""
    try:
        open_corpus(folder.url)
    except ConfigError as error:
        yield Finding(folder.path(MANIFEST), error.problem, wrong=True)
        return
    except (CorruptionError, StorageError) as error:
        yield Finding(folder.url, str(error), wrong=True)
    yield from _check_shards(folder, folder.read_json(MANIFEST)["extra"]["corpus"], deep)


def _check_shards(folder: Folder, corpus: dict[str, Any], deep: bool) -> Iterator[Finding]:
    texts = (corpus.get("encoded") or {}).get("texts")
    beside = [{**texts["empty"], "name": EMPTY_FILE}] if texts else []  # the name of an own file, whatever it says
    for shard in [*corpus["shards"], corpus["index"], *beside]:
        name = shard["name"]
        if not folder.exists(name):
            yield Finding(folder.path(name), "it is gone", wrong=True)
            continue
        if folder.size(name) != shard["bytes"]:
            yield Finding(folder.path(name), f"it has {folder.size(name)} bytes, not {shard['bytes']}", wrong=True)
        elif deep and _sha256(folder, name, shard["bytes"]) != shard["sha256"]:
            yield Finding(folder.path(name), "its SHA-256 is not the one in the manifest", wrong=True)


def _sha256(folder: Folder, name: str, size: int) -> str:
    digest = hashlib.sha256()
    for start in range(0, size, 16_000_000):
        digest.update(folder.read_range(name, start, min(16_000_000, size - start)))
    return digest.hexdigest()


def _garbage(folder: Folder, manifest: Manifest | None, repair: bool) -> Iterator[Finding]:
    """Files that no reader looks at: temporary ones, tars without their parquet, fragments that lost to another."""
    sizes = folder.sizes()
    if manifest is not None:
        named = {f.name for f in manifest.fragments} | {f.tar for f in manifest.fragments if f.tar is not None}
    else:
        named = {name for name in sizes if FRAGMENT.fullmatch(name)}
        named |= {name.removesuffix(".parquet").removesuffix("-end") + ".tar" for name in named}
    for name in sorted(sizes):
        temporary = TEMP_MARK in name
        fragment_like = name.startswith("p") and name.endswith((".tar", ".parquet"))
        if temporary or (fragment_like and name not in named):
            what = "temporary file of a run that was killed" if temporary else "named by no manifest"
            if repair:
                folder.delete(name)
                what += "; removed"
            yield Finding(folder.path(name), what, wrong=False)


def _left_shards(folder: Folder, manifest: Manifest | None, repair: bool) -> Iterator[Finding]:
    """Shards, and beginnings of shards, that no manifest and no fragment names."""
    shards = folder.child("shards")
    there = shards.sizes()
    if not there:
        return
    if manifest is not None:
        named = {shard["name"] for shard in manifest.extra["corpus"]["shards"]}
    else:
        tables = [folder.read_table(name, ["shard"]) for names in committed(folder).values() for name in names]
        named = {shard_path(shard) for table in tables for shard in table["shard"].to_pylist()}
    for name in sorted(there):
        if f"shards/{name}" not in named:
            if repair:
                shards.delete(name)
            yield Finding(shards.path(name), f"of a run that was killed{'; removed' if repair else ''}", wrong=False)
