"""How the small models of the embedded world are trained: one module a model, `python -m curation.scenes.zoo.NAME`.

In this order, for each leans on those before: `tokenizer`, `vae`, `teacher`. `training.py` holds what they share.
"""
