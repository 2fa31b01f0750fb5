"""A row: its columns in the order of the journey, and its outcome after each stage.

Every stage gives every input row exactly one outcome: `kept`, `rejected` (a rule said no) or `failed` (something
broke). The reason is a member of `Reason`, which fixes the outcome, so a ledger can never disagree with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa


class Outcome(StrEnum):
    """What a stage decided about a row."""

    KEPT = "kept"
    REJECTED = "rejected"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a row was dropped. Each member carries its outcome, and for failures whether trying later may help."""

    outcome: Outcome
    transient: bool

    def __new__(cls, value: str, outcome: Outcome = Outcome.REJECTED, transient: bool = False) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.outcome = outcome
        member.transient = transient
        return member

    # source
    INVALID_URL = "invalid_url"
    DUPLICATE_URL = "duplicate_url"
    # fetch: the network
    DNS_ERROR = "dns_error", Outcome.FAILED, True
    CONNECT_ERROR = "connect_error", Outcome.FAILED, True
    TLS_ERROR = "tls_error", Outcome.FAILED
    CONNECTION_LOST = "connection_lost", Outcome.FAILED, True
    TIMEOUT = "timeout", Outcome.FAILED, True
    HOST_PUT_ASIDE = "host_put_aside", Outcome.FAILED, True
    PROTOCOL_ERROR = "protocol_error", Outcome.FAILED
    BAD_REDIRECT = "bad_redirect", Outcome.FAILED
    HTTP_NOT_FOUND = "http_not_found", Outcome.FAILED
    HTTP_CLIENT_ERROR = "http_client_error", Outcome.FAILED
    HTTP_RATE_LIMITED = "http_rate_limited", Outcome.FAILED, True
    HTTP_SERVER_ERROR = "http_server_error", Outcome.FAILED, True
    EMPTY_BODY = "empty_body", Outcome.FAILED
    SOURCE_IMAGE_UNREADABLE = "source_image_unreadable", Outcome.FAILED
    # fetch: rules
    BLOCKED_SCHEME = "blocked_scheme"
    BLOCKED_ADDRESS = "blocked_address"
    OPT_OUT = "opt_out"
    ROBOTS_TXT = "robots_txt"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_FEW_BYTES = "too_few_bytes"
    NOT_AN_IMAGE = "not_an_image"
    FORMAT_NOT_ALLOWED = "format_not_allowed"
    TOO_SMALL = "too_small"
    TOO_MANY_PIXELS = "too_many_pixels"
    ASPECT_TOO_EXTREME = "aspect_too_extreme"
    HASH_MISMATCH = "hash_mismatch"
    # fetch: the image check
    TRUNCATED_IMAGE = "truncated_image", Outcome.FAILED
    DAMAGED_IMAGE = "damaged_image", Outcome.FAILED
    DECODE_CPU_LIMIT = "decode_cpu_limit"
    DECODE_MEMORY_LIMIT = "decode_memory_limit"
    DECODER_DIED = "decoder_died", Outcome.FAILED
    # score
    OPERATOR_FAULT = "operator_fault", Outcome.FAILED
    # select
    WHERE = "where"
    DUPLICATE_BYTES = "duplicate_bytes"
    DUPLICATE_PIXELS = "duplicate_pixels"
    NEAR_DUPLICATE = "near_duplicate"
    SEMANTIC_DUPLICATE = "semantic_duplicate"
    BELOW_TOP = "below_top"
    # caption
    CAPTION_REFUSAL = "caption_refusal"
    CAPTION_EMPTY = "caption_empty"
    CAPTION_REPETITION = "caption_repetition"
    CAPTION_CUT_OFF = "caption_cut_off"
    CAPTION_WRONG_SCRIPT = "caption_wrong_script"
    CAPTION_TOO_SHORT = "caption_too_short"
    CAPTION_TOO_LONG = "caption_too_long"
    CAPTION_LOW_SIMILARITY = "caption_low_similarity"
    CAPTION_BACKEND = "caption_backend", Outcome.FAILED, True
    # pack
    NO_CAPTION = "no_caption"
    SMALLER_THAN_BUCKET = "smaller_than_bucket"
    BANK_DAMAGED = "bank_damaged", Outcome.FAILED
    # encode
    NOT_FINITE = "not_finite", Outcome.FAILED


