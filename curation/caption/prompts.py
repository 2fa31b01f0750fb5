"""What the model is asked: built-in prompts, and the user's own in their place.

A prompt that holds `{caption}` works on the dense caption alone; any other goes with the image. `FUSE` works proper
names of the original caption into the dense one. The caption stage asks `prompts_of` when it is made, before any work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from curation.config.caption import CaptionSettings, Kind
from curation.errors import ConfigError

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SETTING = "stages.caption.prompts"


@dataclass(frozen=True)
class Prompt:
    """A text with `{placeholders}`; every other brace means itself."""

    text: str

    @property
    def placeholders(self) -> frozenset[str]:
        """Names that `fill` must be given."""
        return frozenset(_PLACEHOLDER.findall(self.text))

    @property
    def on_text(self) -> bool:
        """Works on the dense caption, without the image."""
        return "caption" in self.placeholders

    def fill(self, **values: str) -> str:
        """The text to send. What stands in `values` is taken as it is: braces in a caption are no placeholders."""
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)


# In the spirit of the prompts of LAION-POP (2023) and of KOALA (Lee et al. 2024, long captions by LLaVA-1.5): facts
# that can be seen, in the order in which a text encoder that stops reading at 77 tokens should meet them.
DENSE = Prompt(
    "Describe this image for someone who has to paint it without seeing it. Begin with the main subject, then give "
    "every visible object with its number, colour, material, size and position, what people or animals do and how they "
    "are dressed, the background and the setting, the light, the colours, and the camera angle. Name the style: "
    "photograph, painting, drawing, 3D render or other. Quote readable text. State only what can be seen: no guesses, "
    "no opinions, no moods, nothing about what is absent. Write one paragraph of plain sentences, without a list and "
    'without an opening such as "The image shows".'
)
MEDIUM_FROM_IMAGE = Prompt(
    "Describe this image in one or two sentences of at most 40 words: the main subjects with their number and "
    "colours, what they do, where they are, and the style. State only what can be seen, without an opening such as "
    '"The image shows".'
)
SHORT_FROM_IMAGE = Prompt(
    "Write a caption of at most 15 words for this image: the main subject and the setting, nothing else. Answer with "
    "the caption alone."
)
MEDIUM_FROM_TEXT = Prompt(
    "Here is a description of an image:\n\n{caption}\n\nShorten it to one or two sentences of at most 40 words. Keep "
    "the main subjects with their number and colours, what they do, where they are, and the style. Add nothing. Answer "
    "with the shortened description alone."
)
SHORT_FROM_TEXT = Prompt(
    "Here is a description of an image:\n\n{caption}\n\nWrite a caption of at most 15 words from it: the main subject "
    "and the setting, nothing else. Add nothing. Answer with the caption alone."
)
FUSE = Prompt(
    "Here is a description of an image:\n\n{caption}\n\nThe image was published with these names: {names}. Rewrite the "
    "description so that a name stands in place of the words that describe the same person, place, work or product. "
    "Leave out a name that fits nothing in the description. Change nothing else and add nothing. Answer with the "
    "description alone."
)

_FROM_IMAGE: dict[Kind, Prompt] = {"dense": DENSE, "medium": MEDIUM_FROM_IMAGE, "short": SHORT_FROM_IMAGE}
_FROM_TEXT: dict[Kind, Prompt] = {"dense": DENSE, "medium": MEDIUM_FROM_TEXT, "short": SHORT_FROM_TEXT}


def prompts_of(settings: CaptionSettings) -> dict[Kind, Prompt]:
    """The prompt of each kind in `settings.kinds`, in that order. Raises ConfigError for a prompt that cannot work.

    `dense` is written from the image always. All of the user's prompts are looked at, those of unused kinds too.
    """
    for kind, text in settings.prompts.items():
        _check(kind, Prompt(text), settings)
    built_in = _FROM_TEXT if settings.shorten == "text" else _FROM_IMAGE
    return {
        kind: Prompt(settings.prompts[kind]) if kind in settings.prompts else built_in[kind] for kind in settings.kinds
    }


def _check(kind: Kind, prompt: Prompt, settings: CaptionSettings) -> None:
    where = f"{_SETTING}.{kind}"
    if not prompt.text.strip():
        raise ConfigError(where, "is empty")
    unknown = sorted(prompt.placeholders - {"caption"})
    if unknown:
        raise ConfigError(where, f"holds {{{unknown[0]}}}; the only placeholder is {{caption}}, the dense caption")
    if prompt.on_text and kind == "dense":
        raise ConfigError(where, "holds {caption}, but the dense caption comes from the image")
    if prompt.on_text and kind in settings.kinds and "dense" not in settings.kinds:
        raise ConfigError(where, "holds {caption}, the dense caption, which is not among `kinds`")
