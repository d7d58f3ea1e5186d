"""Differential expression by scanpy of simulated cells: golden/differential.json."""

import json
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from scanpy.tools._rank_genes_groups import _RankGenes

warnings.filterwarnings("ignore")
rng = np.random.default_rng(0)
sizes = {"ctrl": 70, "strong": 40, "weak": 25, "few": 6}
n_genes = 40
condition = np.repeat(list(sizes), list(sizes.values()))
rates = np.repeat(rng.gamma(0.6, 2.0, n_genes)[None], len(condition), 0)
rates[condition == "strong", 5:15] *= 6
rates[condition == "strong", 15:20] *= 0.05
rates[condition == "weak", 8:12] *= 1.6
counts = rng.poisson(rates).astype(np.float64)
counts[:, 0] = 0
counts[:, 1] = (condition == "strong") * rng.poisson(3.0, len(condition))
counts[condition == "strong", 2] += 60
X = np.log1p(1e2 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).round(3).astype(np.float32)
X[:, 3] = 0.7  # equal in all cells

# In double precision, because scanpy squares values in their own.
adata = anndata.AnnData(sparse.csr_matrix(X.astype(np.float64)), obs=pd.DataFrame({"condition": pd.Categorical(condition)}))
tests = {
    "t_test": ("t-test", {}),
    "wilcoxon": ("wilcoxon", {}),
    "wilcoxon_tie_corrected": ("wilcoxon", {"tie_correct": True}),
}
expected = {}
for name, (method, options) in tests.items():
    ranked = _RankGenes(adata, list(sizes), "condition", reference="ctrl")
    ranked.compute_statistics(method, **options)
    columns = ["scores", "pvals", "pvals_adj", "logfoldchanges"]
    expected[name] = {
        group: {column: ranked.stats[group, column].tolist() for column in columns}
        for group in sizes
        if group != "ctrl"
    }
golden = {
    "condition": condition.tolist(),
    "values": [[float(str(value)) for value in row] for row in X],
    "expected": expected,
}
Path(__file__).with_name("differential.json").write_text(json.dumps(golden))
