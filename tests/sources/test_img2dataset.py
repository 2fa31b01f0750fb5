"""img2dataset's own output, made by the library from a server on loopback, as a source."""

from __future__ import annotations

import http.server
import io
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.errors import ConfigError, SourceError
from curation.names import make_uid
from tests.sources.built import build, by_url, faults, reasons
from tests.sources.test_webdataset import held

IMAGES = 6


class Handler(http.server.BaseHTTPRequestHandler):
    """A picture for /0.jpg … /5.jpg, 404 for everything else."""

    def do_GET(self) -> None:
        number = self.path.strip("/").removesuffix(".jpg")
        if not number.isdigit() or int(number) >= IMAGES:
            self.send_error(404)
            return
        buffer = io.BytesIO()
        Image.new("RGB", (64, 48), (int(number) * 40, 0, 0)).save(buffer, "JPEG")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(buffer.getvalue())

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """(img2dataset's output folder, the server's address)."""
    pytest.importorskip("img2dataset", reason="img2dataset needs Python < 3.13")
    folder = tmp_path_factory.mktemp("img2dataset")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{origin}/{i}.jpg" for i in range(IMAGES + 2)]
        captions = [f"picture {i}" for i in range(len(urls))]
        pq.write_table(pa.table({"url": urls, "caption": captions, "score": range(len(urls))}), folder / "list.parquet")
        program = (
            "import sys; from img2dataset import download; download(url_list=sys.argv[1], output_folder=sys.argv[2], "
            "input_format='parquet', url_col='url', caption_col='caption', save_additional_columns=['score'], "
            "output_format='webdataset', processes_count=1, thread_count=1, number_sample_per_shard=4, image_size=32, "
            "enable_wandb=False)"
        )
        arguments = [sys.executable, "-c", program, str(folder / "list.parquet"), str(folder / "out")]
        environment = {"NO_ALBUMENTATIONS_UPDATE": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        yield folder / "out", origin
        server.shutdown()


@pytest.fixture
def folder(made: tuple[Path, str], tmp_path: Path) -> tuple[dict[str, Any], str, Path]:
    copy = tmp_path / "made"
    shutil.copytree(made[0], copy)
    return {"kind": "img2dataset", "path": str(copy)}, made[1], copy


def test_rows(tmp_path: Path, folder: tuple[dict[str, Any], str, Path]) -> None:
    settings, origin, copy = folder
    assert sorted(p.suffix for p in copy.iterdir()) == [".json", ".json", ".parquet", ".parquet", ".tar", ".tar"]
    table = build(tmp_path / "out", {**settings, "columns": {"keep": ["score", "key"]}})
    assert reasons(table) == {None: IMAGES + 2}
    rows = by_url(table)
    for i in range(IMAGES + 2):
        row = rows[f"{origin}/{i}.jpg"]
        assert row["uid"] == make_uid("default", f"{origin}/{i}.jpg")
        assert (row["alt_text"], row["score"]) == (f"picture {i}", i)
        if i < IMAGES:
            assert Image.open(io.BytesIO(held(row))).getpixel((16, 16))[0] == pytest.approx(i * 40, abs=4)  # type: ignore[index]
        else:  # what it failed to download stays an address
            assert row["held_path"] is None


def test_where_leaves_out_what_was_not_downloaded(tmp_path: Path, folder: tuple[dict[str, Any], str, Path]) -> None:
    settings, _, _ = folder
    assert build(tmp_path / "1", {**settings, "where": "status = 'success'"}).num_rows == IMAGES
    assert build(tmp_path / "2", {**settings, "where": "score >= 2", "limit": 3}).num_rows == 3


def test_damaged_and_missing_tars(tmp_path: Path, folder: tuple[dict[str, Any], str, Path]) -> None:
    settings, _, copy = folder
    data = (copy / "00000.tar").read_bytes()
    (copy / "00000.tar").write_bytes(data[: data.index(b"000002.jpg") + 100])
    table = build(tmp_path / "1", settings)
    assert reasons(table) == {None: IMAGES, "source_image_unreadable": 2}
    assert [d.split(": ")[0] for d in faults(table)] == ["00000.tar:000002", "00000.tar:000003"]
    assert "cut in a header" in faults(table)[0]
    (copy / "00001.tar").unlink()
    table = build(tmp_path / "2", settings)
    assert reasons(table) == {None: 4, "source_image_unreadable": 4}
    assert faults(table)[-1] == "00001.tar:000011: the tar is not there"


def test_rows_without_a_usable_url_are_named_by_their_key(
    tmp_path: Path, folder: tuple[dict[str, Any], str, Path]
) -> None:
    settings, _, copy = folder
    rows = pq.read_table(copy / "00000.parquet").to_pylist()
    table = pq.read_table(copy / "00000.parquet")
    nothing = pa.array([None if i == 0 else "no url" if i == 1 else r["url"] for i, r in enumerate(rows)], pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("url"), "url", nothing), copy / "00000.parquet")
    table = build(tmp_path / "out", settings)
    assert reasons(table) == {None: IMAGES + 2}
    assert {make_uid("default", f"00000/{rows[i]['key']}") for i in (0, 1)} <= set(table["uid"].to_pylist())
    assert len(pc.unique(table["uid"])) == IMAGES + 2


def test_other_folders(tmp_path: Path, folder: tuple[dict[str, Any], str, Path]) -> None:
    settings, _, copy = folder
    with pytest.raises(ConfigError, match="did you mean 'caption'"):
        build(tmp_path / "out", {**settings, "columns": {"alt_text": "captoin"}})
    pq.write_table(pa.table({"url": ["http://a/1"]}), copy / "00000.parquet")
    with pytest.raises(SourceError, match="is not of img2dataset: it has no columns `key` and `status`"):
        build(tmp_path / "out", settings)
    (copy / "00000.parquet").write_bytes(b"junk")
    with pytest.raises(SourceError, match=r"00000\.parquet is not readable as Parquet"):
        build(tmp_path / "out", settings)
