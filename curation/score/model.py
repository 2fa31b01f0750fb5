"""What operators over a model of `transformers` share: checks before the work, loading, and pixels as a tensor."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from curation.config import ModelSettings
from curation.hub import load_fault
from curation.model_signature import model_signature
from curation.models import check_model, check_whole, device_and_dtype, is_local, load_options, located
from curation.op import Cost, ImageOperator
from curation.text import first_line

if TYPE_CHECKING:
    import torch
    from PIL import Image

WHOLE = 1 << 16
"""`side` for processors that name no size: no picture is larger."""


class ModelOperator(ImageOperator):
    """Runs a model over pictures. Constructed in the driver; a worker's `setup` loads the model."""

    cost = Cost.GPU
    auto_class: ClassVar[str]
    """Class of `transformers` that loads the model."""
    threads = 1
    """That prepare pictures; the stage says how many cores are a worker's."""

    def __init__(self, setting: str, settings: ModelSettings, gpus: float = 0) -> None:
        """`setting`: dotted path of `settings`; `gpus`: what the worker has."""
        self.setting = setting
        self.settings = settings
        self.gpus = gpus

    def identity(self) -> dict[str, Any]:
        """What changes the scores. Of a local model its files: where it lies changes nothing."""
        files = model_signature(self.setting, self.settings.model)
        place = {"model", "revision"} if files is not None else set()
        return {"model": self.settings.model_dump(mode="json", exclude=place), "files": files}

    def check(self, online: bool) -> None:
        """Refuse a model that cannot work, before any work starts. Raises ConfigError.

        A local folder is looked at whole; of a model on the hub the configuration, and only if `online`.
        """
        check_model(self.setting, self.settings.model, self.settings.revision, online=online)
        if is_local(self.settings.model) or online:
            self._check_config(self._load("AutoConfig"))
        if is_local(self.settings.model):
            copy.copy(self)._load_processors()  # what it loads here is not for the workers

    @abstractmethod
    def _check_config(self, config: Any) -> None:
        """Raises ConfigError where the model's configuration does not suit the settings."""

    def setup(self) -> None:
        """Load the model. Raises ConfigError where it cannot be loaded as it is."""
        import torch

        _quieten()
        self.device, _ = device_and_dtype(self.gpus, "stages.score.run.gpus")
        # Where it runs must not decide about rows: in bf16 an aesthetic score is off by 0.01 (rms) and 0.02 at most.
        self.dtype = torch.float32
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32: as fine as fp16, and without its overflows
        options = {**load_options(self.settings.revision), "dtype": self.dtype, "output_loading_info": True}
        model, told = self._load(self.auto_class, **options)
        check_whole(self.setting, self.settings.model, told)
        self._check_config(model.config)
        self._load_processors()
        self.model = model.to(self.device).eval()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="prepare") if self.threads > 1 else None

    def _load_processors(self) -> None:
        """Called when the configuration was checked. Raises ConfigError."""
        # Torchvision resizes a little differently: scores must not depend on whether it is installed.
        self.images = self._load("AutoImageProcessor", backend="pil")
        self.side = shorter_side(self.images)

    def _load(self, auto_class: str, **options: Any) -> Any:
        """What a class of `transformers` loads. Raises ConfigError naming the setting."""
        import transformers

        model = self.settings.model
        options = {"revision": self.settings.revision or "main", "trust_remote_code": False, **options}
        try:
            return getattr(transformers, auto_class).from_pretrained(located(model), **options)
        except Exception as error:  # a dozen kinds: files missing or damaged, of another model, a library not there
            problem = f"{model} cannot be loaded ({auto_class}): {first_line(error)}"
            raise load_fault(self.setting, problem, error) from error

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[N, 3, H, W] as the model takes them, on its device."""
        import torch

        if self._pool is None:
            prepared = [self._one(image) for image in images]
        else:
            prepared = list(self._pool.map(self._one, images))
        return torch.cat(prepared).to(self.device, self.dtype)

    def _one(self, image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = self.images(images=[image], return_tensors="pt")["pixel_values"]
        return pixels

    def close(self) -> None:
        if getattr(self, "_pool", None) is not None:
            self._pool.shutdown()  # type: ignore[union-attr]
        self.model = None


def _quieten() -> None:
    """Keep `transformers` from writing to a worker's log what is no news."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def shorter_side(processor: Any) -> int:
    """Pixels that a picture's shorter side needs so that an image processor never enlarges it."""
    sizes = [dict(size) for size in (processor.size, getattr(processor, "crop_size", None)) if size]
    return max((value for size in sizes for key, value in size.items() if "pixels" not in key), default=WHOLE)
