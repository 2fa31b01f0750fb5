"""How the small models of the embedded world are trained: one module a model, `python -m curation.scenes.zoo.NAME`.

`python -m curation.scenes.zoo` (`make zoo`) trains all that are not there yet, in an order in which each finds what it
leans on. `training.py`, `shots.py`, `grid.py` and `cards.py` hold what they share.
"""
