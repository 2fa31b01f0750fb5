"""Pack: the image bank and a table of chosen rows → WebDataset shards, an index and a manifest.

`layout.py` decides which sample goes into which bucket and shard, without touching pixels; `stage.py` encodes and
writes one shard at a time. What a shard's bytes depend on is written in these two stages' identities, and nothing else.
"""
