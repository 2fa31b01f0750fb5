"""Select: rules over columns decide which rows stay. No pixels are touched.

`rules` checks and reads the operator's SQL, `decide` applies all rules in their order, `near` finds perceptual and
`semantic` semantic duplicates, `stage` reads the stage before and writes each row with its outcome.
"""
