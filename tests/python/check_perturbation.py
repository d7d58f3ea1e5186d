"""Checks with Python anndata an output of scgpt-perturb predict: a row for every perturbation, changes in a layer.

usage: check_perturbation.py PREDICTED.h5ad
"""

import sys

import anndata
import numpy as np


def check(condition, what):
    if not condition:
        sys.exit(f"differs: {what}")


predicted = anndata.read_h5ad(sys.argv[1])
names = ["GENE000", "GENE000+GENE001", "GENE000+GENE002", "GENE001", "GENE001+GENE002", "GENE002"]
check(list(predicted.obs_names) == names, f"names of perturbations: {list(predicted.obs_names)}")
change = predicted.layers["change"].toarray()
before = predicted.X.toarray() - change
check(np.allclose(before, predicted.var["control"].to_numpy()[None], atol=1e-4), "X is control plus change")
check((predicted.obs["observed_cells"] == 24).all(), "observed cells")
own = predicted.var_names.get_loc("GENE000")
check(change[0, own] < -1, "a knocked-out gene goes down")
