"""What a caption backend is: requests in, texts out, one reply for each request and in the same order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Request:
    """One text to write."""

    uid: str
    prompt: str
    image: Image.Image | None
    """RGB, already scaled to `max_side`; None for work on text alone."""
    max_tokens: int
    seed: int = 0
    temperature: float = 0.0
    """0 is greedy."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote, as it wrote it; or why there is nothing."""

    text: str = ""
    tokens: int = 0
    """Tokens written."""
    cut_off: bool = False
    """It ended at `max_tokens`."""
    error: str | None = None
    """The backend could not answer this one (a fault of that row); rows beside it are not touched."""


class Backend(ABC):
    """A model that writes captions. Constructed in the driver, set up in each worker: picklable until `setup`."""

    def check(self, online: bool) -> None:
        """Refuse what cannot work, before any work starts. Raises ConfigError."""

    @abstractmethod
    def setup(self, workers: int) -> None:
        """Load the model, or open connections; `workers` share what the settings allow over all."""

    @abstractmethod
    async def write(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply a request, in the same order.

        Raises RunError where nothing can go on (no endpoint, a refused key); a bug raises anything else.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what `setup` took."""
