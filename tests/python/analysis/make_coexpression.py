"""Golden correlations of simulated cells: Pearson and Spearman by scipy, lagged ones by their definition with NumPy."""
import json
import numpy as np
from scipy.stats import pearsonr, spearmanr

rng = np.random.default_rng(3)
n, genes, windows, longest = 83, 9, 10, 3
t = np.round(rng.random(n), 2)                     # ties
values = np.round(np.maximum(0, rng.normal(size=(n, genes)) + np.sin(6 * t)[:, None] * rng.normal(size=genes)), 2)
pseudotime = t.copy()
pseudotime[[5, 40]] = np.nan
regulators, targets = [0, 3, 5], [8, 7, 3, 2, 1, 0]

def table(score):
    return [[None if r == g else abs(float(score(r, g))) for g in targets] for r in regulators]

order = [c for c in np.argsort(pseudotime, kind="stable") if np.isfinite(pseudotime[c])]
cuts = [w * len(order) // windows for w in range(windows + 1)]
means = np.array([values[order[a:b]].mean(0) for a, b in zip(cuts, cuts[1:])])
w = windows - longest
lagged = lambda r, g: max(abs(pearsonr(means[:w, r], means[l:l + w, g])[0]) for l in range(1, longest + 1))
json.dump({"values": values.tolist(), "pseudotime": [None if np.isnan(v) else float(v) for v in pseudotime],
           "regulators": regulators, "targets": targets,
           "pearson": table(lambda r, g: pearsonr(values[:, r], values[:, g])[0]),
           "spearman": table(lambda r, g: spearmanr(values[:, r], values[:, g])[0]),
           "lagged": table(lagged)}, open("coexpression.json", "w"))
