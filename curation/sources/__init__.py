"""Lists of image URLs, and sets of images that are already here, become the first table of a run.

`stage.build_source` is what the engines call. Each kind of list has a file of its own (`parquet`, `delimited`, `jsonl`,
`txt`, `hf`, `webdataset`, `img2dataset`); all of them end as one `query.Query`, which gives the columns the corpus's
names and applies `where`. `naming` gives each row its `uid`, `spread` finds duplicates and keeps hosts apart, both in
`scratch`, a database on disk, so that memory does not grow with the list.
"""
