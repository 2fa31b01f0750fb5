"""Scorers: operators that add columns. They never drop a row; `select` decides."""
