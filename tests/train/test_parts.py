"""The loop's parts: rates, the average of the weights, metrics, what may differ between runs, curves, the terminal."""

from __future__ import annotations

import io
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from torch.nn.attention import SDPBackend, sdpa_kernel

from curation.config.train import EmaSettings, OptimizerSettings
from curation.errors import ConfigError
from curation.report.curves import curves
from curation.train.average import Average
from curation.train.flops import flops_of
from curation.train.identity import check_identity, identity
from curation.train.loop import total_loss
from curation.train.metrics import Metrics, read_metrics
from curation.train.optimizer import make_optimizer, rate
from curation.train.terminal import Stopped, Terminal
from tests.train.conftest import Make


def test_a_total_is_the_weighted_sum() -> None:
    losses = {"task": torch.tensor([1.0, 3.0]), "output": torch.tensor([10.0, 20.0]), "none": torch.tensor([9.0, 9.0])}
    weights = {"task": 1.0, "output": 0.5, "none": 0.0}
    assert total_loss(losses, weights).item() == pytest.approx((6 + 13) / 2)
    assert total_loss(losses, weights, torch.tensor([1.0, 0.0])).item() == pytest.approx(3)


def test_rates() -> None:
    constant = OptimizerSettings(warmup=4)
    assert [rate(step, 10, constant) for step in (0, 1, 3, 4, 9)] == [0.25, 0.5, 1, 1, 1]
    cosine = OptimizerSettings(warmup=2, schedule="cosine")
    assert [rate(step, 10, cosine) for step in (1, 2, 6, 10)] == pytest.approx([1, 1, 0.5, 0])


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"ema": {"every": 9}}, r"`ema\.every` is more than `loop\.steps`, 8: the average would never move"),
        ({"optimizer": {"betas": [1.0, 0.9]}}, r"optimizer\.betas\.0"),
    ],
)
def test_settings_that_could_not_work(section: dict[str, Any], told: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=told):
        make(tmp_path, **section)


def test_the_8_bit_optimiser_says_what_it_needs() -> None:
    parameters = [torch.nn.Parameter(torch.ones(3))]
    with pytest.raises(ConfigError, match="adamw8bit needs the package bitsandbytes"):
        make_optimizer(parameters, OptimizerSettings(kind="adamw8bit"))


def test_the_average_follows_slowly_at_its_own_pace() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = Average(model, EmaSettings(decay=0.5, every=2))
    expected = 0.0
    for step in range(1, 7):
        torch.nn.init.constant_(model.weight, step)
        average.update(step)
        if step % 2 == 0:
            before = step // 2 - 1
            decay = min(0.5, (1 + before) / (10 + before)) if before else 0.0
            expected = decay * expected + (1 - decay) * step
    assert average.weights()["weight"].item() == pytest.approx(expected)
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 6
    again = Average(torch.nn.Linear(1, 1, bias=False), EmaSettings(decay=0.5, every=2))
    again.load(average.weights(), average.updates)
    assert (again.weights()["weight"].item(), again.updates) == (average.weights()["weight"].item(), 3)


def test_the_average_has_statistics_of_its_own() -> None:
    """Those of the live weights would not fit the averaged ones."""
    model = torch.nn.BatchNorm1d(1)
    average = Average(model, EmaSettings(decay=0.5))
    wanted = torch.zeros(1)
    for step in range(1, 4):
        model(torch.full((2, 1), float(step)) + torch.tensor([[-1.0], [1.0]]))
        average.update(step)
        decay = min(0.5, step / (9 + step)) if step > 1 else 0.0
        wanted = decay * wanted + (1 - decay) * model.running_mean
    live = model.running_mean.clone()
    assert live.item() != pytest.approx(wanted.item())
    again = Average(torch.nn.BatchNorm1d(1), EmaSettings(decay=0.5))
    again.load(average.weights(), average.updates)
    assert again.weights()["running_mean"].item() == pytest.approx(wanted.item())
    with average.applied():
        assert model.running_mean.item() == pytest.approx(wanted.item())
    assert model.running_mean.equal(live)


def test_flops_are_those_of_the_products_whatever_kernel_makes_them() -> None:
    q, k, v = (torch.randn(2, 2, 16, 8, requires_grad=True) for _ in range(3))

    def attend(backend: SDPBackend) -> int:
        with sdpa_kernel(backend):
            return flops_of(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v).sum().backward())

    forward = 2 * 2 * (2 * 2 * 16 * 16 * 8)  # two products, of two operations a number, for each of 2 × 2 heads
    # Back: two products for each, and the fused kernels make the scores once more.
    assert attend(SDPBackend.MATH) == 3 * forward
    assert attend(SDPBackend.FLASH_ATTENTION) == 3.5 * forward


def test_lines_behind_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    first = Metrics(tmp_path, 0)
    for step in (1, 2, 3):
        first.add({"step": step, "loss": 0.1 * step, "losses": {"task": 1.0}})
    first.close()
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 4, "lo')  # killed while it wrote
    second = Metrics(tmp_path, 2)
    second.add({"step": 3, "loss": 9.0, "losses": {}})
    second.close()
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 0.1), (2, 0.2), (3, 9.0)]


def test_what_may_differ_between_runs_of_one_training(make: Make, tmp_path: Path) -> None:
    def seen(**given: Any) -> dict[str, Any]:
        return identity(make(tmp_path, **given), {"teacher": "a"})

    free: dict[str, Any] = {
        "loop": {"steps": 99, "log_every": 7, "checkpoint_every": 5, "keep": 9},
        "grids": {"prompts": ["x"]},
        "data": {"workers": 3},
        "name": "other",
    }
    check_identity(seen(**free), seen(), "out")
    for changed in ({"data": {"batch": 8}}, {"seed": 1}, {"optimizer": {"warmup": 3}}, {"loop": {"accumulate": 2}}):
        with pytest.raises(ConfigError, match="out holds checkpoints of another training"):
            check_identity(seen(**changed), seen(), "out")
    falling = {"optimizer": {"schedule": "cosine"}}
    with pytest.raises(ConfigError, match=r"loop\.steps: 8 there, 99 here"):
        check_identity(seen(**falling, loop={"steps": 99}), seen(**falling), "out")


def test_curves() -> None:
    drawn = curves("loss", {"a": [(0, 1.0), (10, 0.1), (20, math.nan)], "<b>": [(0, 0.5), (10, 0.0)]}, log=True)
    assert drawn.count("<polyline") == 2
    assert "nan" not in drawn
    assert "<b>" not in drawn
    assert "nothing yet" in curves("loss", {"a": []})
    assert curves("flat", {"a": [(1, 2.0), (2, 2.0)]}).count("grid-line") >= 2


def test_ctrl_c_ends_after_the_step_and_twice_at_once() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    try:
        written = io.StringIO()
        terminal = Terminal(Console(file=written, width=200))
        terminal.starts({"parameters": 1000, "steps": 20, "done": 10})
        line = {"step": 12, "loss": 0.5, "losses": {"task": 0.4, "output": 0.1}, "samples_per_s": 3.0}
        terminal.step({**line, "data_wait": 0.25, "peak_memory": 2_000_000})
        assert "parameters 1,000; 20 steps, goes on at step 10" in written.getvalue()
        assert "step 12/20  loss 0.5  task 0.4  output 0.1  3.0 samples/s  25% data wait" in written.getvalue()
        assert terminal.stop() is None
        os.kill(os.getpid(), signal.SIGTERM)
        stopped = terminal.stop()
        assert isinstance(stopped, Stopped)
        assert stopped.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        for signum, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(signum, handler)
