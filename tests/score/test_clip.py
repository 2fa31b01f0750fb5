"""`clip`: the numbers are those of `transformers`, whatever the batch; captions long, empty, missing; other encoders.

Tolerances. A batch of another size may sum in another order: 2e-6 in fp32 for a cosine of these models, and a last bit
(1e-3) of the embedding's float16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.config import ModelSettings
from curation.errors import ConfigError
from curation.score.clip import Clip
from tests.score.scenes import captions, pictures, rows

SETTING = "stages.score.clip"
COUNT = 9


def clip(folder: Path) -> Clip:
    operator = Clip(SETTING, ModelSettings(model=str(folder)))
    operator.check(online=False)
    operator.setup()
    return operator


@pytest.fixture(scope="module")
def ours(clip_folder: Path) -> Clip:
    return clip(clip_folder)


def embeddings(table: pa.Table) -> np.ndarray:
    return np.array(table["clip_embedding"].to_pylist(), np.float32)


def test_scores_are_those_of_transformers(ours: Clip, clip_folder: Path) -> None:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    images, texts = pictures(COUNT), captions(COUNT)
    found = ours.process(rows(texts), images)
    model, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    with torch.inference_mode():
        output = model(**processor(text=texts, images=images, return_tensors="pt", padding=True))
    np.testing.assert_allclose(embeddings(found), output.image_embeds.numpy(), atol=1e-3)
    cosines = (output.image_embeds * output.text_embeds).sum(dim=-1).numpy()
    np.testing.assert_allclose(found["clip_similarity"].to_numpy(), cosines, atol=2e-6)
    assert cosines.max() - cosines.min() > 0.1  # the model does tell the pictures apart


def test_columns_are_as_declared(ours: Clip) -> None:
    found = ours.process(rows(captions(2)), pictures(2))
    assert [found.schema.field(f.name) for f in ours.writes] == list(ours.writes)
    assert found.schema.field("clip_embedding").type == pa.list_(pa.float16(), 48)
    np.testing.assert_allclose(np.linalg.norm(embeddings(found), axis=1), 1, atol=2e-3)


def test_width_is_known_before_the_model_is_loaded(clip_folder: Path) -> None:
    operator = Clip(SETTING, ModelSettings(model=str(clip_folder)))
    assert operator.writes[0].type == pa.list_(pa.float16())
    operator.check(online=False)
    assert operator.writes[0].type == pa.list_(pa.float16(), 48)


def test_batches_do_not_matter(ours: Clip) -> None:
    images, texts = pictures(COUNT), captions(COUNT)
    whole = ours.process(rows(texts), images)
    for order, size in ((list(range(COUNT)), 1), (list(range(COUNT)), 4), (list(reversed(range(COUNT))), 5)):
        parts = []
        for start in range(0, COUNT, size):
            some = order[start : start + size]
            parts.append(ours.process(rows([texts[i] for i in some]), [images[i] for i in some]))
        found = pa.concat_tables(parts)
        back = np.argsort(order)
        np.testing.assert_allclose(embeddings(found)[back], embeddings(whole), atol=1e-3)
        np.testing.assert_allclose(
            found["clip_similarity"].to_numpy()[back], whole["clip_similarity"].to_numpy(), atol=2e-6
        )


def test_threads_do_not_matter(clip_folder: Path, ours: Clip) -> None:
    threaded = Clip(SETTING, ModelSettings(model=str(clip_folder)))
    threaded.threads = 3
    threaded.setup()
    try:
        images = pictures(COUNT)
        np.testing.assert_array_equal(threaded.pixels(images).numpy(), ours.pixels(images).numpy())
    finally:
        threaded.close()


def test_no_caption_no_similarity(ours: Clip) -> None:
    text = captions(1)[0]
    found = ours.process(rows([None, text, "", "  \n"]), pictures(4))["clip_similarity"].to_pylist()
    assert [value is None for value in found] == [True, False, True, True]
    assert ours.process(rows([None]), pictures(1))["clip_similarity"].null_count == 1


def test_long_captions_are_cut_off_at_the_models_limit(ours: Clip) -> None:
    words = "a red star and a blue ring " * 60
    cut = " ".join(words.split()[:75])  # each of these words is one token, of the 77 two are the start and the end
    assert len(ours.tokenizer(cut).input_ids) == 77
    first, second = ours.process(rows([words, cut]), pictures(1) * 2)["clip_similarity"].to_pylist()
    assert first == pytest.approx(second, abs=2e-6)


def test_siglip_works_too(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoProcessor, SiglipConfig, SiglipImageProcessorPil, SiglipModel

    from tests.tiny_models import SIDE, tiny_clip_tokenizer

    tokenizer = tiny_clip_tokenizer()
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**layers, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config={**layers, "image_size": SIDE, "patch_size": 8}))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    images, texts = pictures(3), captions(3)
    found = clip(tmp_path).process(rows(texts), images)
    assert found.schema.field("clip_embedding").type == pa.list_(pa.float16(), 32)
    loaded = AutoModel.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    given = tokenizer(texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt").input_ids
    pixels = getattr(processor, "image_processor", processor)(images=images, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        output = loaded(input_ids=given, pixel_values=pixels)
    cosines = (output.image_embeds * output.text_embeds).sum(dim=-1).numpy()
    np.testing.assert_allclose(found["clip_similarity"].to_numpy(), cosines, atol=2e-6)


def test_what_is_no_dual_encoder_is_refused(classifier_folder: Path) -> None:
    with pytest.raises(ConfigError, match="is of type 'vit'; an encoder of images and of texts is needed") as caught:
        clip(classifier_folder)
    assert caught.value.path == SETTING
