"""`adaptive-diffusion bench`: every way to make the same pictures, side by side.

suite     what to make: models, prompts, schedulers, steps; a TOML file
cells     one model with one scheduler, number of steps and guidance
rows      the ways to make a cell's pictures, the full run first
learning  what rows find out beforehand: plans of a measured model, searched masks
ways      makes one sample in one way
run       for each cell, for each sample, every row; what is measured goes into the store
fidelity  how close two pictures are
store     one JSON line per measurement, so that a run that was killed goes on
summary   means, ratios, and what each family gives at equal cost
outputs   results.csv, summary.json, table.md and the plots, all made from the store
"""
