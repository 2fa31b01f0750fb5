"""The stage by itself: what is stored is what the models make of the packed samples, once, whatever happens."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from safetensors.torch import load

from curation.encode.cache import EMPTY_FILE, cached_of, check_signatures
from curation.encode.signatures import part_signatures
from curation.errors import ConfigError
from curation.fsck import fsck
from curation.storage import Folder
from curation.stream.corpus import open_corpus
from curation.stream.loader import CorpusLoader
from tests.encode.conftest import COUNT, encode, finish, make_packed, stream, work
from tests.pack.make_bank import Packed
from tests.tiny_sdxl import CHANNELS, FACTOR, POOLED, TEXT, TOKENS

CLOSE = {"rtol": 1e-3, "atol": 1e-3}
"""fp16 has eleven bits."""


def by_key(corpus: Path, **settings: Any) -> dict[str, dict[str, Any]]:
    """Batches of one sample, by its key."""
    return {batch["keys"][0]: batch for batch in CorpusLoader(stream(corpus, **settings))}


def files(folder: Path) -> dict[str, bytes]:
    """All but the ledger, which names the bank's tars, whose names are random."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if name == "index.parquet" or not name.endswith(".parquet")}


def test_latents_are_those_of_the_pictures_that_training_would_see(
    packed: Packed, encoded: Path, sdxl_folder: Path
) -> None:
    vae = AutoencoderKL.from_pretrained(sdxl_folder, subfolder="vae")
    pictures, latents = by_key(packed.folder), by_key(encoded)
    assert set(latents) == set(pictures)
    assert len(latents) == COUNT
    for key, picture in pictures.items():
        with torch.no_grad():
            wanted = vae.encode(picture["pixels"] / 127.5 - 1).latent_dist.mean
        found = latents[key]
        assert "pixels" not in found
        assert found["latents"].dtype == torch.float16
        torch.testing.assert_close(found["latents"].float(), wanted, **CLOSE)
        for name in ("original_sizes", "crop_top_lefts", "target_sizes"):
            assert found[name].equal(picture[name]), name
    assert {tuple(batch["latents"].shape[2:]) for batch in latents.values()} == {(16, 16), (14, 20)}
    assert any(batch["crop_top_lefts"].any() for batch in latents.values())


@pytest.mark.parametrize("kind", ["primary", "dense"])
def test_embeddings_are_those_of_the_pipeline(encoded: Path, sdxl_folder: Path, kind: str) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl_folder)
    for batch in by_key(encoded, captions={kind: 1}).values():
        text, _, pooled, _ = pipeline.encode_prompt(batch["captions"], do_classifier_free_guidance=False)
        torch.testing.assert_close(batch["text"].float(), text, **CLOSE)
        torch.testing.assert_close(batch["pooled"].float(), pooled, **CLOSE)


def test_no_caption_is_what_the_pipeline_takes_for_it(packed: Packed, sdxl_folder: Path, tmp_path: Path) -> None:
    """SDXL's own takes zeros. A caption that says nothing is no caption."""
    zeros = tmp_path / "zeros"
    shutil.copytree(sdxl_folder, zeros)
    index = zeros / "model_index.json"
    index.write_text(
        index.read_text().replace('"force_zeros_for_empty_prompt": false', '"force_zeros_for_empty_prompt": true')
    )
    stage = encode(packed, zeros, latents=False, images=True)
    assert stage.fingerprint != encode(packed, sdxl_folder, latents=False, images=True).fingerprint
    corpus = finish(stage)
    batches = by_key(corpus, captions={"empty": 0.5, "dense": 0.5})
    silent = {key: not batch["text"].any() for key, batch in batches.items()}
    assert {key: batch["captions"] == [""] for key, batch in batches.items()} == silent
    assert 1 < sum(silent.values()) < COUNT
    found = by_key(corpus, captions={"dense": 1})
    (nothing,) = [batch for batch in found.values() if batch["captions"] == [""]]
    assert nothing["text"].shape == (1, TOKENS, TEXT)
    assert nothing["pooled"].shape == (1, POOLED)
    assert not nothing["text"].any()
    assert not nothing["pooled"].any()
    assert nothing["pixels"].dtype == torch.uint8
    assert "latents" not in nothing


def test_what_the_corpus_says_of_its_tensors(encoded: Path, sdxl_folder: Path, tmp_path: Path) -> None:
    facts = cached_of(open_corpus(str(encoded)))
    assert facts is not None
    assert (facts.dtype, facts.channels, facts.factor, facts.images) == ("fp16", CHANNELS, FACTOR, False)
    assert facts.texts is not None
    assert (facts.texts.kinds, facts.texts.primary) == (("alt", "dense"), "alt")
    assert (facts.texts.tokens, facts.texts.width, facts.texts.pooled) == (TOKENS, TEXT, POOLED)
    check_signatures(facts, part_signatures("teacher", str(sdxl_folder)), "teacher")
    other = changed_vae(sdxl_folder, tmp_path / "other")
    with pytest.raises(ConfigError, match="other models: vae;"):
        check_signatures(facts, part_signatures("teacher", str(other)), "teacher")


