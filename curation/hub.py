"""The hub of models: is it that it does not have what was asked for, or that it cannot be asked just now?

The first is a wrong setting; the second passes, and a run that it stopped goes on with the same command.
"""

from __future__ import annotations

import time
from pathlib import Path

from curation.errors import ConfigError, StorageError
from curation.text import one_line

TIMEOUT_S = 10.0
"""So long may the hub take to say whether it has a file."""
WAITS_S = (1.0, 3.0)
"""Before it is asked again."""
_NETWORK = ("httpx", "httpcore")


def load_fault(setting: str, problem: str, error: BaseException) -> ConfigError | StorageError:
    """What to raise where a model could not be loaded because of `error`: StorageError where the hub is away."""
    return StorageError(f"{setting}: {problem}") if is_away(error) else ConfigError(setting, problem)


def is_away(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that the hub cannot be reached or is too busy to answer."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if type(error).__name__ == "OfflineModeIsEnabled":  # a ConnectionError, but a wish
            return False
        if isinstance(status, int):
            return status in (408, 429) or status >= 500
        if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(_NETWORK):
            return True
        error = error.__cause__ or error.__context__
    return False


def fetch_file(setting: str, model: str, name: str, revision: str | None) -> Path:
    """A file of a repository on the hub, from the local cache where it is there.

    Raises ConfigError naming `setting` where the hub does not have it, StorageError where it is away.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(model, name, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    for wait in (*WAITS_S, None):
        try:
            # The download itself would try for half a minute to reach a hub that is not there.
            get_hf_file_metadata(hf_hub_url(model, name, revision=revision), timeout=TIMEOUT_S)
            return Path(hf_hub_download(model, name, revision=revision))
        except Exception as error:  # a dozen kinds, of several libraries: gated, no such model, no such revision
            if wait is None or not is_away(error):
                problem = f"{model} is neither a folder here nor to be had from the hub: {one_line(error, 300)}"
                raise load_fault(setting, problem, error) from None
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")
