"""CSV and TSV: what a good file means, and that no damaged line takes others with it."""

from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.errors import ConfigError, SourceError
from curation.sources.delimited import csv_records, tsv_records
from curation.sources.files import find_files
from tests.sources.built import build, by_url, faults, reasons

ALT = {"columns": {"alt_text": "text"}}


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def build_csv(tmp_path: Path, text: str | bytes, **settings: Any) -> pa.Table:
    kind = settings.pop("kind", "csv")
    path = write(tmp_path / f"list.{kind}", text)
    return build(tmp_path / "out", {"kind": kind, "path": path, **settings})


def alt(table: pa.Table) -> dict[str, Any]:
    return {url: row["alt_text"] for url, row in by_url(table).items()}


def test_quoted_fields(tmp_path: Path) -> None:
    text = 'text,url\r\n"a, ""b""\r\nc",http://a/1\r\nplain,"http://a/2"\r\n,http://a/3\r\n\r\n'
    table = build_csv(tmp_path, text, **ALT)
    assert alt(table) == {"http://a/1": 'a, "b"\r\nc', "http://a/2": "plain", "http://a/3": None}
    assert reasons(table) == {None: 3}


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_bom_and_gzip(tmp_path: Path, kind: str, gzipped: bool, bom: bytes) -> None:
    data = bom + "url;text\nhttp://a/1;é\n".replace(";", "," if kind == "csv" else "\t").encode()
    path = write(tmp_path / f"list.{kind}{'.gz' if gzipped else ''}", gzip.compress(data) if gzipped else data)
    assert alt(build(tmp_path / "out", {"kind": kind, "path": path, **ALT})) == {"http://a/1": "é"}


