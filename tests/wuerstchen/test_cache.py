"""Semantic latents and embeddings in the shards: what is stored is what Stage C would compute, of its own models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from curation.config.koala import TeacherSettings
from curation.config.train import TrainConfig
from curation.config.wuerstchen import CompressorSettings, StageBSettings, StageCSettings
from curation.distill.koala import Koala
from curation.distill.teacher import Teacher
from curation.encode.cache import CacheFacts, cached_of
from curation.encode.member import Latents, to_bytes
from curation.encode.signatures import compressor_signature
from curation.encode.stage import Encode
from curation.encode.view import CachedView
from curation.errors import ConfigError, CorruptionError
from curation.stream.corpus import open_corpus
from curation.stream.decode import Decoder
from curation.stream.loader import CorpusLoader
from curation.stream.sample import Sample
from curation.train.draws import Draws
from curation.train.recipe import Recipe
from curation.train.run import train
from curation.wuerstchen.stage_b import StageB
from curation.wuerstchen.stage_c import StageC
from tests.encode.conftest import COUNT, encode, finish, make_packed, stream
from tests.pack.make_bank import Packed
from tests.wuerstchen.conftest import SIDE

CLOSE = {"rtol": 1e-3, "atol": 1e-3}
"""fp16 has eleven bits."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return make_packed(tmp_path_factory.mktemp("packed"))


def stage(packed: Packed, parts: dict[str, Any], **settings: Any) -> Encode:
    return encode(packed, None, **{"semantic": parts["compressor"], "text": parts["text"], **settings})


@pytest.fixture(scope="module")
def encoded(packed: Packed, parts: dict[str, Any]) -> Path:
    """Semantic latents and Stage C's embeddings, nothing else; treat as read-only."""
    return finish(stage(packed, parts))


def facts_of(corpus: Path) -> CacheFacts:
    found = cached_of(open_corpus(str(corpus)))
    assert found is not None
    return found


def by_key(corpus: Path) -> dict[str, dict[str, Any]]:
    """Batches of one sample, by its key."""
    return {batch["keys"][0]: batch for batch in CorpusLoader(stream(corpus, captions={"dense": 1}))}


def losses(recipe: Recipe, corpus: Path) -> dict[str, float]:
    """By key, each sample with the same noise and time in every corpus; keys differ from run to run, draws do not."""
    found = {}
    for place, (key, batch) in enumerate(sorted(by_key(corpus).items())):
        with torch.no_grad():
            prepared = recipe.prepare(batch, Draws(0, place, 0))
            found[key] = recipe.losses(recipe.model, prepared)["noise"].item()
    return found


def test_what_is_stored_is_what_stage_c_would_compute(
    packed: Packed, encoded: Path, stage_c: StageCSettings, parts: dict[str, Any]
) -> None:
    recipe = StageC(stage_c, seed=0)
    pictures, cached = by_key(packed.folder), by_key(encoded)
    assert set(cached) == set(pictures)
    assert len(cached) == COUNT
    for key, picture in pictures.items():
        found = cached[key]
        assert not {"pixels", "latents", "pooled"} & set(found)
        assert found["semantic"].dtype == torch.float16
        with torch.no_grad():
            wanted = recipe.compressor(picture["pixels"])
        torch.testing.assert_close(found["semantic"].float(), wanted, **CLOSE)
        torch.testing.assert_close(found["text"].float(), recipe.text(picture["captions"]), **CLOSE)
        for name in ("original_sizes", "crop_top_lefts", "target_sizes"):
            assert found[name].equal(picture[name]), name
    assert {tuple(batch["semantic"].shape[1:]) for batch in cached.values()} == {(6, 8, 8), (6, 7, 10)}
    (sample,) = next(iter(stream(encoded))).samples
    assert list(sample.members) == ["txt", "json", "safetensors"]
    assert set(load(bytes(sample.members["safetensors"]))) == {"semantic", "sizes", "text.alt", "text.dense"}


