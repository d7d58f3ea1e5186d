"""Checks with Python anndata an output of scgpt-integrate for two modalities, one of which is missing in some cells.

usage: check_integration.py RNA.h5ad PROTEIN.h5ad WRITTEN.h5ad

The cells were ordered from `cell3`; the proteins of cells without them were imputed.
"""

import sys
import warnings

import anndata
import numpy as np
import pandas as pd

warnings.simplefilter("ignore")

KEY = "X_scGPT"


def check(condition, what):
    if not condition:
        sys.exit(f"differs: {what}")


def check_values(rna, protein, written):
    """The features of both files side by side, as Cell Ranger writes them; cells in the order of the first file."""
    check(list(written.obs_names) == list(rna.obs_names), "names of cells")
    kinds = written.var["feature_types"]
    check(isinstance(kinds.dtype, pd.CategoricalDtype), "feature_types is categorical")
    for part, kind in ((rna, "Gene Expression"), (protein, "Antibody Capture")):
        found = written[part.obs_names, kinds == kind]
        check(list(found.var_names) == list(part.var_names), f"features of {kind}")
        check((found.X != part.X).nnz == 0, f"values of {kind}")
    lacking = written[~written.obs_names.isin(protein.obs_names), kinds == "Antibody Capture"]
    check(lacking.n_obs > 0 and lacking.X.nnz == 0, "cells without proteins have no values")
    for column in rna.obs:
        check(rna.obs[column].equals(written.obs[column]), f"obs[{column}]")


def check_results(written, proteins):
    cells = written.n_obs
    clusters = written.obs[f"{KEY}_leiden"]
    check(isinstance(clusters.dtype, pd.CategoricalDtype) and not clusters.isna().any(), "clusters are categories")
    check(all(name.isdigit() for name in clusters.cat.categories), "clusters are numbered")
    order = written.obs[f"{KEY}_pseudotime"]
    check(order.dtype == np.float64 and order.between(0, 1).all() and order["cell3"] == 0, "pseudotime")
    columns = {KEY: 16, f"{KEY}_umap": 2, f"{KEY}_Protein": len(proteins)}
    check(set(written.obsm.keys()) == set(columns), "names of obsm")
    for name, n_columns in columns.items():
        rows = written.obsm[name]
        check(rows.shape == (cells, n_columns) and rows.dtype == np.float32, f"obsm[{name}]")
        check(np.isfinite(rows).all(), f"obsm[{name}] is finite")
    check(np.allclose(np.linalg.norm(written.obsm[KEY], axis=1), 1, atol=1e-5), "rows of length 1")
    graph = written.obsp[f"{KEY}_connectivities"]
    check(graph.format == "csr" and graph.dtype == np.float32 and graph.shape == (cells, cells), "the graph")
    check((graph != graph.T).nnz == 0 and not graph.diagonal().any(), "the graph is symmetric, without loops")
    check(list(written.uns[f"{KEY}_Protein_features"]) == proteins, "names of imputed features")
    settings = written.uns[KEY]
    check((settings["neighbors"], settings["resolution"]) == (15, 1.0), "settings")


def main(rna, protein, written):
    rna, protein, written = (anndata.read_h5ad(path) for path in (rna, protein, written))
    check_values(rna, protein, written)
    check_results(written, list(protein.var_names))


if __name__ == "__main__":
    main(*sys.argv[1:])
