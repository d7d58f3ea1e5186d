"""Makes `logistic.safetensors`: principal components and labels of real cells, and scikit-learn's answer.

Run with anndata, numpy, scikit-learn 1.9 and safetensors:
python tests/data/baselines/make.py "$SCGPT_TEST_DATA/annotation/pbmc_zheng_sorted.h5ad"
Cells, split and seeds are fixed; components are rounded to f32 so that both sides fit the same numbers.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
from safetensors.numpy import save_file
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

cells = anndata.read_h5ad(sys.argv[1])
labels = cells.obs["celltype"].cat.codes.to_numpy().astype(np.int64)
chosen = np.random.default_rng(1).permutation(cells.n_obs)[:500]
counts = cells.X[chosen].toarray()
labels = labels[chosen]
values = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
values = values[:, np.argsort(-values.var(0), kind="stable")[:500]]
train = np.arange(500) < 350
pca = PCA(20, svd_solver="full", random_state=0).fit(values[train])
components = pca.transform(values).astype(np.float32)


def fit(labels):
    # Far beyond the default tolerance, so that the optimum is compared and not the way to it.
    model = LogisticRegression(C=1.0, tol=1e-12, max_iter=100000)
    return model.fit(components[train].astype(np.float64), labels[train])


def probabilities(labels):
    return fit(labels).predict_proba(components[~train].astype(np.float64))


assert np.array_equal(np.unique(labels[train]), np.arange(10))
arrays = {
    "components": components,
    "labels": labels,
    "probabilities": probabilities(labels),
    "probabilities_two_classes": probabilities((labels < 5).astype(np.int64)),
}
save_file(arrays, Path(__file__).with_name("logistic.safetensors"))
