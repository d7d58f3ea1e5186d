"""Splits labeled cells: split.py CELLS.h5ad TRAIN.h5ad TEST.h5ad holds out a fifth of each cell type."""

import sys

import anndata
import numpy as np

source, train, test = sys.argv[1:]
cells = anndata.read_h5ad(source)
draw = np.random.default_rng(0)
is_test = np.zeros(cells.n_obs, bool)
for name in sorted(cells.obs["celltype"].unique()):
    of_type = np.flatnonzero(cells.obs["celltype"] == name)
    is_test[draw.permutation(of_type)[: round(len(of_type) / 5)]] = True
cells[~is_test].write_h5ad(train)
cells[is_test].write_h5ad(test)
