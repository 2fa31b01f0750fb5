"""Ablations: which arms there are and what differs between them, and what their students' scores say.

`expand` makes the arms of a config; `analyse` turns scores into verdicts. `curate ablate` runs what lies between.
"""
