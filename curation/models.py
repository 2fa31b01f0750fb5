"""Models in the format of `transformers`: is it there, may it be loaded, on what device.

A model is a local folder or a name on the hub. It is loaded from safetensors alone, and never with code of its own.
Score and caption ask `check_model` before any work starts, so that a missing folder is not found out after a night of
fetching; workers then load with `load_options`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import ConfigError
from curation.hub import fetch_file

if TYPE_CHECKING:
    import torch

_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def is_local(model: str) -> bool:
    """Whether `model` means a folder on this machine (there or not), not a name on the hub."""
    return Path(model).expanduser().is_dir() or not _HUB_NAME.fullmatch(model)


def located(model: str) -> str:
    """What `from_pretrained` understands: the folder with `~` resolved, or the name on the hub as it is."""
    return str(Path(model).expanduser()) if is_local(model) else model


def check_installed(setting: str, *packages: str, extra: str = "models") -> None:
    """Refuse what needs packages that are not installed; `extra` has them. Raises ConfigError."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(
            setting, f"needs {' and '.join(missing)}, of the extra `{extra}`: pip install 'curation[{extra}]'"
        )


def check_training() -> None:
    """Refuse to train without the packages that every recipe needs. Raises ConfigError."""
    check_installed("recipe", "torch", "transformers", "diffusers", "accelerate", "tensorboardX", extra="train")


def check_model(setting: str, model: str, revision: str | None, *, online: bool) -> dict[str, Any] | None:
    """Refuse a model that cannot be loaded, before any work. Raises ConfigError naming `setting`.

    A local folder is looked at whole: configuration, safetensors, no code of its own. Of a model on the hub only the
    configuration is asked for, and only if `online`. Returns the configuration, or None where it was not looked at.
    """
    check_installed(setting, "torch", "transformers")
    if is_local(model):
        folder = Path(model).expanduser()
        if folder.is_file():
            raise ConfigError(setting, f"{model} is a file; a model is a folder")
        if not folder.is_dir():
            raise ConfigError(setting, f"no folder {model}")
        config = _read_config(setting, folder / "config.json", model)
        _check_code(setting, config, model)
        check_weights(setting, folder)
        return config
    if not online:
        return None
    config = _read_config(setting, fetch_file(setting, model, "config.json", revision), model)
    _check_code(setting, config, model)
    return config


def _read_config(setting: str, path: Path, model: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(setting, f"{model} holds no config.json: it is no model of `transformers`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(setting, f"config.json of {model} cannot be read: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ConfigError(setting, f"config.json of {model} names no `model_type`")
    return config


def _check_code(setting: str, config: dict[str, Any], model: str) -> None:
    """Refuse models that `transformers` knows only through Python files that come with them."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config["model_type"] not in CONFIG_MAPPING_NAMES:
        what = "needs code from its own folder, which is never run" if "auto_map" in config else "is not known here"
        raise ConfigError(setting, f"{model} is of type {config['model_type']!r}, which {what}")


def check_weights(setting: str, folder: Path) -> None:
    """Refuse a folder without safetensors, or with damaged ones. Raises ConfigError."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            wanted = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ConfigError(setting, f"{index} cannot be read: {error}") from None
        missing = sorted(wanted - {file.name for file in files})
        if missing:
            raise ConfigError(setting, f"{folder} lacks {', '.join(missing[:3])}, which its index names")
    if not files:
        only = " (pickles are never loaded)" if any(any(folder.glob(name)) for name in _PICKLES) else ""
        raise ConfigError(setting, f"{folder} holds no safetensors{only}")
    for file in files:
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ConfigError(setting, f"{file} is damaged: {error}") from None


def check_whole(setting: str, model: str, told: Mapping[str, Any]) -> None:
    """Refuse weights that lack tensors: `transformers` fills them with random numbers, and only warns. `told` is what
    it says of its loading (`output_loading_info`). Raises ConfigError."""
    lacking = sorted({*told["missing_keys"], *(key for key, *_ in told.get("mismatched_keys", ()))})
    if lacking:
        raise ConfigError(setting, f"the weights of {model} lack {', '.join(lacking[:3])}")


def load_options(revision: str | None) -> dict[str, Any]:
    """Keyword arguments of every `from_pretrained` of this project that loads weights."""
    return {"revision": revision or "main", "use_safetensors": True, "trust_remote_code": False}


def device_and_dtype(gpus: float, setting: str = "run.gpus") -> tuple[torch.device, torch.dtype]:
    """Where a worker's model runs and in what: bf16 (fp16 where there is none) on a GPU that was asked for, else fp32.

    Raises ConfigError naming `setting` where GPUs were asked for and torch sees none.
    """
    import torch

    if not gpus:
        return torch.device("cpu"), torch.float32
    if not torch.cuda.is_available():
        raise ConfigError(setting, f"{gpus:g} GPUs a worker were asked for, and torch sees none")
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.device("cuda"), torch.bfloat16 if native else torch.float16


def limit_threads(threads: int) -> None:
    """So many for torch in this process."""
    import torch

    torch.set_num_threads(threads)


def quieten() -> None:
    """Keep progress bars, and a line for each caption that is longer than the encoder takes, out of logs and
    terminals."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging

    for given in (logging, diffusers_logging):
        given.set_verbosity_error()
        given.disable_progress_bar()


def forget_places(folder: Path) -> None:
    """Take from the configurations below `folder` where on this machine their models were loaded from, which diffusers
    writes there: a folder is made to be passed on."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
