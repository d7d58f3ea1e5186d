"""Predictions of the linear model of changes by scikit-learn, penalties chosen by refitting without each perturbation in turn.

python make_linear_changes.py > linear_changes.json
"""

import itertools
import json

import numpy as np
from sklearn.linear_model import Ridge

PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4]

draws = np.random.default_rng(7)
targets = [[0], [1], [2], [3], [4], [5], [0, 1], [2, 5], [1, 4]]
asked = [[6], [7], [0, 6], [3, 5]]
genes = draws.normal(size=(15, 3)) * 2
vectors = draws.normal(size=(8, 4)) * 0.3


def sums(perturbations):
    return np.array([vectors[list(p)].sum(axis=0) for p in perturbations])


changes = sums(targets) @ draws.normal(size=(4, 3)) @ genes.T
changes += draws.normal(size=15) + draws.normal(size=changes.shape) * 0.5
G = genes / np.sqrt((genes**2).mean())
vectors = vectors / np.sqrt((vectors**2).mean())


def predict(features, rows, questions, of_genes, of_targets):
    mean = rows.mean(axis=0)
    explained = Ridge(alpha=of_genes).fit(G, (rows - mean).T).predict(G).T
    return Ridge(alpha=of_targets).fit(features, explained).predict(questions) + mean


def error(pair):
    P, total = sums(targets), 0.0
    for out in range(len(targets)):
        kept = [i for i in range(len(targets)) if i != out]
        found = predict(P[kept], changes[kept], P[[out]], *pair)[0]
        total += ((changes[out] - found) ** 2).sum()
    return total


best = min(itertools.product(PENALTIES, PENALTIES), key=error)
print(
    json.dumps(
        {
            "targets": targets,
            "asked": asked,
            "changes": changes.tolist(),
            "gene_vectors": G.tolist(),
            "target_vectors": vectors.tolist(),
            "penalties": best,
            "predicted": predict(sums(targets), changes, sums(asked), *best).tolist(),
        }
    )
)
