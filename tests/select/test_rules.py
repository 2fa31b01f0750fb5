from __future__ import annotations

import pyarrow as pa
import pytest

from curation.config import SelectSettings
from curation.errors import ConfigError
from curation.fragments import outcome_schema
from curation.row import FETCH_FIELDS, SOURCE_FIELDS
from curation.select.rules import BY, WHERE, check_rules, compile_rules

SCHEMA = outcome_schema(
    SOURCE_FIELDS,
    [
        pa.field("WIDTH", pa.int64()),
        pa.field('it"s Ü', pa.float32()),
        pa.field("select", pa.int8()),
        pa.field("meta", pa.struct([("stars", pa.int32())])),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("half", pa.list_(pa.float16())),
    ],
    FETCH_FIELDS,
    [pa.field("aesthetic", pa.float32())],
)


def refused(schema: pa.Schema = SCHEMA, **settings: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_rules(SelectSettings.model_validate(settings), schema)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("aesthetic >= 5.5 and sharpness >= 40", ("sharpness", "aesthetic")),
        ("Aesthetic > 5 -- good ones", ("aesthetic",)),
        ('"it""s Ü" > 1', ('it"s Ü',)),
        ('"select" = 1', ("select",)),
        ("meta.stars > 3", ("meta",)),
        ("rows.width > 3", ("width",)),
        ("list_contains(tags, 'cat')", ("tags",)),
        ("len(list_filter(tags, lambda width: width = 'x')) > 0", ("tags", "width")),  # one too many does no harm
        ("url not like '%logo%' and alt_text is not null", ("url", "alt_text")),
        ("phash % 10 = 0", ("phash",)),
        ("true", ()),
    ],
)
def test_accepts(sql: str, columns: tuple[str, ...]) -> None:
    rules = compile_rules(SelectSettings(where=sql), SCHEMA)
    where, by = rules.where, rules.by
    assert by is None
    assert where is not None
    assert set(where.columns) == set(columns)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("aesthetics >= 5", "unknown column 'aesthetics'; did you mean 'aesthetic'?"),
        ("zzz >= 5", "unknown column 'zzz'; there are: aesthetic, alt_text,"),
        ("nothing.width >= 5", "unknown column 'nothing'"),
        ("aesthetic >=", "'aesthetic >=' is no SQL expression: Parser Error"),
        ("", "'' is no SQL expression"),
        ("width > 5) or (width < 3", "is no SQL expression"),
        ("true; drop table live", "is no SQL expression"),
        ("width, height", "is no SQL expression"),
        ("aesthetic", "'aesthetic' is no condition: its value is FLOAT, not BOOLEAN"),
        ("'yes'", "is no condition"),
        ("null", "is no condition"),
        ("lenght(url) > 3", 'Did you mean "length"?'),
        ("width > 'wide'", "Could not convert string 'wide' to INT32"),
        ("width > ?", "parameters"),
        ("avg(width) > 3", "cannot contain aggregates"),
        ("row_number() over () < 3", "cannot contain window functions"),
        ("uid in (select uid from live)", "cannot hold a subquery"),
        ("columns('w.*') > 3", "names its columns one by one"),
        ("random() < 0.5", "random gives another value each time"),
        ("UUID() is null", "uuid gives another value each time"),
        ("now() is null", "now gives another value each time"),
        ("current_date > DATE '2030-01-01'", "current_date gives another value each time"),
        ("read_text('/etc/passwd') is null", "read_text"),
        ("half[1] > 0", "DuckDB cannot read column 'half', whose type is list<item: halffloat>"),
        ("outcome = 'kept'", "cannot see column 'outcome': it belongs to the stage before"),
        ("WIDTH >= 1024", "cannot see column 'WIDTH': SQL cannot tell it from 'width'"),
    ],
)
def test_refuses_where(sql: str, problem: str) -> None:
    error = refused(where=sql)
    assert error.path == WHERE
    assert problem in error.problem


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("aesthetics", "did you mean 'aesthetic'?"),
        ("sum(width)", "cannot contain aggregates"),
        ("rank() over (order by width)", "cannot contain window functions"),
        ("null", "is always null"),
        ("width desc", "is no SQL expression"),
    ],
)
def test_refuses_by(sql: str, problem: str) -> None:
    error = refused(top=3, by=sql)
    assert error.path == BY
    assert problem in error.problem


@pytest.mark.parametrize("sql", ["aesthetic", "width * height", "-sharpness", "alt_text", "meta", "width > 3"])
def test_by_takes_any_value(sql: str) -> None:
    check_rules(SelectSettings(top=3, by=sql), SCHEMA)


def test_a_corpus_column_is_seen_before_a_kept_one_that_differs_in_case() -> None:
    where = compile_rules(SelectSettings(where="width > 5"), SCHEMA).where
    assert where is not None
    assert where.columns == ("width",)
    only_kept = outcome_schema([pa.field("WIDTH", pa.int64()), pa.field("Width", pa.int64())])
    assert "SQL cannot tell it from 'WIDTH'" in refused(only_kept, where="Width > 5").problem


def test_a_column_may_bear_the_name_of_an_unsteady_function() -> None:
    schema = outcome_schema([pa.field("uid", pa.string()), pa.field("today", pa.int64())])
    where = compile_rules(SelectSettings(where="today > 5"), schema).where
    assert where is not None
    assert where.columns == ("today",)


def test_duplicates_need_their_columns() -> None:
    schema = outcome_schema([pa.field("uid", pa.string())])
    assert refused(schema).path == "stages.select.dedup.exact"
    assert refused(schema, dedup={"exact": "none", "phash": 4}).path == "stages.select.dedup.phash"
    check_rules(SelectSettings.model_validate({"dedup": {"exact": "none"}}), schema)