@dataclass(frozen=True)
class Verdict:
    """One row's outcome: kept when `reason` is None. `detail` is for people; rules never read it."""

    reason: Reason | None = None
    detail: str = ""

    @property
    def outcome(self) -> Outcome:
        return Outcome.KEPT if self.reason is None else self.reason.outcome


KEPT = Verdict()

# ---------------------------------------------------------------------------------------------------------------------
# Columns. Every stage carries on the columns of its kept rows and adds its own. `image` (encoded bytes) exists only
# between an operator and the fragment writer, or where an operator asks to read it; tables on disk never hold it.

IMAGE = pa.field("image", pa.large_binary())

UID = pa.field("uid", pa.string(), nullable=False)

OUTCOME_FIELDS = (
    pa.field("outcome", pa.string(), nullable=False),  # Outcome
    pa.field("reason", pa.string()),  # Reason; null when kept
    pa.field("detail", pa.string()),  # for people; null when kept
    pa.field("transient", pa.bool_()),  # failures only: trying later may help
)

SOURCE_FIELDS = (
    UID,
    pa.field("source", pa.string(), nullable=False),  # name of the source
    pa.field("url", pa.string()),  # as given; null for sources that hold images without a URL
    pa.field("alt_text", pa.string()),
    pa.field("license", pa.string()),
    pa.field("expected_md5", pa.string()),  # lower-case hex, or null
    pa.field("expected_sha256", pa.string()),
    pa.field("held_path", pa.string()),  # sources that hold images: the file, and the image's place in it (bytes)
    pa.field("held_offset", pa.int64()),
    pa.field("held_length", pa.int64()),
)

FETCH_FIELDS = (
    pa.field("final_url", pa.string()),  # after redirects
    pa.field("status", pa.int16()),  # HTTP status of the last answer
    pa.field("content_type", pa.string()),  # as the server said it; never trusted
    pa.field("bytes_received", pa.int64()),  # body bytes that crossed the network, all tries
    pa.field("bytes_saved", pa.int64()),  # Content-Length minus bytes received, where the transfer was stopped early
    pa.field("tries", pa.int16()),
    pa.field("elapsed_ms", pa.int32()),  # wall time of the row, waiting for a slot not counted
    pa.field("format", pa.string()),  # of the downloaded bytes: jpeg png webp gif bmp tiff avif
    pa.field("width", pa.int32()),  # pixels, upright (after EXIF orientation)
    pa.field("height", pa.int32()),
    pa.field("frames", pa.int32()),  # animated images: the first frame is kept
    pa.field("source_sha256", pa.string()),  # of the downloaded bytes
    pa.field("pixel_sha256", pa.string()),  # of the working decode, see image/measure.py
    pa.field("phash", pa.uint64()),  # null for images without structure
    pa.field("sharpness", pa.float32()),  # variance of the Laplacian at a fixed size
    pa.field("stored_format", pa.string()),  # of the bytes in the bank: jpg png webp
    pa.field("stored_as_is", pa.bool_()),  # pixels as downloaded (only metadata removed), no generation loss
    pa.field("tar", pa.string()),  # image bank: tar file in the stage's folder, place and sha256 of the stored bytes
    pa.field("offset", pa.int64()),
    pa.field("length", pa.int64()),
    pa.field("sha256", pa.string()),
)

CLIP_EMBEDDING = "clip_embedding"
"""Column of score: fixed-size list of float16, of length 1. Stays in that stage's table (`STAYS`)."""

SCORE_US = pa.field(  # score: wall microseconds that each operator spent on the row (its share of a batch)
    "score_us", pa.list_(pa.struct([pa.field("op", pa.string()), pa.field("us", pa.int64())]))
)

STAYS = frozenset((CLIP_EMBEDDING, SCORE_US.name))
"""Columns that select does not carry on: only what reads the score stage's own table needs them."""