def test_gzip_is_told_by_content(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", gzip.compress(b"url\nhttp://a/1\n"))
    assert reasons(build(tmp_path / "1", {"kind": "csv", "path": path})) == {None: 1}
    path = write(tmp_path / "plain.csv.gz", b"url\nhttp://a/1\n")
    assert reasons(build(tmp_path / "2", {"kind": "csv", "path": path})) == {None: 1}


def test_ragged_rows_are_accounted_for(tmp_path: Path) -> None:
    table = build_csv(tmp_path, "url,text\nhttp://a/1,x\nhttp://a/2\nhttp://a/3,x,y\nhttp://a/4,x,,\n", **ALT)
    assert sorted(by_url(table)) == ["http://a/1", "http://a/4"]
    assert faults(table) == [
        "list.csv:3: 1 fields, the header has 2: 'http://a/2'",
        "list.csv:4: 3 fields, the header has 2: 'http://a/3 | x | y'",
    ]
    assert reasons(table) == {None: 2, "invalid_url": 2}


def test_a_stray_quote_costs_its_own_line(tmp_path: Path) -> None:
    lines = [f'http://a/{i},"text {i}"' for i in range(1, 21)]
    lines[4] = 'http://a/5,"never closed'
    lines[9] = 'http://a/10,"closed" and more'
    lines[19] = 'http://a/20,"open at the end'
    table = build_csv(tmp_path, "\n".join(["url,text", *lines]), **ALT)
    kept = alt(table)
    assert sorted(kept) == sorted(f"http://a/{i}" for i in range(1, 20) if i != 5)
    assert kept["http://a/10"] == "closed and more"
    assert kept["http://a/6"] == "text 6"
    details = faults(table)
    assert len(details) == 2
    assert details[0].startswith("list.csv:21: a quote that never closes")
    assert details[1].startswith("list.csv:6: a quote that never closes")


def test_a_line_without_end_costs_its_own_line(tmp_path: Path) -> None:
    table = build_csv(tmp_path, "url,text\nhttp://a/1,x\nhttp://a/2," + "x" * 3_000_000 + "\nhttp://a/3,y\n", **ALT)
    assert sorted(by_url(table)) == ["http://a/1", "http://a/3"]
    assert faults(table) == ["list.csv:3: longer than 1048576 bytes"]
    table = build_csv(tmp_path / "..", 'url,text\nhttp://a/1,"' + "x" * 200_000 + '"\nhttp://a/3,y\n', **ALT)
    assert sorted(by_url(table)) == ["http://a/3"]
    assert faults(table)[0].startswith("list.csv:2: field larger than field limit")


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_any_bytes_give_each_line_one_row(tmp_path: Path, kind: str) -> None:
    """Lines of random junk between good ones: with TSV each is one row; with CSV no good line is lost."""
    rng = random.Random(1)
    separator = "," if kind == "csv" else "\t"
    lines, good = [f"url{separator}text".encode()], 0
    for i in range(3000):
        if rng.random() < 0.5:
            good += 1
            lines.append(f'http://good.example/{i}{separator}"fine"'.encode())
        else:
            pieces = [b'"', b",", b"\t", b"x", b"\xff", b"\x00", b'""', b" ", b"\\", b"http://j/", b"\r"]
            lines.append(b"".join(rng.choices(pieces, k=rng.randint(1, 8))) + b"j")
    table = build_csv(tmp_path, b"\n".join(lines), kind=kind)
    kept = [url for url in by_url(table) if url.startswith("http://good.example/")]
    assert len(kept) == good
    if kind == "tsv":
        assert table.num_rows == 3000


def test_well_formed_csv_reads_as_the_csv_module_reads_it(tmp_path: Path) -> None:
    rng = random.Random(2)
    pieces = ['"', ",", "x", "é", "\n", " ", "\r\n", "http://", "\t", "'"]
    rows = [["".join(rng.choices(pieces, k=rng.randint(0, 6))) for _ in range(3)] for _ in range(2000)]
    rows = [row if any(row) else ["x", "", ""] for row in rows]
    path = tmp_path / "l.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (file_found,) = find_files(str(path), "csv", "source")
    assert [fields for _, fields in csv_records(file_found)] == rows


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", 'url,text\n\n"a\nb",c\nd,e\n')
    (file,) = find_files(path, "csv", "source")
    assert list(csv_records(file)) == [(1, ["url", "text"]), (3, ["a\nb", "c"]), (5, ["d", "e"])]


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    lines = ["url\ttext", 'http://a/1\t"a lone quote', 'http://a/2\t"all ""of"" it"', 'http://a/3\t"two" words "here"']
    path = write(tmp_path / "l.tsv", "\n".join(lines))
    assert alt(build(tmp_path / "out", {"kind": "tsv", "path": path, **ALT})) == {
        "http://a/1": '"a lone quote',
        "http://a/2": 'all "of" it',
        "http://a/3": '"two" words "here"',
    }
    (file,) = find_files(path, "tsv", "source")
    assert [number for number, _ in tsv_records(file)] == [1, 2, 3, 4]


def test_kept_columns_get_the_type_of_all_their_values(tmp_path: Path) -> None:
    header = "url,whole,part,truth,code,mixed,none,big,spaced"
    row = "http://a/{},{},0.5,TRUE,007,{},,99999999999999999999, 1.5 "
    text = "\n".join([header] + [row.format(i, i, i if i < 20_000 else "n/a") for i in range(20_001)])
    names = header.split(",")[1:]
    table = build_csv(tmp_path, text, columns={"keep": names})
    types = {name: str(table.schema.field(name).type) for name in names}
    assert types == {
        "whole": "int64",
        "part": "double",
        "truth": "bool",
        "code": "string",
        "mixed": "string",
        "none": "string",
        "big": "double",
        "spaced": "double",
    }
    first = by_url(table)["http://a/3"]
    assert [first[n] for n in names] == [3, 0.5, True, "007", "3", None, 1e20, 1.5]


def test_where_compares_numbers(tmp_path: Path) -> None:
    text = "url,p,q\n" + "".join(f"http://a/{i},{i / 10},{i}\n" for i in range(12)) + "ragged\n"
    table = build_csv(tmp_path, text, where="P < 0.5 AND q > 1", limit=3)
    assert sorted(by_url(table)) == ["http://a/2", "http://a/3", "http://a/4"]
    table = build_csv(tmp_path, text, where="p < 0.5")
    assert reasons(table) == {None: 5, "invalid_url": 1}  # what cannot be read is not silently filtered either


def test_limit_stops_reading(tmp_path: Path) -> None:
    data = gzip.compress(b"url\n" + b"".join(b"http://a/%d\n" % i for i in range(200_000)))
    path = write(tmp_path / "l.csv.gz", data[: len(data) // 2])  # the second half is missing, and not needed
    assert reasons(build(tmp_path / "out", {"kind": "csv", "path": path, "limit": 10})) == {None: 10}


def test_files_with_headers_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    write(tmp_path / "l/a.csv", "url,text,n\nhttp://a/1,one,1\n")
    write(tmp_path / "l/b.csv", "n,extra,url,text\n2,x,http://a/2,two\n")
    write(tmp_path / "l/c.csv", "")
    columns = {"alt_text": "text", "keep": ["n"]}
    rows = by_url(build(tmp_path / "out", {"kind": "csv", "path": str(tmp_path / "l"), "columns": columns}))
    assert [(rows[f"http://a/{i}"]["alt_text"], rows[f"http://a/{i}"]["n"]) for i in (1, 2)] == [("one", 1), ("two", 2)]
    write(tmp_path / "l/d.csv", "n,url\n")
    with pytest.raises(ConfigError, match=r"source\.columns\.alt_text: no column 'text' in d\.csv"):
        build(tmp_path / "out", {"kind": "csv", "path": str(tmp_path / "l"), "columns": columns})


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    table = build_csv(tmp_path, b"url,text\nhttp://a/1,caf\xe9\nhttp://a/caf\xe9,x\n", **ALT)
    assert alt(table) == {"http://a/1": "caf\ufffd"}
    assert faults(table)[0].startswith("list.csv:3: the URL holds bytes that are no UTF-8")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (b"", SourceError, "no rows"),
        (b"url,text\n", SourceError, "no rows"),
        (b"link,text\nx,y\n", ConfigError, "source.columns.url: no column 'url'; The columns are: link, text"),
        ("url\nhttp://a/1\n".encode("utf-16"), SourceError, "is UTF-16; convert it to UTF-8"),
        (gzip.compress(b"url\n" + b"http://a/1\n" * 9, mtime=0)[:-9], SourceError, "the gzip stream breaks after line"),
        (
            gzip.compress(b"url\n" + b"http://a/1\n" * 9, mtime=0)[:10] + b"\xff" * 20,
            SourceError,
            "the gzip stream breaks",
        ),
        (b'"url\nhttp://a/1\n', SourceError, "line 1, the header: a quote that never closes"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: bytes, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        build_csv(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
