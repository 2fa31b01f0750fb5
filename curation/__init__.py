"""Building blocks of a corpus: what the DAGs in `pipelines/` are made of.

A row travels `source → fetch → score → select → caption → pack → stream → distill`. Each stage is a folder
here; `row.py` names the columns in that order, `op.py` says what an operator is, `fragments.py` how a stage's
rows are committed. Nothing here imports Ray, and importing it loads neither torch nor transformers.
"""

__version__ = "0.1.0"
