"""What all trainings of the zoo share: a loop that survives being killed, an average of the weights, a schedule.

The learning rate rises over the first steps, stays, and falls to zero over the last fifth (Hu et al. 2024, MiniCPM,
"WSD"): so a training can be stopped and made longer before its fall begins. Kept weights are an exponential average.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

WARM_UP = 200
FALL = 0.2
"""Share of the steps over which the learning rate falls."""


def arguments(
    doc: str, steps: int, batch: int, out: str, more: Mapping[str, tuple[int, str]] | None = None
) -> argparse.Namespace:
    """The command line of a training: --steps, --batch, --seed, --work (checkpoints), --out (the finished model).

    `more` adds numbers of its own by name: their default, and what they mean.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"), help="checkpoints and logs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "models" / out)
    for name, (default, what) in (more or {}).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=what)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    return given


def rate(step: int, steps: int) -> float:
    """Factor of the learning rate before step `step` of `steps`."""
    fall = max(1, round(FALL * steps))
    return min((step + 1) / min(WARM_UP, steps), 1.0, (steps - step) / fall)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def in_bf16() -> Iterator[None]:
    """Forward passes in bfloat16. On CPUs with plain attention: torch's fused one takes four times as long to go back
    through as the rest of a small model together."""
    with torch.autocast(device().type, torch.bfloat16):
        if device().type == "cpu":
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield


class Training:
    """Steps of AdamW over some modules, with an average of their weights and a checkpoint every few minutes.

    `loss(step)` gives the loss of a batch that is a pure function of the step, so a resumed training sees what an
    unbroken one would have seen. Raises FloatingPointError where the loss is no number.
    """

    def __init__(
        self,
        name: str,
        modules: nn.Module,
        work: Path,
        *,
        steps: int,
        lr: float,
        weight_decay: float = 0.01,
        average: float = 0.999,
        save_s: float = 300,
    ) -> None:
        self.modules, self.steps, self.save_s, self._average = modules, steps, save_s, average
        self._lr = lr
        self._checkpoint, self._log = work / f"{name}.pt", work / f"{name}.jsonl"
        self._optimizer = torch.optim.AdamW(
            [p for p in modules.parameters() if p.requires_grad],
            lr=lr,
            weight_decay=weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.averaged = {name: value.detach().clone() for name, value in modules.state_dict().items()}
        self.step = 0
        self.seconds = 0.0
        if self._checkpoint.exists():
            self._load()

    def run(
        self, loss: Callable[[int], Tensor], report: Callable[[int], Iterable[tuple[str, float]]] | None = None
    ) -> None:
        """Do the steps that are left. `report(step)` may add figures to the log at each checkpoint."""
        saved = started = time.monotonic()
        before, total, count = self.seconds, 0.0, 0
        while self.step < self.steps:
            for group in self._optimizer.param_groups:
                group["lr"] = self._lr * rate(self.step, self.steps)
            value = loss(self.step)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            self.step += 1
            self._update_average()
            total, count = total + value.item(), count + 1
            if total != total:
                raise FloatingPointError(f"the loss is not a number at step {self.step}")
            if self.step % 100 == 0 or self.step == self.steps:
                self.seconds = before + time.monotonic() - started
                line = {"step": self.step, "loss": round(total / count, 6), "seconds": round(self.seconds)}
                total, count = 0.0, 0
                if time.monotonic() - saved > self.save_s or self.step == self.steps:
                    line |= dict(report(self.step)) if report else {}
                    self.save()
                    saved = time.monotonic()
                print(json.dumps(line), flush=True)
                with self._log.open("a") as log:
                    log.write(json.dumps(line) + "\n")

    def _update_average(self) -> None:
        keep = min(self._average, self.step / (self.step + 10))
        for name, value in self.modules.state_dict().items():
            if value.is_floating_point():
                self.averaged[name].lerp_(value.detach(), 1 - keep)
            else:
                self.averaged[name].copy_(value)

    def save(self) -> None:
        """Write the checkpoint: a temporary file, renamed."""
        state = {
            "modules": self.modules.state_dict(),
            "averaged": self.averaged,
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self._checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self._checkpoint)

    def _load(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True, map_location=device())
        self.modules.load_state_dict(state["modules"])
        self.averaged = state["averaged"]
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"{self._checkpoint}: goes on at step {self.step}", flush=True)

    @contextmanager
    def with_average(self) -> Iterator[None]:
        """The modules have the averaged weights in this block."""
        own = {name: value.clone() for name, value in self.modules.state_dict().items()}
        self.modules.load_state_dict(self.averaged)
        self.modules.eval()
        try:
            yield
        finally:
            self.modules.load_state_dict(own)
            self.modules.train()

    def finish(self) -> None:
        """Put the averaged weights into the modules."""
        self.modules.load_state_dict(self.averaged)
        self.modules.eval()
