"""The fast way to a row's name gives what the plain functions of `curation.row` give."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.fragments import conform
from curation.names import make_uid, normalise_url
from curation.sources.naming import host_hashes, mix, name_rows, normal_form, uids
from curation.sources.query import PLACE, RAW_FIELDS, SAMPLE
from tests.shared import shared

RAW = pa.schema(RAW_FIELDS)

ODD = [
    "http://a",
    "http://a/",
    "http://a?",
    "http://a/?",
    "http://a/?x",
    "http://a/#f",
    "http://a//b//c",
    "http://a./b",
    "http://a../b",
    "http://A/b",
    "HTTP://a/b",
    "ftp://a/b",
    "http://a:80/b",
    "http://a:8080/b",
    "http://a:/b",
    "https://a:443/b",
    "https://a:80/b",
    "http://u:p@a/b",
    "http://[::1]/b",
    "http://a/b c",
    "http://a/b\tc",
    "http://a/b\n",
    " http://a/b ",
    "http://a/ü",
    "http://bücher.example/b",
    "http://a/%zz",
    "http://a/%C3%BC",
    "http://a/b?c=d&e=[1]",
    'http://a/"b"',
    "http://a/b?c?d",
    "http://a/b;c=d",
    "http://-/b",
    "http://_/b",
    "http://./b",
    "http:///b",
    "http:a",
    "//a/b",
    "a/b",
    "",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "http://a/\ufffd",
    "http://a\u3000b/c",
    "http://a/" + "x" * 8183,
    "http://a/" + "x" * 8184,
    "http://1.2.3.4/b",
    "http://a/b\\c",
    "http://a\\b/c",
    "http://]..][v1.fe\u00e9[",
    "http://a\uff3bb/c",
    "http://a\uff0fb/c",
    "http://a%41/b",
    "http://a|b/c",
    "http://[::1%25eth0]/b",
    "http://[0:0::1]/b",
    "http://a/{b}|^`",
    "https://a/b?\u200b",
]


def check(url: str) -> None:
    fast = normal_form(url)
    assert (fast and fast[0]) == normalise_url(url), url
    if fast is not None:
        again = normal_form(fast[0])
        assert again is not None
        assert again[1] == fast[1], url  # one host has one name


@pytest.mark.parametrize("url", ODD, ids=lambda url: ascii(url)[:30])
def test_normal_form_of_odd_addresses(url: str) -> None:
    check(url)


@pytest.mark.parametrize(
    "host", ["a\\b", "a|b", "a^b", "a%41", "a<b>", "a\uff3bb", "]..][v1.fe\u00e9[", "[::1%25eth0]"]
)
def test_hosts_that_no_client_takes_are_none(host: str) -> None:
    assert normalise_url(f"http://{host}/x") is None


def test_addresses_of_the_sixth_version_have_one_spelling() -> None:
    assert normalise_url("http://[0:0::1]:80/b") == normalise_url("http://[::1]/b") == "http://[::1]/b"


@pytest.mark.parametrize("url", ["http://a/\ud800", "http://a/b?\udfff", "http://\ud800/", "\ud800"])
def test_half_a_surrogate_pair_is_in_no_address(url: str) -> None:
    assert normalise_url(url) is None


def test_normal_form_of_random_addresses() -> None:
    rng = random.Random(0)
    pieces = [
        "http",
        "https",
        "://",
        "/",
        "//",
        "?",
        "#",
        ":",
        "@",
        "a",
        "Z",
        "0",
        ".",
        "-",
        "_",
        "~",
        "%",
        "%20",
        "[",
        "]",
    ]
    pieces += [
        "&",
        "=",
        "+",
        ",",
        ";",
        "!",
        "$",
        "'",
        "(",
        ")",
        "*",
        " ",
        "é",
        "\t",
        "\\",
        "80",
        "443",
        "example.com",
        "{",
        "|",
    ]
    for _ in range(20_000):
        check(
            rng.choice(["http://", "https://", "", "http://h.example/"])
            + "".join(rng.choices(pieces, k=rng.randint(0, 9)))
        )


def test_normal_form_of_real_addresses() -> None:
    urls = pq.read_table(shared("urls") / "laion_1000.parquet")["URL"].to_pylist()
    for url in urls:
        check(url)
    assert len({normalise_url(url) for url in urls}) == len(urls)


def test_uids_are_those_of_make_uid() -> None:
    names = ["http://a/b", "", "é", "x" * 1000, "http://a/\ud800"]
    text, hi, lo = uids("laion", names)
    assert text.to_pylist() == [make_uid("laion", name) for name in names]
    assert [f"{int(h):016x}{int(low):016x}" for h, low in zip(hi, lo, strict=True)] == text.to_pylist()
    assert len(uids("laion", [])[0]) == 0


def test_rows_are_named_by_url_then_by_sample() -> None:
    rows = pa.Table.from_pylist(
        [
            {"url": "HTTP://Example.com:80/a.jpg"},
            {"url": "no url", SAMPLE: "00000/17", "held_path": "/t/00000.tar"},
            {"url": None, SAMPLE: "00000/18", "held_path": "/t/00000.tar"},
            {"url": "http://b/", SAMPLE: "00000/19", "held_path": "/t/00000.tar"},
            {"url": "no url", PLACE: "list.csv:7"},
            {"url": None},
            {"url": None, "reason": "invalid_url", "detail": "x:3: torn", PLACE: "x:3"},
        ],
        schema=RAW,
    )
    named, order = name_rows(rows, "s", seed=0)
    uid = named["uid"].to_pylist()
    assert uid[:4] == [make_uid("s", n) for n in ("http://example.com/a.jpg", "00000/17", "00000/18", "http://b/")]
    assert len(set(uid)) == 7
    assert named["reason"].to_pylist() == [None, None, None, None, "invalid_url", "invalid_url", "invalid_url"]
    assert named["detail"].to_pylist()[4:] == [
        "list.csv:7: no URL: 'no url'",
        "no URL: the column is empty",
        "x:3: torn",
    ]
    assert order["valid"].to_pylist() == [True] * 4 + [False] * 3
    hosts = order["host"].to_pylist()
    assert hosts[1] == hosts[2] == hosts[3] != hosts[0]


def test_expected_digests_are_lower_case_or_null() -> None:
    rows = pa.table({"url": ["http://a/1", "http://a/2", "http://a/3"], "expected_md5": [" ABC ", "", None]})
    named, _ = name_rows(conform(rows, RAW), "s", seed=0)
    assert named["expected_md5"].to_pylist() == ["abc", None, None]


def test_keys_and_hosts_depend_on_the_seed() -> None:
    rows = conform(pa.table({"url": [f"http://h{i % 3}/{i}" for i in range(9)]}), RAW)
    one, two, other = (name_rows(rows, "s", seed=seed)[1] for seed in (1, 1, -2))
    assert one.equals(two)
    assert set(one["key"].to_pylist()).isdisjoint(other["key"].to_pylist())
    assert set(one["host"].to_pylist()).isdisjoint(other["host"].to_pylist())
    assert len(set(one["host"].to_pylist())) == 3


def test_mix_is_splitmix64() -> None:
    """First outputs of SplitMix64 for seed 1234567, from the generator's reference implementation (Vigna, 2015)."""
    gamma = np.uint64(0x9E3779B97F4A7C15)
    state = np.uint64(1234567)
    with np.errstate(over="ignore"):
        states = np.array([state, state + gamma, state + gamma * np.uint64(2)], np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_host_hashes_follow_the_rows() -> None:
    hashes = host_hashes(["b", "a", "b", ""], seed=3)
    assert hashes[0] == hashes[2]
    assert len({int(h) for h in hashes}) == 3
