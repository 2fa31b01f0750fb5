"""What a person sees who gets something wrong: one clear line, and the right exit code."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.scenes.gallery import Gallery
from tests.conftest import OpenGallery
from tests.journey import ROOT, curate_done, outcomes, settings, write_config
from tests.pack.make_bank import encoded, pixels
from tests.stream.foreign import add


def failed(folder: Path, data: dict[str, Any], *more: str, command: str = "run") -> tuple[int, str]:
    """Exit code and the one line of an unsuccessful command."""
    engine = ["--engine", "local"] if command == "run" else []
    code, _, err = curate_done(command, write_config(folder / "config.yaml", data), *engine, *more)
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    return code, lines[0]


def list_file(folder: Path, **columns: list[Any]) -> Path:
    path = folder / "list.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_unknown_setting(tmp_path: Path) -> None:
    data = settings(tmp_path / "list.parquet", tmp_path / "out", fetch={"min_sde": 3})
    for command in ("run", "plan"):
        code, line = failed(tmp_path, data, command=command)
        assert (code, line) == (2, "config error stages.fetch.min_sde: unknown setting; did you mean 'min_side'?")


def test_wrong_override(tmp_path: Path) -> None:
    data = settings(list_file(tmp_path, URL=["http://127.0.0.1/"], TEXT=["x"]), tmp_path / "out")
    code, line = failed(tmp_path, data, "--set", "stages.fetch.retries=often")
    assert code == 2
    assert line.startswith("config error stages.fetch.retries: Input should be a valid integer")


def test_missing_config_file(tmp_path: Path) -> None:
    code, _, err = curate_done("run", tmp_path / "no.yaml")
    assert (code, err.strip()) == (2, f"config error config file not found: {tmp_path / 'no.yaml'}")


def test_missing_list(tmp_path: Path) -> None:
    code, line = failed(tmp_path, settings(tmp_path / "no.parquet", tmp_path / "out"))
    assert code == 2
    assert line.startswith("config error source.path: ")
    assert "no.parquet" in line


def test_missing_column(tmp_path: Path) -> None:
    code, line = failed(tmp_path, settings(list_file(tmp_path, url=["x"], TEXT=["y"]), tmp_path / "out"))
    assert code == 2
    assert line.startswith("config error source.columns.url: ")
    assert "'URL'" in line
    assert "url" in line


def test_unreadable_parquet(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_bytes(b"PAR1 this is no Parquet file PAR1")
    code, line = failed(tmp_path, settings(tmp_path / "list.parquet", tmp_path / "out"))
    assert code == 1
    assert line.startswith("failed ")
    assert "list.parquet" in line
    assert line.endswith(f"(log: {tmp_path / 'out' / 'run.log'})")


def test_empty_list(tmp_path: Path) -> None:
    path = list_file(tmp_path, URL=pa.array([], pa.string()), TEXT=pa.array([], pa.string()))
    code, line = failed(tmp_path, settings(path, tmp_path / "out"))
    assert code == 1
    assert "no rows" in line


def test_all_rows_rejected(tmp_path: Path) -> None:
    path = list_file(tmp_path, URL=["not a url", "ftp://127.0.0.1/a.jpg", "http://127.0.0.1:9/a.jpg"], TEXT=list("abc"))
    code, line = failed(tmp_path, settings(path, tmp_path / "out"))
    assert code == 1
    assert "no row is left after stage fetch" in line
    assert "blocked_scheme" in line
    assert (tmp_path / "out" / "report.html").exists()


def test_wrong_sql(tmp_path: Path, gallery: OpenGallery) -> None:
    data = settings(gallery.listed, tmp_path / "out", select={"where": "sharpnes >= 4"})
    code, line = failed(tmp_path, data)
    assert code == 2
    assert line.startswith("config error stages.select.where: ")
    assert "sharpness" in line
    # The list was read, but nothing was fetched for a rule that cannot work.
    assert not list((tmp_path / "out").glob("fetch-*"))


def test_wrong_list_condition(tmp_path: Path, gallery: OpenGallery) -> None:
    data = settings(gallery.listed, tmp_path / "out")
    data["source"]["where"] = "URL ="
    code, line = failed(tmp_path, data)
    assert code == 2
    assert line.startswith("config error source.where: ")


def test_what_would_cost_every_row_is_refused_before_anything_is_asked_for(
    tmp_path: Path, gallery: OpenGallery
) -> None:
    data = settings(gallery.listed, tmp_path / "out")
    del data["source"]["columns"]["alt_text"]
    code, line = failed(tmp_path, data)
    assert code == 2
    why = "no source names `columns.alt_text` (a list without texts needs stages.caption)"
    assert line == f"config error stages.pack.primary: 'alt': {why}; there is none"


def test_the_plan_tells_of_pictures_that_layout_will_reject(tmp_path: Path, gallery: OpenGallery) -> None:
    data = settings(gallery.listed, tmp_path / "out", fetch={"min_side": 100}, pack={"buckets": [[256, 512]]})
    _, out, _ = curate_done("plan", write_config(tmp_path / "config.yaml", data))
    assert "under 256 pixels, after all else was paid for: stages.fetch.min_side=256" in out
    data["stages"]["fetch"]["min_side"] = 256
    _, out, _ = curate_done("plan", write_config(tmp_path / "config.yaml", data))
    assert "note" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["index", "x", "--resolution", "abc"], "Invalid value for '--resolution'"),
        (["index", "x", "--resolution", "3"], "Invalid value for '--resolution'"),
        (["train", "x.yaml", "--worker", "2"], "No such option: --worker"),
        (["explain", "x"], "Missing argument 'URL|UID'"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], said: str) -> None:
    code, _, err = curate_done(*arguments)
    assert code == 2
    assert said in err
    assert f" {arguments[0]} --help`" in err


def test_words_of_others_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        image = encoded(pixels(1, (64, 48)))
        for name, data in (("good.jpg", image), ("good.txt", b"a picture"), ("\x1b]0;pwned\x07\x1b[2Jx.jpg", image)):
            add(tar, name, data)
    code, out, err = curate_done("index", tmp_path)
    assert code == 0, err
    assert "\x1b" not in out + err
    assert r"\x1b]0;pwned" in out


def test_no_cluster_there(tmp_path: Path, gallery: OpenGallery) -> None:
    config = write_config(tmp_path / "config.yaml", settings(gallery.listed, tmp_path / "out"))
    code, _, err = curate_done("run", config, "--address", "127.0.0.1:1")
    assert code == 2, err
    assert err.startswith("config error --address: ")
    code, _, err = curate_done("run", config, "--engine", "spark")
    assert (code, err.strip()) == (2, "config error --engine: 'spark' is no engine; choose ray or local")
    code, _, err = curate_done("run", config, "--engine", "local", "--address", "127.0.0.1:1")
    assert (code, err.strip()) == (2, "config error --address: is of a Ray cluster; --engine local does without Ray")


def test_output_that_cannot_be_written(tmp_path: Path, gallery: OpenGallery) -> None:
    (tmp_path / "file").write_text("")
    code, line = failed(tmp_path, settings(gallery.listed, tmp_path / "file" / "out"))
    assert code == 2
    assert line.startswith("config error output: cannot write to ")


@pytest.mark.parametrize("command", ["explain", "report", "fsck"])
def test_folder_without_a_run(tmp_path: Path, command: str) -> None:
    more = ["http://127.0.0.1/"] if command == "explain" else []
    code, _, err = curate_done(command, tmp_path, *more)
    assert code == 2
    assert str(tmp_path) in err
    assert "Traceback" not in err


def test_the_commands_together(tmp_path: Path, gallery: OpenGallery) -> None:
    output = tmp_path / "out"
    config = write_config(tmp_path / "config.yaml", settings(gallery.listed, output))
    code, out, err = curate_done("plan", config)
    assert code == 0, err
    assert re.findall(r"^(\w+) +to run", out, re.M) == ["source", "fetch", "select", "layout", "pack"]
    code, out, err = curate_done("run", config, "--engine", "local")
    assert (code, err) == (0, "")
    assert f"report  {output}/report.html" in out
    assert re.search(r"fetch  119 rows  \d+ kept  \d+ rejected  \d+ failed", out)
    code, out, _ = curate_done("plan", config)
    assert re.findall(r"^(\w+) +cached", out, re.M) == ["source", "fetch", "select", "layout", "pack"]
    kept = next(url for url, (outcome, _) in outcomes(output, "pack").items() if outcome == "kept")
    code, out, _ = curate_done("explain", output, kept)
    assert code == 0
    assert re.findall(r"^(\w+): kept$", out, re.M) == ["source", "fetch", "select", "layout", "pack"]
    code, _, err = curate_done("explain", output, "http://nowhere.example/")
    assert code == 1
    assert "no row of" in err
    (output / "report.html").unlink()
    assert curate_done("report", output)[0] == 0
    assert (output / "report.html").exists()
    assert curate_done("fsck", output, "--deep")[1].strip() == "clean"
    shard = next(output.rglob("shards/*.tar"))
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    code, out, _ = curate_done("fsck", output, "--deep")
    assert code == 1
    assert f"FAULT {shard}: its SHA-256" in out


def test_demo_config_runs_as_it_stands(tmp_path: Path) -> None:
    listed = tmp_path / "runs" / "demo" / "gallery.parquet"
    listed.parent.mkdir(parents=True)
    (tmp_path / "curation").symlink_to(ROOT / "curation")  # the config names models by their place in the repository
    with Gallery(60, seed=2, slow_s=0.1) as opened:
        opened.write_list(listed)
        code, _, err = curate_done("run", ROOT / "configs" / "demo.yaml", "--engine", "local", cwd=tmp_path)
    assert code == 0, err


def test_module_help_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert all(name in done.stdout for name in ("run", "plan", "explain", "report", "fsck"))


def test_folder_of_another_scheme_is_refused_clearly(tmp_path: Path, gallery: OpenGallery) -> None:
    data = settings(gallery.listed, "nosuchscheme://bucket/x")
    code, line = failed(tmp_path, data)
    assert code in (1, 2)
    assert "nosuchscheme" in line
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
