"""What one rank meets, all ranks hear of: the others would wait for it without end, or tell of a lost connection."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from curation.errors import CurationError, RunError, StorageError


def raise_together(accelerator: Accelerator, error: CurationError | None) -> None:
    """Raise on all ranks where one met an `error`: its own there, elsewhere what the others said.

    That is a StorageError only if it is one for each, which may be over in a moment; else a RunError.
    """
    if not any_rank(accelerator, error is not None):
        return
    rank = accelerator.process_index
    told = [f"rank {rank}: {error}"] if error is not None and accelerator.num_processes > 1 else []
    for_a_while = [isinstance(error, StorageError)] if error is not None else []
    if accelerator.num_processes > 1:
        told, for_a_while = gather_object(told), gather_object(for_a_while)
    if error is not None:
        raise error
    raise (StorageError if all(for_a_while) else RunError)("; ".join(told))


def agreed(accelerator: Accelerator, wish: BaseException | None) -> BaseException | None:
    """The wish of the first rank that has one, on all of them."""
    if accelerator.num_processes == 1 or not any_rank(accelerator, wish is not None):
        return wish
    wishes: list[BaseException] = gather_object([wish] if wish is not None else [])
    return wishes[0]


def any_rank(accelerator: Accelerator, wrong: bool) -> bool:
    """Whether it is so on any rank."""
    if accelerator.num_processes == 1:
        return wrong
    return bool(accelerator.reduce(torch.tensor([float(wrong)], device=accelerator.device), reduction="sum").item())
