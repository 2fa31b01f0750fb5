"""What two ranks tell one another, as `torchrun` starts them: `python -m torch.distributed.run -m tests.train.ranks
FOLDER`. Each writes what it raised."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from accelerate import Accelerator

from curation.errors import CorruptionError, CurationError, StorageError
from curation.train.terminal import Stopped
from curation.train.together import agreed, raise_together

MET: dict[str, tuple[CurationError | None, CurationError | None]] = {
    "nothing": (None, None),
    "damage": (None, CorruptionError("sample 7 is damaged")),
    "away": (None, StorageError("the bucket is away")),
    "both": (CorruptionError("sample 3 is damaged"), StorageError("the bucket is away")),
}


def main(folder: str) -> None:
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    told = {}
    for case, errors in MET.items():
        try:
            raise_together(accelerator, errors[rank])
            told[case] = ""
        except CurationError as error:
            told[case] = f"{type(error).__name__}: {error}"
    wish = agreed(accelerator, Stopped(signal.SIGTERM) if rank == 1 else None)
    told["wish"] = f"{type(wish).__name__}: {wish}"
    told["no wish"] = str(agreed(accelerator, None))
    Path(folder, f"{rank}.json").write_text(json.dumps(told))
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