def test_the_members_of_a_shard(packed: Packed, encoded: Path, sdxl_folder: Path) -> None:
    plain = {sample.key: sample.members for batch in stream(packed.folder) for sample in batch.samples}
    for batch in stream(encoded):
        (sample,) = batch.samples
        assert list(sample.members) == ["txt", "json", "safetensors"]
        for name in ("txt", "json"):
            assert sample.members[name] == plain[sample.key][name]
        tensors = load(bytes(sample.members["safetensors"]))
        assert set(tensors) == {"latents", "sizes", "text.alt", "pooled.alt", "text.dense", "pooled.dense"}
    with_images = finish(encode(packed, sdxl_folder, images=True, texts=[], resolution=48))
    for batch in stream(with_images):
        (sample,) = batch.samples
        assert list(sample.members) == ["jpg", "txt", "json", "safetensors"]
        assert sample.image == plain[sample.key]["jpg"]
    assert not (with_images / EMPTY_FILE).exists()
    for key, batch in by_key(with_images).items():
        assert "pixels" not in batch, key
        assert "text" not in batch
        height, width = batch["target_sizes"][0].tolist()
        assert batch["latents"].shape == (1, CHANNELS, height // FACTOR, width // FACTOR)
        assert height * width < 56 * 56


def test_a_run_that_was_killed_ends_with_the_same_bytes(encoded: Path, sdxl_folder: Path, tmp_path: Path) -> None:
    packed = make_packed(tmp_path)
    stage = encode(packed, sdxl_folder)
    stage.setup(workers=1)
    first, second, _ = stage.partitions()
    asyncio.run(work(stage, first))
    asyncio.run(work(stage, second))
    stage.close()
    folder = Path(stage.folder.url)
    (parquet,) = folder.glob("p000001-*.parquet")
    parquet.unlink()  # killed between the tar and its commit …
    (folder / "shards" / "00001.tar").write_bytes(b"of other pixels")  # … and that tar is not to be trusted
    (folder / "shards" / "00002.tar.tmp-1-0").write_bytes(b"half")  # and in the middle of the next
    assert [p.index for p in encode(packed, sdxl_folder).unfinished()] == [1, 2]
    before = (folder / "shards" / "00000.tar").stat().st_mtime_ns
    finish(encode(packed, sdxl_folder))
    assert (folder / "shards" / "00000.tar").stat().st_mtime_ns == before
    assert files(folder) == files(encoded)


def test_other_models_have_another_folder_wherever_they_lie(packed: Packed, sdxl_folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(sdxl_folder, tmp_path / "copied"))
    shutil.rmtree(copied / "unet")
    stage = encode(packed, sdxl_folder)
    assert encode(packed, copied, run={"batch": 7, "workers": 2}).folder.url == stage.folder.url
    assert encode(packed, changed_vae(sdxl_folder, tmp_path / "other")).fingerprint != stage.fingerprint
    text_only = {"latents": False, "images": True}
    other = tmp_path / "other"
    assert encode(packed, other, **text_only).fingerprint == encode(packed, sdxl_folder, **text_only).fingerprint
    with_vae = encode(packed, sdxl_folder, vae=str(other / "vae"))
    assert with_vae.fingerprint == encode(packed, other).fingerprint


def test_a_damaged_sample_fails_alone(sdxl_folder: Path, tmp_path: Path) -> None:
    packed = make_packed(tmp_path)
    row = packed.rows()[1]
    shard = packed.folder / "shards" / f"{row['shard']}.tar"
    data = bytearray(shard.read_bytes())
    data[row["packed"]["image_offset"] + 40] ^= 1
    shard.write_bytes(data)
    stage = encode(packed, sdxl_folder)
    corpus = finish(stage)
    manifest = stage.manifest()
    assert manifest is not None
    assert manifest.counts.reasons == {"bank_damaged": 1}
    assert set(by_key(corpus)) == {other["uid"] for other in packed.rows() if other["packed"]} - {row["uid"]}


def test_numbers_that_the_type_cannot_hold_are_no_tensors(packed: Packed, sdxl_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(sdxl_folder, tmp_path / "large"))
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae")
    with torch.no_grad():
        vae.quant_conv.bias += 1e5  # fp16 ends at 65,504
    vae.save_pretrained(model / "vae")
    stage = encode(packed, model, texts=[])
    finish(stage)
    manifest = stage.manifest()
    assert manifest is not None
    assert manifest.counts.reasons == {"not_finite": COUNT}
    found = by_key(finish(encode(packed, model, texts=[], dtype="bf16")))
    assert len(found) == COUNT
    assert all(batch["latents"].dtype == torch.bfloat16 for batch in found.values())


def test_a_flipped_byte_is_found(encoded: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(encoded, tmp_path / "copy"))
    assert fsck(Folder(copy), deep=True) == []
    shard = copy / "shards" / "00001.tar"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    empty = bytearray((copy / EMPTY_FILE).read_bytes())
    empty[-1] ^= 1
    (copy / EMPTY_FILE).write_bytes(empty)
    assert {f.path.rsplit("/", 1)[-1] for f in fsck(Folder(copy), deep=True) if f.wrong} == {"00001.tar", EMPTY_FILE}


def changed_vae(model: Path, into: Path) -> Path:
    """The same pipeline with one other number in its VAE."""
    shutil.copytree(model, into)
    weights = into / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    return into
