"""The table that `benchmarks/select.py` works on: rows in the shape of what fetch and score leave behind, generated."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa

from curation.fragments import Counts, Fragment, conform, outcome_schema
from curation.row import FETCH_FIELDS, SOURCE_FIELDS
from curation.stage import Solo
from curation.storage import Folder

WORDS = """
a the of in and with on red blue old small large house river mountain street portrait woman man dog cat light night
morning photo vintage stock image view city beach forest flower garden table kitchen modern design black white green
golden sunset winter summer snow rain car bridge tower church market people child wedding dress art painting poster
logo vector background texture wall wood stone iron
"""

# `h` and `g` are random numbers of row `i`; `o` is the row whose bytes it has: of each 100 rows 3 are exact copies of
# the row before, and 2 are near copies (one bit of the perceptual hash differs).
ROWS = """
WITH numbers AS (
  SELECT i, i - (i % 100 IN (11, 22, 43))::BIGINT AS o, (hash(i) >> 1)::BIGINT AS h, (hash(-i - 1) >> 1)::BIGINT AS g,
  FROM range($start, $end) AS range(i)
), words AS (SELECT *, $words AS words FROM numbers)
SELECT
  md5(i::VARCHAR) AS uid,
  'laion' AS source,
  format('https://img{}.{}{}.example/uploads/20{:02d}/{:02d}/{}.jpg', h % 997, words[h % 67 + 1], words[g % 67 + 1],
    i % 12 + 12, i % 11 + 1, md5((i + 7)::VARCHAR)[:20]) AS url,
  concat_ws(' ', words[h // 3 % 67 + 1], words[h // 211 % 67 + 1], words[h // 14143 % 67 + 1],
    words[h // 947581 % 67 + 1], words[h // 63487927 % 67 + 1], words[h // 4253691109 % 67 + 1],
    words[g // 3 % 67 + 1], words[g // 211 % 67 + 1], words[g // 14143 % 67 + 1], i) AS alt_text,
  url AS final_url,
  200 AS status,
  'image/jpeg' AS content_type,
  100000 + hash(o) % 900000 AS length,
  length AS bytes_received,
  0 AS bytes_saved,
  1 AS tries,
  g // 7 % 3000 AS elapsed_ms,
  'jpeg' AS format,
  1024 + hash(o) // 7 % 3000 AS width,
  1024 + hash(o) // 30011 % 3000 AS height,
  1 AS frames,
  md5('s' || o) || md5('S' || o) AS source_sha256,
  md5('p' || o) || md5('P' || o) AS pixel_sha256,
  CASE WHEN i % 100 IN (50, 70) THEN xor(hash(i - 1), 1::UBIGINT << (i // 100 % 64)) ELSE hash(o) END AS phash,
  300 * (g // 3 % 1000003 / 1000003)**2 AS sharpness,
  'jpg' AS stored_format,
  true AS stored_as_is,
  format('p{:06d}-{}.tar', i // 500, md5((i // 500)::VARCHAR)[:8]) AS tar,
  i % 500 * 400000 AS "offset",
  md5('b' || o) || md5('B' || o) AS sha256,
  5 + 0.7 * sqrt(-2 * ln((h % 1000003 + 1) / 1000004)) * cos(2 * pi() * (g % 1000003) / 1000003) AS aesthetic,
  'kept' AS outcome
FROM words
"""


class Scored(Solo):
    """A stage before select, with `rows` rows in fragments of `fragment_rows`."""

    name = "score"

    def __init__(self, output: Folder, rows: int, fragment_rows: int) -> None:
        super().__init__(output, None, {"rows": rows, "fragment_rows": fragment_rows})
        self.rows = rows
        self._fragment_rows = fragment_rows

    @property
    def schema(self) -> pa.Schema:
        return outcome_schema(SOURCE_FIELDS, FETCH_FIELDS, [pa.field("aesthetic", pa.float32())])

    def build(self) -> list[Fragment]:
        starts = range(0, self.rows, self._fragment_rows)
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self._fragment, range(len(starts)), starts))

    def _fragment(self, partition: int, start: int) -> Fragment:
        rows = min(self._fragment_rows, self.rows - start)
        with duckdb.connect(config={"threads": 1}) as connection:
            parameters = {"words": WORDS.split(), "start": start, "end": start + rows}
            table = connection.sql(ROWS, params=parameters).to_arrow_table()
        name = f"p{partition:06d}-00000000-end.parquet"
        self.folder.write_table(name, conform(table, self.schema))
        return Fragment(name, Counts(rows, kept=rows))
