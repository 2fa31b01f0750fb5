"""The stream over a corpus of tensors: as exact as over pictures; refuses what is not stored, names what is damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from curation.encode.cache import CacheFacts, cache_of_all, cached_of
from curation.encode.member import Latents, Text, to_bytes
from curation.encode.view import CachedView
from curation.errors import ConfigError, CorruptionError
from curation.stream.corpus import open_corpus
from curation.stream.decode import Decoder
from curation.stream.loader import CorpusLoader
from curation.stream.sample import Sample
from tests.encode.conftest import COUNT, encode, finish, stream
from tests.pack.make_bank import Packed


def test_any_number_of_workers_and_a_state_give_the_same_batches(encoded: Path) -> None:
    settings: dict[str, Any] = {"batch": 4, "tails": "pad", "captions": {"dense": 0.5, "empty": 0.5}}
    alone = list(CorpusLoader(stream(encoded, **settings)))
    many = list(CorpusLoader(stream(encoded, **settings), workers=2))
    for one, other in zip(alone, many, strict=True):
        assert one["keys"] == other["keys"]
        for name in ("latents", "text", "pooled", "original_sizes"):
            assert one[name].equal(other[name])
            assert len(one[name]) == 4
    assert sum(len(set(batch["keys"])) for batch in alone) >= COUNT
    loader = CorpusLoader(stream(encoded, **settings))
    next(iter(loader))
    going_on = CorpusLoader(stream(encoded, **settings))
    going_on.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert [batch["keys"] for batch in going_on] == [batch["keys"] for batch in alone[1:]]


@pytest.mark.parametrize(
    ("settings", "path"),
    [({"tails": "merge"}, "tails"), ({"captions": {"alt": 0.5, "dense": 0.5}}, "captions.alt")],
)
def test_what_is_not_stored_is_refused(packed: Packed, sdxl_folder: Path, settings: dict[str, Any], path: str) -> None:
    corpus = finish(encode(packed, sdxl_folder, texts=["dense"]))
    with pytest.raises(ConfigError) as caught:
        CorpusLoader(stream(corpus, **{"captions": {"dense": 1}, **settings}))
    assert caught.value.path == path


def test_latents_of_another_resolution_are_refused(encoded: Path) -> None:
    CorpusLoader(stream(encoded), resolution=64)
    with pytest.raises(ConfigError, match="as they were packed"):
        CorpusLoader(stream(encoded), resolution=32)


def test_pictures_and_tensors_do_not_mix(packed: Packed, encoded: Path) -> None:
    both = [{"path": str(encoded)}, {"path": str(packed.folder)}]
    with pytest.raises(ConfigError, match=r"is of pictures, which .* is not") as caught:
        CorpusLoader(stream(encoded, corpora=both))
    assert caught.value.path == "corpora.1"


def test_corpora_of_the_same_models_mix_whatever_else_they_hold(encoded: Path) -> None:
    """Kinds of caption that all of them have; what stands for no caption may differ in its last bits."""
    corpus = open_corpus(str(encoded))
    texts = corpus.encoded["texts"]
    other = {**texts, "kinds": ["dense"], "empty": {**texts["empty"], "sha256": "0" * 64}}
    mixed = cache_of_all([corpus, replace(corpus, encoded={**corpus.encoded, "texts": other})])
    assert mixed is not None
    assert mixed.texts is not None
    assert mixed.texts.kinds == ("dense",)
    assert mixed.texts.empty_sha256 == texts["empty"]["sha256"]
    for change in ({"dtype": "bf16"}, {"texts": {**texts, "width": 7}}, {"signatures": {}}):
        with pytest.raises(ConfigError, match=f"other {next(iter(change))}$"):
            cache_of_all([corpus, replace(corpus, encoded={**corpus.encoded, **change})])


@pytest.mark.parametrize(
    "change",
    [{"latents": {"channels": -1, "factor": 4}}, {"dtype": "pickle"}, {"texts": {"kinds": []}}, {"signatures": None}],
)
def test_a_manifest_that_makes_no_sense_is_refused(encoded: Path, change: dict[str, Any]) -> None:
    corpus = open_corpus(str(encoded))
    with pytest.raises(ConfigError, match="does not tell what is encoded"):
        cached_of(replace(corpus, encoded={**corpus.encoded, **change}))


def test_a_file_of_no_caption_that_is_not_the_one_stored_is_refused(encoded: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(encoded, tmp_path / "copy"))
    (copy / "empty.safetensors").write_bytes(save({"text": torch.zeros(77, 24), "pooled": torch.zeros(16)}))
    with pytest.raises(CorruptionError, match="SHA-256"):
        CorpusLoader(stream(copy))


@pytest.fixture
def facts(encoded: Path) -> CacheFacts:
    found = cached_of(open_corpus(str(encoded)))
    assert found is not None
    return found


def tensors(size: tuple[int, int] = (64, 64), dtype: torch.dtype = torch.float16, kind: str = "alt") -> bytes:
    """A sound member, of a square picture unless told otherwise."""
    latents = Latents(torch.zeros(4, size[0] // 4, size[1] // 4, dtype=dtype), (80, 80), (0, 0), size)
    return to_bytes(latents, {kind: Text(torch.zeros(77, 24, dtype=dtype), torch.zeros(16, dtype=dtype))})


def view(facts: CacheFacts, data: bytes | None) -> Any:
    members = {} if data is None else {"safetensors": memoryview(data)}
    found = CachedView(facts, None, ("alt",), Decoder(None), pictures=facts.pictures)
    return found(Sample("0123abcd", members, 0), (64, 64))


def test_a_sound_member_is_read(facts: CacheFacts) -> None:
    found = view(facts, tensors())
    assert found.place.original_size == (80, 80)
    assert found.texts["alt"].pooled.shape == (16,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: b"",
        lambda: b"\xff" * 64,
        lambda: (2**40).to_bytes(8, "little") + b"{}",
        lambda: tensors()[:-1],
        lambda: tensors() + b"\0",
        lambda: tensors((32, 64)),
        lambda: tensors(dtype=torch.float32),
        lambda: tensors(kind="dense"),
        lambda: tensors().replace(b'"dtype":"F16"', b'"dtype":"F99"', 1),
        lambda: tensors().replace(b'"shape":[4,16,16]', b'"shape":[4,16,17]', 1),
        lambda: tensors().replace(b'"shape":[4,16,16]', b'"shape":[8,16, 8]', 1),
    ],
    ids=["none", "empty", "noise", "endless", "cut", "longer", "size", "dtype", "kind", "type", "shape", "channels"],
)
def test_what_is_no_member_is_damage_that_names_the_sample(facts: CacheFacts, make: Any) -> None:
    with pytest.raises(CorruptionError, match="sample 0123abcd"):
        view(facts, make())
