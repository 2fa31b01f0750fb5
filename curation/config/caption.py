"""Settings of caption: an open vision-language model writes captions of several lengths."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, ValidationInfo, field_validator, model_validator

from curation.config.base import BatchRun, Settings
from curation.config.score import Model

Kind = Literal["dense", "medium", "short"]

SCRIPTS = (  # as the Unicode names of their letters begin; `han` is what Unicode calls CJK
    *("latin", "greek", "cyrillic", "armenian", "georgian", "hebrew", "arabic", "ethiopic", "devanagari", "bengali"),
    *("gurmukhi", "gujarati", "oriya", "tamil", "telugu", "kannada", "malayalam", "sinhala", "thai", "lao", "tibetan"),
    *("myanmar", "khmer", "mongolian", "han", "hiragana", "katakana", "hangul", "bopomofo"),
)


def _scripts(given: Any) -> Any:
    names = [given] if isinstance(given, str) else given
    for name in names if isinstance(names, list | tuple) else ():
        if name not in SCRIPTS:
            raise ValueError(f"no writing system {name!r}; there is {', '.join(SCRIPTS)}")
    return names


Scripts = Annotated[tuple[str, ...], BeforeValidator(_scripts), Field(min_length=1)]

MAX_TOKENS: dict[Kind, int] = {"dense": 256, "medium": 96, "short": 40}
WORDS: dict[Kind, tuple[int, int]] = {"dense": (20, 220), "medium": (8, 60), "short": (3, 25)}


class CaptionRun(BatchRun):
    """Speed of caption, and what it costs."""

    batch: int = Field(16, ge=1)
    """Images that one worker has in hand; a crash loses at most these."""
    concurrency: int = Field(64, ge=1)
    """`openai` only: requests at once, over all workers together."""
    timeout_s: float = Field(120, gt=0)
    """`openai` only: deadline of one request."""
    retries: int = Field(4, ge=0)
    """`openai` only: further tries, with backoff, where the server is busy or away."""
    price_per_hour: float = Field(2.0, ge=0)
    """Price of one GPU (or of one worker without a GPU) for an hour; the report estimates costs from it."""


class CaptionSettings(Settings):
    """One pass over the image writes the dense caption; checks decide; shorter kinds follow from it."""

    backend: Literal["transformers", "openai"] = "transformers"
    """`transformers`: the model runs in the workers. `openai`: any endpoint that speaks OpenAI's chat completions."""
    model: str
    """Local folder or name on the hub; for `openai` the name that the endpoint knows."""
    revision: str | None = None
    """Commit on the hub."""
    endpoint: str | None = None
    """`openai` only: base address, `http://host:8000/v1`."""
    api_key_env: str = "OPENAI_API_KEY"
    """`openai` only: the environment variable that holds the key; none is sent where it is not set."""
    kinds: tuple[Kind, ...] = ("dense",)
    """Kinds to write: columns `caption_dense`, `caption_medium`, `caption_short`; the original text stays, as `alt`."""
    prompts: dict[Kind, str] = Field({})
    """Prompts in place of the built-in ones. A prompt that holds `{caption}` works on the dense caption alone."""
    shorten: Literal["text", "image"] = "text"
    """Where shorter kinds come from: the dense caption (the same model, text only), or the image again."""
    keep_names: bool = False
    """Work proper names of the original caption, which no model can see in the image, into the dense caption."""
    max_side: int = Field(1024, ge=16)
    """Longer side, in pixels, of the image that the model gets; larger ones are scaled down."""
    max_tokens: dict[Kind, PositiveInt] = Field(MAX_TOKENS)
    """Tokens that the model may write; kinds that are not named keep their defaults."""
    words: dict[Kind, tuple[int, int]] = Field(WORDS)
    """Fewest and most words of a good caption; kinds that are not named keep their defaults."""
    script: Scripts | None = ("latin",)
    """Writing system that most letters must belong to, or several that count together (`[han, hiragana, katakana]`);
    null turns the check off."""
    min_similarity: float | None = Field(None, ge=-1, le=1)
    """Reject captions whose cosine similarity to the image, by `clip`, is lower."""
    clip: Model | None = None
    """CLIP for `min_similarity`."""
    seed: int = 0
    """Seed of the second try, which samples at temperature 0.7; the first is greedy."""
    tokenizer: str = "openai/clip-vit-large-patch14"
    """Tokenizer of the student's text encoder, local folder or name on the hub: tokens are counted with it."""
    token_limit: int = Field(77, ge=1)
    """Tokens that the student's text encoder reads, start and end included; the report shows what is cut off."""
    run: CaptionRun = CaptionRun()
    """Speed and price only."""

    @model_validator(mode="after")
    def _together(self) -> CaptionSettings:
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ValueError("`kinds` names each kind once, at least one")
        if (self.min_similarity is None) != (self.clip is None):
            raise ValueError("`min_similarity` and `clip` go together")
        if (self.backend == "openai") != (self.endpoint is not None):
            raise ValueError("`endpoint` goes with `backend: openai`, and must be given there")
        if "dense" not in self.kinds and (self.shorten == "text" or self.keep_names):
            raise ValueError("`shorten: text` and `keep_names` need `dense` among the kinds")
        for kind, (fewest, most) in self.words.items():
            if not 0 < fewest <= most:
                raise ValueError(f"`words.{kind}` must be [fewest, most], both over 0")
        return self

    @field_validator("max_tokens", "words", mode="before")
    @classmethod
    def _over_defaults(cls, given: Any, info: ValidationInfo) -> Any:
        """Fill in the kinds that are not named."""
        defaults = MAX_TOKENS if info.field_name == "max_tokens" else WORDS
        return {**defaults, **given} if isinstance(given, dict) else given
