"""Shards into training: exact order, elastic resume, one shape a batch, checked bytes. Only `loader.py` needs torch.

Read in this order: `corpus` (what the index says), `order` and `plan` (which samples make which batch), `reader`
(bytes), `stream` (all of it, with a state), `loader` (the same for torch).
"""
