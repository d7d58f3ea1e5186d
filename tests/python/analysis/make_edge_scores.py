"""Golden scores of ranked edges by scikit-learn; ties, edges without a score, regulators without or with only true edges."""
import json
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

rng = np.random.default_rng(1)
R, T = 7, 60
truth = rng.random((R, T)) < np.array([0.1, 0.3, 0.05, 0.5, 0.2, 0.0, 0.15])[:, None]
scores = np.round(truth * 0.5 + rng.normal(size=(R, T)), 1)   # many ties
scores[rng.random((R, T)) < 0.15] = np.nan
own = [0, None, 5, 59, None, 3, None]

def rate(s, t):
    s = np.where(np.isnan(s), -1e9, s)
    k = int(t.sum())
    out = {"possible": len(s), "true": k, "random": k / len(s) if k else None, "auprc": None, "auroc": None, "early": None}
    if k:
        out["auprc"] = float(average_precision_score(t, s))
        border = np.sort(s)[::-1][k - 1]
        above, tied = s > border, s == border
        out["early"] = float((t[above].sum() + t[tied].mean() * (k - above.sum())) / k)
        if k < len(s):
            out["auroc"] = float(roc_auc_score(t, s))
    return out

mask = np.ones((R, T), bool)
for r, c in enumerate(own):
    if c is not None:
        mask[r, c] = False
json.dump({"scores": [[None if np.isnan(v) else float(v) for v in row] for row in scores], "truth": truth.astype(int).tolist(), "own": own,
           "regulators": [rate(scores[r][mask[r]], truth[r][mask[r]]) for r in range(R)], "overall": rate(scores[mask], truth[mask])}, open("edge_scores.json", "w"))
