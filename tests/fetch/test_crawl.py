"""Rows on their way: early stops, hashes, TLS, images that the source holds."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest

from curation.row import Reason
from tests.fetch.harness import fetch, fetch_one, photo
from tests.fetch.origin import Origin, Request, answer, drips, says

IMAGE = photo()


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"min_side": 1024}, Reason.TOO_SMALL),
        ({"max_aspect": 1.5}, Reason.ASPECT_TOO_EXTREME),
        ({"max_pixels": 100_000}, Reason.TOO_MANY_PIXELS),
        ({"formats": ("png",)}, Reason.FORMAT_NOT_ALLOWED),
    ],
)
def test_a_transfer_stops_at_the_header(rules: dict[str, Any], reason: Reason) -> None:
    large = photo(1000, 600)  # some 700 kB, which come in pieces

    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        head = answer(large)
        for start in range(0, len(head), 20_000):
            writer.write(head[start : start + 20_000])
            await writer.drain()
            await asyncio.sleep(0.02)

    with Origin({"/x": slowly}) as origin:
        row = fetch_one(origin.url("/x"), **rules)
    assert (row["reason"], row["format"], row["width"], row["height"]) == (reason, "jpeg", 1000, 600)
    assert row["bytes_received"] < len(large) / 4
    assert row["bytes_received"] + row["bytes_saved"] == len(large)


def test_a_small_rest_is_read_to_keep_the_connection() -> None:
    with Origin({f"/{n}": says(answer(photo(100, 100))) for n in range(5)}) as origin:
        rows = fetch([origin.url(f"/{n}") for n in range(5)], min_side=1024, per_host=1)
    assert {row["reason"] for row in rows} == {Reason.TOO_SMALL}
    assert {row["bytes_saved"] for row in rows} == {0}
    assert origin.connections == 1


def test_a_rest_that_does_not_come_changes_nothing() -> None:
    with Origin({"/x": drips(answer(IMAGE, length=len(IMAGE) + 1000), b"", 1)}) as origin:
        row = fetch_one(origin.url("/x"), min_side=1024)
    assert row["reason"] == Reason.TOO_SMALL


def test_expected_hashes() -> None:
    md5, sha256 = hashlib.md5(IMAGE).hexdigest(), hashlib.sha256(IMAGE).hexdigest()
    with Origin({"/x": says(answer(IMAGE))}) as origin:
        url = origin.url("/x")
        rows = fetch(
            [
                {"url": url, "expected_md5": md5},
                {"url": url, "expected_md5": md5.upper(), "expected_sha256": sha256},
                {"url": url, "expected_md5": "0" * 32},
                {"url": url, "expected_md5": md5, "expected_sha256": "no hash at all"},
            ]
        )
    assert [row["reason"] for row in rows] == [None, None, Reason.HASH_MISMATCH, Reason.HASH_MISMATCH]
    assert rows[0]["source_sha256"] == sha256
    assert rows[2]["image"] is None


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PEM file with a key and a certificate for 127.0.0.1 that nobody vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem))
    return path


def test_a_certificate_that_nobody_vouches_for(self_signed: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed)
    with Origin({"/x": says(answer(IMAGE))}, tls=tls) as origin:
        row = fetch_one(origin.url("/x"), retries=2)
    assert (row["reason"], row["tries"]) == (Reason.TLS_ERROR, 1)
    assert not origin.requests


def test_held_images(tmp_path: Path) -> None:
    file = tmp_path / "some images.bin"
    file.write_bytes(b"junk" + IMAGE + photo(20, 20) + b"html")
    places = [(4, len(IMAGE)), (4 + len(IMAGE), len(photo(20, 20))), (0, 4), (10**6, 5), (4, 10**6), (4, 10**9)]
    rows = [{"held_path": str(file), "held_offset": start, "held_length": size} for start, size in places]
    rows += [{"held_path": str(tmp_path / "gone"), "held_offset": 0, "held_length": 1}]
    rows += [{"held_path": file.as_uri().replace("%20", " "), "held_offset": 4, "held_length": len(IMAGE)}]
    done = fetch(rows, min_side=40)
    assert [row["reason"] for row in done] == [
        None,
        Reason.TOO_SMALL,
        Reason.NOT_AN_IMAGE,
        Reason.SOURCE_IMAGE_UNREADABLE,
        Reason.SOURCE_IMAGE_UNREADABLE,
        Reason.TOO_MANY_BYTES,
        Reason.SOURCE_IMAGE_UNREADABLE,
        None,
    ]
    assert done[0]["source_sha256"] == hashlib.sha256(IMAGE).hexdigest()
    assert (done[0]["bytes_received"], done[0]["status"], done[0]["final_url"]) == (0, None, None)


def test_a_whole_file_is_a_held_image_too(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    assert fetch_one({"held_path": str(tmp_path / "a.jpg")})["outcome"] == "kept"
    assert fetch_one({"held_path": str(tmp_path / "a.jpg")}, max_bytes=100)["reason"] == Reason.TOO_MANY_BYTES
