"""Writes integration.json: scores of simulated cells by scib and scib-metrics.

Run with scib 1.1.7, scib-metrics 0.5.10, scikit-learn and umap-learn installed.
"""
import json
import pathlib

import anndata
import numpy as np
import pandas as pd
import scib
import scib_metrics
from scib_metrics.nearest_neighbors import NeighborsResults
from scib_metrics.utils import silhouette_samples
from sklearn.neighbors import NearestNeighbors

N, DIMENSIONS = 400, 5
rng = np.random.default_rng(3)
# Type 0 lies on two large islands; type 1 is small; type 3 is in batch 2 only; type 4 lies on two islands too small for a test; type 5 has few cells.
labels = rng.choice(6, N, p=[0.34, 0.06, 0.3, 0.1, 0.18, 0.02])
batches = np.where(labels == 3, 2, rng.choice(3, N, p=[0.5, 0.3, 0.2]))
batches[rng.integers(N)] = 3
island = (labels == 4) & (rng.random(N) < 0.6)
batches[island] = 0
island |= (labels == 0) & (rng.random(N) < 0.5)
types = rng.normal(0, 2.2, (6, DIMENSIONS))
shifts = rng.normal(0, 0.7, (4, DIMENSIONS))
embedding = types[labels] + shifts[batches] + rng.normal(0, 1, (N, DIMENSIONS)) + 30.0 * island[:, None]
embedding = np.round(embedding, 3)

distances, indices = NearestNeighbors(n_neighbors=90, algorithm="kd_tree").fit(embedding).kneighbors()
indices = np.hstack([np.arange(N)[:, None], indices[:, :89]])
distances = np.hstack([np.zeros((N, 1)), distances[:, :89]])
neighbors = NeighborsResults(indices=indices, distances=distances.astype(np.float32))
kbet_graph = neighbors.subset_neighbors(20).knn_graph_connectivities.tocsr()
kbet_graph.sort_indices()

cells = anndata.AnnData(np.zeros((N, 1)), obs=pd.DataFrame({"label": [f"T{x}" for x in labels], "batch": [f"B{x}" for x in batches]}, index=[str(i) for i in range(N)]))
cells.obs["label"] = cells.obs["label"].astype("category")
cells.obs["batch"] = cells.obs["batch"].astype("category")
cells.obsm["embedding"] = embedding
cells.obsp["connectivities"] = kbet_graph
cells.uns["neighbors"] = {}

# Label by label: a small label lowers the number of diffusion components of the labels that follow in the same call.
kbet = []
for label in np.unique(labels):
    others = (labels != label).astype(int)
    table = scib_metrics.kbet_per_label(neighbors.subset_neighbors(20), batches, others, return_df=True)[1]
    kbet.append(table["kBET"][0])

upper = [(i, int(j), round(float(w), 6)) for i in range(N) for j, w in zip(kbet_graph[i].indices, kbet_graph[i].data) if i < j]
none = lambda x: None if np.isnan(x) else float(x)
golden = {
    "labels": labels.tolist(),
    "batches": batches.tolist(),
    "embedding": embedding.tolist(),
    "edges": upper,
    "asw_label": float(scib.me.silhouette(cells, "label", "embedding")),
    "asw_batch": float(scib.me.silhouette_batch(cells, "batch", "label", "embedding", verbose=False)),
    "silhouettes": np.round(silhouette_samples(embedding, labels).astype(float), 5).tolist(),
    "graph_connectivity": float(scib.me.graph_connectivity(cells, "label")),
    "pcr": float(scib.me.pcr(cells, "batch", embed="embedding", n_comps=DIMENSIONS)),
    "ilisi": float(scib_metrics.ilisi_knn(neighbors, batches)),
    "clisi": float(scib_metrics.clisi_knn(neighbors, labels)),
    "lisi_batch": np.round(scib_metrics.lisi_knn(neighbors, batches).astype(float), 4).tolist(),
    "kbet": float(np.nanmean(kbet)),
    "kbet_by_label": [none(x) for x in kbet],
    "isolated_labels": float(scib_metrics.isolated_labels(embedding, labels, batches)),
}
path = pathlib.Path(__file__).with_name("integration.json")
path.write_text(json.dumps(golden, separators=(",", ":")))
print({key: value for key, value in golden.items() if not isinstance(value, list) or key.startswith("kbet")}, np.bincount(labels), path.stat().st_size)
