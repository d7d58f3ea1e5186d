"""Checks with Python anndata a file that scgpt-perturb predict made: a row for every perturbation, what changed in a layer.

usage: check_perturbation.py TOLD.h5ad
"""

import sys

import anndata
import numpy as np


def check(condition, what):
    if not condition:
        sys.exit(f"differs: {what}")


told = anndata.read_h5ad(sys.argv[1])
names = ["GENE000", "GENE000+GENE001", "GENE000+GENE002", "GENE001", "GENE001+GENE002", "GENE002"]
check(list(told.obs_names) == names, f"names of perturbations: {list(told.obs_names)}")
change = told.layers["change"].toarray()
before = told.X.toarray() - change
check(np.allclose(before, told.var["control"].to_numpy()[None], atol=1e-4), "X is control plus change")
check((told.obs["observed_cells"] == 24).all(), "observed cells")
own = told.var_names.get_loc("GENE000")
check(change[0, own] < -1, "a knocked-out gene goes down")
