"""Distil a text-to-image teacher into a compact student: KOALA (Lee et al. 2024, arXiv 2312.04005) and its ablations.

Read in this order: `student` (its shape), `inherit` (its first weights), `losses`, `taps` (features on both sides).
"""
