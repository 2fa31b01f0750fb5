import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pytest

from curation.pack.plain import plain

NOON = datetime.datetime(2024, 5, 17, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None], pa.int8()), [1, -1]),
        (pa.array([2**63 - 1, None], pa.int64()), [2**63 - 1, -1]),
        (pa.array([2**64 - 1, None], pa.uint64()), ["18446744073709551615", ""]),
        (pa.array([1, None], pa.float64()), [1.0, -1.0]),
        (pa.array([0.1, float("nan"), float("inf")], pa.float32()), [0.1, -1.0, -1.0]),
        (pa.array([np.float16(0.5), None], pa.float16()), [0.5, -1.0]),
        (pa.array(["é\n", None]), ["é\n", ""]),
        (pa.array(["a", None], pa.large_string()), ["a", ""]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", "", "a"]),
        (pa.array([True, None]), [True, False]),
        (pa.array([NOON, None], pa.timestamp("s", "UTC")), ["2024-05-17 12:00:00Z", ""]),
        (pa.array([datetime.date(2024, 5, 17), None]), ["2024-05-17", ""]),
        (pa.array([datetime.timedelta(seconds=2)], pa.duration("s")), ["2"]),
        (pa.array([decimal.Decimal("1.50"), None]), ["1.50", ""]),
        (pa.array([["a", "b"], None]), ['["a", "b"]', ""]),
        (pa.array([{"b": 1, "a": None}, None]), ['{"a": null, "b": 1}', ""]),
        (pa.array([b"\x00\xff", None]), ['"00ff"', ""]),
        (pa.nulls(2), ["", ""]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_one_type_and_no_nulls(column: pa.Array, expected: list[object]) -> None:
    found = plain(pa.chunked_array([column]))
    assert found == expected
    assert len({type(value) for value in found}) == 1
    json.dumps(found, allow_nan=False)


def test_floats_have_a_point_in_json() -> None:
    text = json.dumps(plain(pa.chunked_array([pa.array([3, 0, -0.0, 1e21], pa.float32())])))
    assert all("." in number or "e" in number for number in text.strip("[]").split(", "))