CAPTION_FIELDS = (  # beside caption_KIND, caption_KIND_model, caption_KIND_tokens (of the student's text encoder)
    pa.field("alt_text_tokens", pa.int32()),
    pa.field("captioning_tries", pa.int16()),  # 1, or 2 where a kind's first text failed its checks
    pa.field("captioning_tokens", pa.int32()),  # written by the model, all kinds and tries
    pa.field("captioning_us", pa.int64()),  # wall microseconds of the worker, the row's share
    pa.field("captioning_fused", pa.bool_()),  # names of the original caption went into the dense one
)

PACK_FIELDS = (
    pa.field("bucket", pa.string()),  # "WIDTHxHEIGHT", pixels
    pa.field("shard", pa.string()),
)

MEMBERS = ("image", "txt", "json")

PACKED = pa.field(  # where a sample stands in its shard; null for rows that pack dropped
    "packed",
    pa.struct(
        [
            pa.field("position", pa.int32()),  # among the samples of the shard
            pa.field(
                "offset", pa.int64()
            ),  # the sample's tar records, headers and padding included: bytes in the shard
            pa.field("length", pa.int64()),
            pa.field("crc32c", pa.uint32()),
            *(
                pa.field(f"{member}_{what}", kind)  # the member's data alone
                for member in MEMBERS
                for what, kind in (("offset", pa.int64()), ("length", pa.int64()), ("crc32c", pa.uint32()))
            ),
            pa.field("width", pa.int32()),  # pixels, of the image in the shard
            pa.field("height", pa.int32()),
            pa.field("crop_left", pa.int32()),  # pixels cut off after the resize
            pa.field("crop_top", pa.int32()),
            pa.field(
                "captions",  # the primary one first; `tokens` is null until a tokenizer has counted them
                pa.list_(
                    pa.struct(
                        [pa.field("kind", pa.string()), pa.field("words", pa.int32()), pa.field("tokens", pa.int32())]
                    )
                ),
            ),
            pa.field("tar_bytes", pa.int64()),  # of the whole shard, the same in each of its rows
            pa.field("tar_sha256", pa.string()),
            pa.field("tar_md5", pa.string()),
        ]
    ),
)

ENCODED_FIELDS = (  # encode: where a sample's tensors stand in its shard; `packed` then says the same of all else
    pa.field("encoded_offset", pa.int64()),
    pa.field("encoded_length", pa.int64()),
    pa.field("encoded_crc32c", pa.uint32()),
)

RESERVED = STAYS | {
    field.name
    for fields in (
        *(SOURCE_FIELDS, FETCH_FIELDS, CAPTION_FIELDS, PACK_FIELDS, ENCODED_FIELDS),
        (IMAGE, *OUTCOME_FIELDS, PACKED),
    )
    for field in fields
}


def outcome_arrays(verdicts: Sequence[Verdict]) -> dict[str, pa.Array]:
    """The four outcome columns for `verdicts`, one row each."""
    reasons = [v.reason for v in verdicts]
    return {
        "outcome": pa.array([v.outcome.value for v in verdicts], pa.string()),
        "reason": pa.array([r.value if r else None for r in reasons], pa.string()),
        "detail": pa.array([v.detail[:500] if v.reason else None for v in verdicts], pa.string()),
        "transient": pa.array(
            [r.transient if r and r.outcome is Outcome.FAILED else None for r in reasons], pa.bool_()
        ),
    }


def with_outcomes(table: pa.Table, verdicts: Sequence[Verdict]) -> pa.Table:
    """`table` with its outcome columns set (replaced where it has some of an earlier stage)."""
    assert len(verdicts) == table.num_rows
    columns = outcome_arrays(verdicts)
    table = table.drop_columns([n for n in columns if n in table.column_names])
    for field in OUTCOME_FIELDS:
        table = table.append_column(field, columns[field.name])
    return table


def without_outcomes(table: pa.Table) -> pa.Table:
    """`table` without outcome columns: what the next stage takes as its input."""
    return table.drop_columns([f.name for f in OUTCOME_FIELDS if f.name in table.column_names])
