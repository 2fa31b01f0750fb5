"""How good are the pictures that a text-to-image model makes of prompts it has not seen? Metrics behind one interface.

`evaluate.evaluate` samples and measures; the ablations call it for every student. Start with `metric` (what a metric
is) and `results` (what comes out). Judged by the embedded world's judge: `scenes`; from pixels: `spectrum`; from
features: `kid`, `cmmd`, `nearest`; by models: `clip_score`, `preference`, `vqa`. Only what runs a model loads torch.
"""
