"""Golden program scores of the original implementation, with their matrix and gene sets, in plain text.

The matrix is cells x genes, one row of [gene, value] pairs per cell. Argument: the directory of golden files of the original implementation.
"""
import json
import sys
import anndata
import numpy as np

root = sys.argv[1]
a = anndata.read_h5ad(f"{root}/preprocessing/log_normalised.h5ad")
names = list(a.var["gene_name"].astype(str)) if not a.var_names[0].startswith("GENE") else list(a.var_names)
sets = json.load(open(f"{root}/grn/program_sets.json"))
rows = []
for i in range(a.n_obs):
    row = a.X[i]
    row.sort_indices()
    rows.append([[int(g), float(np.float32(v))] for g, v in zip(row.indices, row.data)])
table = [line.rstrip("\n").split("\t") for line in open(f"{root}/grn/program_scores.tsv")]
with open("program_scores.json", "w") as f:
    json.dump({"n_genes": a.n_vars, "sets": [[names.index(g) for g in genes if g in names] for genes in sets.values()],
               "scores": [[float(v) for v in r[1:]] for r in table[1:]],
               "rows": [[[g, float(f"{v:.9g}")] for g, v in row] for row in rows]}, f, separators=(",", ":"))
