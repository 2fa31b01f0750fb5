"""The DAGs and the commands; the only place that imports Ray.

`curate.py` turns a config into stages and runs them, `engines/` say where, `cli.py` is `curate …`.
"""
