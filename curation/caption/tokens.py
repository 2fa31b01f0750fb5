"""How many tokens a caption has for the student's text encoder, which stops reading at a limit (77 for CLIP's).

A tokenizer is a local folder, a name on the hub, or a folder within a repository of the hub: `org/model/tokenizer_2` is
the second one of an SDXL repository. The caption stage counts with it; the report shows what would be cut off.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from curation.errors import ConfigError
from curation.hub import fetch_file, load_fault
from curation.model_signature import model_signature
from curation.models import check_installed, is_local
from curation.text import first_line

SETTING = "stages.caption.tokenizer"
_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")


def split_name(tokenizer: str) -> tuple[str, str]:
    """Repository (or local folder) and the folder in it, "" for none."""
    parts = tokenizer.split("/")
    if Path(tokenizer).expanduser().is_dir() or len(parts) < 3 or parts[0] in ("", ".", "..", "~"):
        return tokenizer, ""
    repository = "/".join(parts[:2])
    return (tokenizer, "") if is_local(repository) else (repository, "/".join(parts[2:]))


class TokenCounter:
    """Counts tokens. Made in the driver; `setup` loads the tokenizer in each worker."""

    def __init__(self, tokenizer: str) -> None:
        self._given = tokenizer
        self._name, self._subfolder = split_name(tokenizer)
        self._tokenizer: Any = None

    def identity(self) -> dict[str, Any]:
        """What changes the counts. Raises ConfigError where a local folder is missing."""
        files = None if self._subfolder else model_signature(SETTING, self._name)
        return {"files": files} if files is not None else {"tokenizer": self._given}

    def check(self, online: bool) -> None:
        """Refuse a tokenizer that cannot be loaded; one on the hub only if `online`. Raises ConfigError."""
        check_installed(SETTING, "transformers")
        if self._subfolder or not is_local(self._name):
            if online:
                # Alone, `transformers` would try for more than a minute to reach a hub that is not there.
                fetch_file(SETTING, self._name, f"{self._subfolder}/tokenizer_config.json".lstrip("/"), None)
                copy.copy(self).setup()
            return
        folder = Path(self._name).expanduser()
        if not folder.is_dir():
            raise ConfigError(SETTING, f"no folder {self._given}")
        if not any((folder / name).exists() for name in _FILES):
            inner = sorted(path.name for path in folder.glob("tokenizer*") if path.is_dir())
            hint = f"; it has folders of tokenizers: {', '.join(inner)}" if inner else ""
            raise ConfigError(SETTING, f"{self._given} holds no tokenizer{hint}")
        copy.copy(self).setup()  # what is loaded here is not for the workers

    def setup(self) -> None:
        """Load the tokenizer. Raises ConfigError where that fails."""
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # it warns of texts beyond the limit, which are what is counted here
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                str(Path(self._name).expanduser()) if is_local(self._name) else self._name,
                subfolder=self._subfolder,
                trust_remote_code=False,
            )
        except Exception as error:  # of several libraries: no such model, gated, offline, damaged files
            raise load_fault(SETTING, f"{self._given} cannot be loaded: {first_line(error)}", error) from None

    def count(self, texts: Iterable[str]) -> Sequence[int]:
        """Tokens of each text, start and end included where the tokenizer has them, nothing cut off."""
        given = list(texts)
        if not given:
            return []
        return [len(ids) for ids in self._tokenizer(given, truncation=False, padding=False)["input_ids"]]
