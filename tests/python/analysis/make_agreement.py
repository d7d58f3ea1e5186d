"""Adjusted Rand index and normalized mutual information of scikit-learn, for agreement.rs. Writes agreement.json."""
import json, pathlib
import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

rng = np.random.default_rng(0)
truth = rng.integers(0, 6, 300)
noisy = np.where(rng.random(300) < 0.3, rng.integers(0, 9, 300), truth)
cases = {
    "empty": ([], []),
    "one cell": ([3], [5]),
    "one group both": ([2] * 5, [7] * 5),
    "all alone both": (range(6), range(6)[::-1]),
    "one group, all alone": ([0] * 6, range(6)),
    "one group, two groups": ([0] * 6, [0, 0, 0, 1, 1, 1]),
    "all alone, two groups": (range(6), [0, 0, 0, 1, 1, 1]),
    "two cells, together and apart": ([0, 0], [0, 1]),
    "less than chance": ([0, 0, 1, 1], [0, 1, 0, 1]),
    "equal": (truth, truth),
    "noisy": (truth, noisy),
    "finer": (truth, truth * 2 + rng.integers(0, 2, 300)),
    "independent": (truth, rng.integers(0, 4, 300)),
    "unequal sizes": (rng.geometric(0.5, 200), rng.geometric(0.2, 200)),
}
golden = []
for name, (a, b) in cases.items():
    a, b = [int(x) for x in a], [int(x) for x in b]
    golden.append({
        "name": name, "a": a, "b": b,
        "adjusted_rand": float(adjusted_rand_score(a, b)),
        "normalised_mutual_information": float(normalized_mutual_info_score(a, b)),
    })
    print(name, golden[-1]["adjusted_rand"], golden[-1]["normalised_mutual_information"])
pathlib.Path(__file__).with_name("agreement.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
