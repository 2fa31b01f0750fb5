import json
import sys

import pytest

from benchmarks.measure import Case, alternate, cpu_seconds, report, run_command

BURN = "import time\nwhile time.process_time() < {}: pass"


def test_a_command_and_its_children_are_counted() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN.format(0.4)!r}]); print('done')"
    usage = run_command([sys.executable, "-c", child])
    assert usage.output == "done\n"
    assert usage.cpu >= 0.4
    assert usage.wall >= 0.4
    assert len(usage.processes) == 2


def test_a_daemon_that_left_its_parent_is_counted() -> None:
    daemon = (
        f"import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nx = b'1' * 40_000_000\n{BURN}"
    )
    usage = run_command([sys.executable, "-c", daemon.format(0.6)])
    assert usage.cpu >= 0.6
    assert max(process.peak_rss for process in usage.processes) > 40_000_000
    assert usage.peak_memory > 40_000_000


def test_a_child_that_nobody_waits_for_is_counted() -> None:
    """Its parent throws its times away, so they come from /proc, up to the last sample."""
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {BURN.format(1.0)!r}])\n"
        "while open(f'/proc/{child.pid}/stat').read() if __import__('os').path.exists(f'/proc/{child.pid}') else '':\n"
        "    time.sleep(0.05)\n"
    )
    assert run_command([sys.executable, "-c", code], check=False).cpu >= 0.2


def test_exit_codes() -> None:
    assert run_command(["sh", "-c", "exit 3"], check=False).returncode == 3
    assert run_command(["sh", "-c", "kill -9 $$"], check=False).returncode == 128 + 9
    with pytest.raises(RuntimeError, match="ended with 3"):
        run_command(["sh", "-c", "exit 3"])


def test_report_ends_with_the_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    report("toy", [Case("small", "s", 2.0, {"peer": 4.0}, 1.0, "<= 3 x floor"), Case("large", "images/s", 7.0)])
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1]) == {
        "benchmark": "toy",
        "cases": [
            {"case": "small", "unit": "s", "ours": 2.0, "peers": {"peer": 4.0}, "floor": 1.0},
            {"case": "large", "unit": "images/s", "ours": 7.0, "peers": {}},
        ],
    }
    assert any("<= 3 x floor" in line for line in lines[:-1])


def test_alternating_medians() -> None:
    calls = []
    values = {"a": iter([9.0, 1.0, 2.0]), "b": iter([5.0, 6.0, 4.0])}

    def run(name: str) -> float:
        calls.append(name)
        return next(values[name])

    assert alternate({name: lambda name=name: run(name) for name in "ab"}) == {"a": 2.0, "b": 5.0}  # type: ignore[misc]
    assert "".join(calls) == "abbaab"


def test_cpu_seconds_of_this_process() -> None:
    assert cpu_seconds(lambda: sum(range(3_000_000))) > 0
