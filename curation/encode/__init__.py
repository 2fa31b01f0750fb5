"""Encode: packed shards → shards that hold VAE latents and text embeddings, for trainings that run neither encoder.

Read in this order: `signatures` (which models), `encoder` (them at work), `member` (tensors as bytes of a shard, and
back), `shard` and `stage` (all shards), `cache` (what a corpus says of its tensors), `view` (what the stream feeds).
Nothing here imports torch before it is used.
"""
