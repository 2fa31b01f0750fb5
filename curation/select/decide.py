"""Which rows stay: every rule, in order, over the few columns that decide.

The order is fixed, and a row that a rule dropped takes no part in the later ones:

1. `where`: dropped where the condition is false or null;
2. exact duplicates (bytes or pixels);
3. perceptual duplicates;
4. semantic duplicates;
5. `top` by `by`.

Of duplicates the largest image stays: most pixels, then most bytes, then the lowest uid. Of semantic duplicates the
best stays: the highest by `prefer`, then the largest. Nothing here depends on the order in which rows come.

`curation.select.stage` feeds rows in and writes out what is decided. Rows are held in DuckDB, which spills to disk, and
embeddings in a file (`vectors`); only perceptual and semantic duplicates take memory for each row that has a hash or an
embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from curation.config import SelectSettings
from curation.errors import ConfigError, StorageError
from curation.row import CLIP_EMBEDDING, Reason
from curation.select.near import near_duplicates
from curation.select.rules import EXACT, Rule, compile_rules, connect, without_nan
from curation.select.semantic import semantic_duplicates
from curation.select.vectors import Vectors
from curation.sql import identifier, message

EXACT_REASONS = {"bytes": Reason.DUPLICATE_BYTES, "pixels": Reason.DUPLICATE_PIXELS}
REASONS: tuple[Reason | None, ...] = (
    None,
    Reason.WHERE,
    Reason.DUPLICATE_BYTES,
    Reason.DUPLICATE_PIXELS,
    Reason.NEAR_DUPLICATE,
    Reason.SEMANTIC_DUPLICATE,
    Reason.BELOW_TOP,
)
"""What the codes of `Decided` mean; code 0 stays."""

_LARGEST = "pixels DESC, bytes DESC, uid"
_ALIVE = "live ANTI JOIN dropped USING (nth)"


@dataclass(frozen=True)
class Decided:
    """What became of some consecutive rows."""

    codes: np.ndarray[Any, np.dtype[np.uint8]]
    """Index into `REASONS`, one a row."""
    winners: pa.Array
    """Uid of the image that a duplicate lost to, one a row; null otherwise."""


class Decision:
    """Takes all rows with `add`, decides in `resolve`, answers by row number with `outcomes`.

    Raises ConfigError where a rule fails on the data (text that is no number, say), StorageError where scratch files
    cannot be written.
    """

    def __init__(self, settings: SelectSettings, schema: pa.Schema, scratch: str) -> None:
        self._settings = settings
        rules = compile_rules(settings, schema)
        self._where, self._by = rules.where, rules.by
        self._prefer = None if settings.dedup.semantic is None else rules.prefer
        self._own = {"uid": "uid", "width": "width", "height": "height", "bytes": "length"}
        if settings.dedup.exact != "none":
            self._own["key"] = EXACT[settings.dedup.exact]
        if settings.dedup.phash is not None:
            self._own["phash"] = "phash"
        read = {name for rule in (self._where, self._by, self._prefer) if rule is not None for name in rule.columns}
        self._used = [name for name in schema.names if name in read]
        self._prefix = "own"
        while any(name.lower().startswith(self._prefix) for name in self._used):
            self._prefix += "_"
        self._vectors = None
        needed = {*self._own.values(), *self._used}
        if settings.dedup.semantic is not None:
            self._vectors = Vectors(f"{scratch}/embeddings", schema.field(CLIP_EMBEDDING).type)
            needed.add(CLIP_EMBEDDING)
        self.columns = [name for name in schema.names if name in needed]
        """Columns that `add` wants to see."""
        self.rows = 0
        """Rows added so far."""
        self._scratch = scratch
        self._db = connect(scratch)
        self._run(
            "CREATE TABLE live (nth BIGINT, uid UUID, pixels BIGINT, bytes BIGINT, key UHUGEINT, phash UBIGINT, "
            f"value {_type(self._by)}, preference {_type(self._prefer)})"
        )
        self._run("CREATE TABLE dropped (nth BIGINT, code UTINYINT, winner UUID)")

    def __enter__(self) -> Decision:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        if self._vectors is not None:
            self._vectors.close()

    def add(self, rows: pa.Table) -> None:
        """Take the next rows (columns `self.columns`), in the order in which `outcomes` will be asked."""
        # What we read stands under names of our own, beside the columns that the rules read.
        columns = {self._prefix + "nth": pa.array(np.arange(self.rows, self.rows + rows.num_rows))}
        for name in ("uid", "width", "height", "bytes", "key", "phash"):
            column = self._own.get(name)
            columns[self._prefix + name] = rows[column] if column in rows.column_names else pa.nulls(rows.num_rows)
        ours = [identifier(name) for name in columns]
        used = rows.select(self._used)
        self._db.register("batch", pa.table({**columns, **dict(zip(self._used, used.columns, strict=True))}))
        start, self.rows = self.rows, self.rows + rows.num_rows
        source = f"FROM (SELECT {', '.join([*ours, *without_nan(used.schema)])} FROM batch) AS rows"
        nth, uid, width, height, size, key, phash = ours
        # The MD5 of a SHA-256 names it as surely, in 16 bytes for 64.
        insert = (
            f"INSERT INTO live SELECT {nth}, {uid}::UUID, coalesce({width}::BIGINT * {height}, -1), "
            f"coalesce({size}, -1), md5_number({key}::VARCHAR), {phash}, {_value(self._by)}, {_value(self._prefer)} "
            f"{source} {self._condition()}"
        )
        try:
            self._run(insert)
        except duckdb.Error:
            self._blame(source)
            raise
        finally:
            self._db.unregister("batch")
        if self._vectors is not None:
            alive = self._table(f"SELECT nth FROM live WHERE nth >= {start} ORDER BY nth")["nth"].to_numpy()
            self._vectors.add(alive, rows[CLIP_EMBEDDING].take(pa.array(alive - start)))

    def resolve(self) -> None:
        """Apply the rules that compare rows."""
        if self._settings.dedup.exact != "none":
            self._drop_exact(EXACT_REASONS[self._settings.dedup.exact])
        if self._settings.dedup.phash is not None:
            self._drop_near(self._settings.dedup.phash)
        if self._vectors is not None:
            assert self._settings.dedup.semantic is not None
            self._drop_semantic(self._vectors, self._settings.dedup.semantic)
        if self._settings.top is not None:
            self._drop_below(self._settings.top)
        self._run(
            "CREATE TABLE decided AS SELECT nth, coalesce(code, 0) AS code, winner "
            "FROM live LEFT JOIN dropped USING (nth) ORDER BY nth"
        )

    def outcomes(self, start: int, count: int) -> Decided:
        """What became of `count` rows from row `start` on."""
        found = self._table(
            f"SELECT nth - {start} AS nth, code, replace(winner::VARCHAR, '-', '') AS winner "
            f"FROM decided WHERE nth >= {start} AND nth < {start + count}"
        )
        codes = np.full(count, REASONS.index(Reason.WHERE), np.uint8)
        nth = found["nth"].to_numpy()
        codes[nth] = found["code"].to_numpy()
        places = np.full(count, -1)
        places[nth] = np.arange(len(nth))
        return Decided(codes, found["winner"].combine_chunks().take(pa.array(places, mask=places < 0)))

    # -- rules -------------------------------------------------------------------------------------------------------

    def _condition(self) -> str:
        return f"WHERE (\n{self._where.sql}\n)" if self._where else ""

    def _blame(self, source: str) -> None:
        """Say which rule failed on the batch; nothing if it was none."""
        values = (self._where, "NULL"), (self._by, _value(self._by)), (self._prefer, _value(self._prefer))
        for rule, value in values:
            try:
                self._table(f"SELECT {value} {source} {self._condition()}")
            except duckdb.Error as error:
                if rule is None:
                    raise
                raise ConfigError(rule.setting, f"{rule.sql!r} fails on the data: {message(error)}") from None

    def _drop_exact(self, reason: Reason) -> None:
        self._run(
            f"INSERT INTO dropped SELECT nth, {REASONS.index(reason)}, winner FROM ("
            f"  SELECT nth, uid, first_value(uid) OVER (PARTITION BY key ORDER BY {_LARGEST}) AS winner FROM live"
            "   WHERE key IN (SELECT key FROM live WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1)"
            ") WHERE winner <> uid"
        )

    def _drop_near(self, bits: int) -> None:
        rows = self._table(f"SELECT nth, phash FROM {_ALIVE} WHERE phash IS NOT NULL ORDER BY {_LARGEST}")
        nth = rows["nth"].to_numpy()
        self._drop_losers(Reason.NEAR_DUPLICATE, nth, near_duplicates(rows["phash"].to_numpy(), bits))

    def _drop_semantic(self, vectors: Vectors, threshold: float) -> None:
        names, embeddings = vectors.read()
        self._db.register("embedded", pa.table({"nth": names, "place": np.arange(len(names))}))
        rows = self._table(
            f"SELECT nth, place FROM {_ALIVE} JOIN embedded USING (nth) ORDER BY preference DESC NULLS LAST, {_LARGEST}"
        )
        self._db.unregister("embedded")
        winner = semantic_duplicates(embeddings, rows["place"].to_numpy(), threshold)
        self._drop_losers(Reason.SEMANTIC_DUPLICATE, rows["nth"].to_numpy(), winner)

    def _drop_losers(self, reason: Reason, nth: np.ndarray[Any, Any], winner: np.ndarray[Any, Any]) -> None:
        """`winner`: for each row of `nth` the place of that it lost to, or -1."""
        lost = winner >= 0
        self._db.register("pairs", pa.table({"loser": nth[lost], "winner": nth[winner[lost]]}))
        self._run(
            f"INSERT INTO dropped SELECT loser, {REASONS.index(reason)}, uid "
            "FROM pairs JOIN live ON pairs.winner = live.nth"
        )
        self._db.unregister("pairs")

    def _drop_below(self, top: int) -> None:
        self._run(
            f"INSERT INTO dropped SELECT nth, {REASONS.index(Reason.BELOW_TOP)}, NULL FROM {_ALIVE} "
            f"ORDER BY value DESC NULLS LAST, uid OFFSET {top}"
        )

    # -- DuckDB ------------------------------------------------------------------------------------------------------

    def _run(self, sql: str) -> None:
        with self._scratch_errors():
            self._db.execute(sql).fetchall()

    def _table(self, sql: str) -> pa.Table:
        with self._scratch_errors():
            return self._db.sql(sql).to_arrow_table()

    @contextmanager
    def _scratch_errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise StorageError(f"select needs more scratch space in {self._scratch}: {message(error)}") from None


def _type(rule: Rule | None) -> str:
    return rule.type if rule else "TINYINT"


def _value(rule: Rule | None) -> str:
    """The value of a rule, NaN as null."""
    if rule is None:
        return "NULL"
    value = f"(\n{rule.sql}\n)"
    return f"nullif({value}, 'NaN'::{rule.type})" if rule.type in ("FLOAT", "DOUBLE") else value
