"""Golden of ridge regression: simulated data fitted by scikit-learn (version in the file)."""
import json
import sys

import numpy as np
import sklearn
from sklearn.linear_model import Ridge, RidgeCV

rng = np.random.default_rng(1)
penalties = [0.01, 0.1, 1.0, 10.0, 100.0]
cases = {}
for name, n, p in [("more_cells", 40, 9), ("more_features", 14, 30), ("as_many", 12, 12)]:
    x = np.round(rng.normal(2, 1, (n, p)) * rng.uniform(0.2, 3, p), 6)
    x[:, 3] = 1.25  # a constant column
    x[:, 5] = x[:, 4]  # a repeated column
    y = np.round(x @ rng.normal(0, 1, (p, 3)) + rng.normal(0, 2, (n, 3)) + [5, 0, -7], 6)
    fits = []
    for penalty in penalties:
        model = Ridge(alpha=penalty).fit(x, y)
        fits.append({
            "penalty": penalty, "weights": model.coef_.T.tolist(), "intercepts": model.intercept_.tolist(),
            "predicted": model.predict(x[:4]).tolist(),
        })
        for cell in range(n):  # leave-one-out by definition
            keep = np.arange(n) != cell
            left = Ridge(alpha=penalty).fit(x[keep], y[keep]).predict(x[[cell]])[0]
            fits[-1].setdefault("left_out", []).append((y[cell] - left).tolist())
    chosen = RidgeCV(alphas=penalties).fit(x, y)
    cases[name] = {"x": x.tolist(), "y": y.tolist(), "fits": fits, "chosen": float(chosen.alpha_),
                   "chosen_weights": chosen.coef_.T.tolist()}
    print(name, chosen.alpha_, file=sys.stderr)
with open(sys.argv[1], "w") as file:
    json.dump({"scikit-learn": sklearn.__version__, "cases": cases}, file)
