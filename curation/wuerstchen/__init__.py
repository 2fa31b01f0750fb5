"""Würstchen (Pernias et al. 2023, arXiv 2306.00637): text-to-image in a latent that is 42 times smaller a side.

    text → Stage C → semantic latents [16, H/42.67, W/42.67] → Stage B → latents [4, H/4, W/4] → Stage A → picture

`stage_c.py` and `stage_b.py` are recipes of `curation/train`; `cascade.py` samples all three stages and keeps them in a
folder; `compressor.py` makes semantic latents of pictures.
"""