def test_stage_c_makes_the_losses_of_pictures(
    packed: Packed, encoded: Path, stage_c: StageCSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = StageC(stage_c.model_copy(update={"caption_dropout": 0.5}), seed=0)
    torch.nn.init.normal_(recipe.model.out[1].weight, std=0.05)  # a fresh one says nothing of what it is shown
    recipe.check_cache(facts_of(encoded))
    wanted = losses(recipe, packed.folder)
    recipe.text.empty()

    def never(*given: Any) -> Any:
        raise AssertionError("a frozen model was asked")

    monkeypatch.setattr(recipe.compressor, "forward", never)
    monkeypatch.setattr(recipe.text.model, "forward", never)
    cached = losses(recipe, encoded)
    assert cached == pytest.approx(wanted, rel=2e-3)
    mute = StageC(stage_c.model_copy(update={"caption_dropout": 1.0}), seed=0)
    mute.model.load_state_dict(recipe.model.state_dict())
    silent = losses(mute, encoded)
    heard = [Draws(0, place, 0).uniform("caption", 1).item() >= 0.5 for place in range(COUNT)]
    assert [silent[key] != cached[key] for key in sorted(cached)] == heard
    assert 2 < sum(heard) < COUNT - 2, "some are dropped"


def test_stage_c_trains_on_a_corpus_without_pictures(encoded: Path, stage_c: StageCSettings, tmp_path: Path) -> None:
    config = TrainConfig.model_validate(
        {
            "name": "tiny",
            "output": str(tmp_path),
            "recipe": stage_c.model_dump(),
            "data": {"corpora": [{"path": str(encoded)}], "batch": 4, "captions": {"dense": 0.5, "empty": 0.5}},
            "loop": {"steps": 3, "log_every": 1},
        }
    )
    assert train(config).facts["status"] == "done"
    other = config.model_copy(update={"output": str(tmp_path / "b")})
    recipe = {"recipe": {**stage_c.model_dump(), "text": {"model": str(tmp_path / "model" / "decoder_text")}}}
    with pytest.raises(ConfigError, match=r"other models: text, text_tokenizer;"):
        train(TrainConfig.model_validate(other.model_dump() | recipe))


def test_stage_b_takes_semantic_latents_beside_pictures(
    packed: Packed, encoded: Path, parts: dict[str, Any], stage_b: StageBSettings
) -> None:
    recipe = StageB(stage_b, seed=0)
    with pytest.raises(ConfigError, match="needs pictures") as caught:
        recipe.check_cache(facts_of(encoded))
    assert caught.value.path == "data.corpora"
    both = finish(stage(packed, parts, images=True))
    recipe.check_cache(facts_of(both))
    StageB(stage_b.model_copy(update={"train_compressor": True}), seed=0).check_cache(facts_of(both))
    batch = next(iter(by_key(both).values()))
    assert batch["pixels"].dtype == torch.uint8
    assert batch["semantic"].dtype == torch.float16
    assert losses(recipe, both) == pytest.approx(losses(recipe, packed.folder), rel=2e-3)
    for unread in CorpusLoader(stream(both, captions={"dense": 1}), pictures=False):  # as Stage C has it
        assert "pixels" not in unread
        assert unread["semantic"].equal(by_key(both)[unread["keys"][0]]["semantic"])


def changed(compressor: str, into: Path) -> str:
    """The same compressor with one other number."""
    shutil.copytree(compressor, into)
    (weights,) = into.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    return str(into)


def test_latents_of_another_compressor_are_refused(
    packed: Packed, encoded: Path, parts: dict[str, Any], stage_c: StageCSettings, tmp_path: Path
) -> None:
    moved = str(shutil.copytree(parts["compressor"], tmp_path / "moved"))
    other = changed(parts["compressor"], tmp_path / "other")
    assert stage(packed, parts, semantic=moved).folder.url == str(encoded)
    assert stage(packed, parts, semantic=other).folder.url != str(encoded)
    for compressor, fits in ((moved, True), (other, False)):
        recipe = StageC(StageCSettings.model_validate(stage_c.model_dump() | {"compressor": compressor}), seed=0)
        if fits:
            recipe.check_cache(facts_of(encoded))
            continue
        with pytest.raises(ConfigError, match=r"other models: semantic;") as caught:
            recipe.check_cache(facts_of(encoded))
        assert caught.value.path == "recipe"


def test_each_family_takes_its_own_latents(
    packed: Packed, encoded: Path, parts: dict[str, Any], stage_c: StageCSettings, sdxl_folder: Path
) -> None:
    prior, teacher = StageC(stage_c, seed=0), Teacher(TeacherSettings(model=str(sdxl_folder)))
    both = finish(encode(packed, sdxl_folder, semantic=parts["compressor"], texts=[]))
    batch = next(iter(by_key(both).values()))
    assert {"latents", "semantic"} < set(batch)
    assert "pixels" not in batch
    assert batch["latents"].shape[2:] != batch["semantic"].shape[2:]
    for recipe in (prior, teacher):
        recipe.check_cache(facts_of(both))
    with pytest.raises(ConfigError, match="no pixels to give, and no latents instead"):
        teacher.check_cache(facts_of(encoded))
    of_sdxl = facts_of(finish(encode(packed, sdxl_folder, texts=[])))
    with pytest.raises(ConfigError, match="no pixels to give, and no semantic latents instead"):
        prior.check_cache(of_sdxl)
    with pytest.raises(ConfigError, match=r"other models: text, text_encoder, text_encoder_2, text_tokenizer, tok"):
        prior.check_cache(facts_of(finish(encode(packed, sdxl_folder, semantic=parts["compressor"]))))


def test_pictures_beside_semantic_latents_are_there_for_who_takes_them(packed: Packed, parts: dict[str, Any]) -> None:
    both = finish(stage(packed, parts, images=True, text=None, texts=[]))
    for recipe, taken in ((Koala, True), (StageB, True), (StageC, False)):
        batch = next(iter(CorpusLoader(stream(both), pictures=recipe.reads_pictures)))
        assert ("pixels" in batch) is taken, recipe
        assert "semantic" in batch


def test_a_file_of_weights_is_its_own_signature(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"one")
    given = CompressorSettings(model=str(tmp_path), file="weights.pt")
    first = compressor_signature("recipe.compressor", given)
    scaled = given.model_copy(update={"scale": 42.0, "shift": 1.0})
    assert compressor_signature("recipe.compressor", scaled) == first, "latents are stored without them"
    (tmp_path / "weights.pt").write_bytes(b"two")
    assert compressor_signature("recipe.compressor", given) != first
    with pytest.raises(ConfigError) as caught:
        compressor_signature("recipe.compressor", given.model_copy(update={"file": "gone.pt"}))
    assert caught.value.path == "recipe.compressor.file"
    hub = CompressorSettings(model="dome272/wuerstchen", file="model_v2_stage_b.pt")
    assert compressor_signature("x", hub) != compressor_signature("x", hub.model_copy(update={"file": "other.pt"}))


def test_a_compressor_that_is_not_there_is_refused_before_any_work(
    packed: Packed, parts: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no folder") as caught:
        stage(packed, parts, semantic=str(tmp_path / "gone"))
    assert caught.value.path == "stages.encode.semantic"
    stage(packed, parts).check_models(online=False)
    with pytest.raises(ConfigError, match="is no semantic compressor") as caught:
        stage(packed, parts, semantic=parts["vqgan"]).check_models(online=False)
    assert caught.value.path == "stages.encode.semantic.model"


@pytest.mark.parametrize("shape", [(6, 8, 7), (5, 8, 8), (6, 64)])
def test_semantic_latents_of_another_shape_are_damage(encoded: Path, shape: tuple[int, ...]) -> None:
    view = CachedView(facts_of(encoded), None, (), Decoder(None), pictures=False)

    def read(*shape: int) -> Any:
        data = to_bytes(Latents(None, (64, 64), (0, 0), (64, 64), torch.zeros(shape, dtype=torch.float16)), {})
        return view(Sample("0123abcd", {"safetensors": memoryview(data)}, 0), (64, 64))

    assert read(6, 8, 8).latents.semantic.shape == (6, 8, 8)
    with pytest.raises(CorruptionError, match="sample 0123abcd"):
        read(*shape)


def test_another_resolution_is_refused(encoded: Path) -> None:
    with pytest.raises(ConfigError, match="as they were packed"):
        CorpusLoader(stream(encoded), resolution=SIDE)
