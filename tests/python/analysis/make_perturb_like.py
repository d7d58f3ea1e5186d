"""The simulated cells of metrics/perturb_like.h5ad as JSON: golden/perturb_like.json. Argument: the h5ad file."""

import json
import sys
from pathlib import Path

import anndata

adata = anndata.read_h5ad(sys.argv[1])
golden = {
    "genes": adata.var_names.tolist(),
    "condition_name": adata.obs["condition_name"].tolist(),
    "condition": adata.obs["condition"].tolist(),
    "values": [[float(str(value)) for value in row] for row in adata.X.toarray()],
    "non_dropout": {name: list(genes) for name, genes in adata.uns["top_non_dropout_de_20"].items()},
}
Path(__file__).with_name("perturb_like.json").write_text(json.dumps(golden))
