"""Golden of Harmony: simulated components corrected by harmonypy 0.0.10 (pip install harmonypy==0.0.10).

Given centroids and cells visited in order of their index (no shuffling) leave nothing to chance, so that values can be
compared one by one. harmonypy 2 accepts neither, hence the old version.
"""
import json
import sys

import numpy as np
import pandas as pd
import harmonypy

assert hasattr(harmonypy.harmony, "moe_correct_ridge"), "harmonypy 0.0.10 is needed"
rng = np.random.default_rng(0)
n, dims, k = 180, 6, 7
batches = rng.choice([4, 9, 2], n, p=[0.6, 0.35, 0.05])
batches[17] = 30  # a batch of one cell
types = rng.integers(0, 4, n)
centres = rng.normal(0, 4, (4, dims))
shifts = {batch: rng.normal(0, 1.5, dims) for batch in (2, 4, 9, 30)}
cells = centres[types] + np.array([shifts[b] for b in batches]) + rng.normal(0, 1, (n, dims))
cells = np.round(cells, 6)
# harmonypy 0.0.x divides cells by their largest value before scaling them, which mirrors cells without a positive one.
mirrored = cells.max(axis=1) <= 0
cells[mirrored, 0] *= -1
unit = cells / np.linalg.norm(cells, axis=1, keepdims=True)
start = np.round(unit[rng.choice(n, k, replace=False)], 6)

np.random.shuffle = lambda order: None
meta = pd.DataFrame({"batch": [f"b{b:02d}" for b in batches]})
result = {}
for name, theta, lamb, sigma in [("default", 2.0, 1.0, 0.1), ("other", 0.5, 3.0, 0.2)]:
    run = harmonypy.run_harmony(
        cells, meta, "batch", theta=theta, lamb=lamb, sigma=sigma, nclust=k, verbose=False,
        cluster_fn=lambda data, clusters: start,
    )
    print(name, "rounds", len(run.objective_harmony) - 1, run.kmeans_rounds, file=sys.stderr)
    result[name] = {"theta": theta, "lambda": lamb, "sigma": sigma, "corrected": np.round(run.Z_corr.T, 10).tolist()}
with open(sys.argv[1], "w") as file:
    json.dump({"cells": cells.tolist(), "batches": batches.tolist(), "start": start.tolist(), "runs": result}, file)
