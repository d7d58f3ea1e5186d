"""Checks with Python anndata the outputs of scgpt-grn.

usage: check_grn.py ATTENTION.h5ad EDGES.tsv
       check_grn.py GENES.h5ad PROGRAMS.gmt SCORED.h5ad

All pairs of genes are in the table of edges.
"""

import sys

import anndata
import numpy as np
import pandas as pd


def check(condition, what):
    if not condition:
        sys.exit(f"differs: {what}")


def check_attention(network, edges):
    """Rows of obsp are targets, columns regulators."""
    network, edges = anndata.read_h5ad(network), pd.read_csv(edges, sep="\t")
    genes = list(network.obs_names)
    names = {"attention_ctrl", "attention_one", "attention_two", "difference_one", "difference_two"}
    check(set(network.obsp) == names, f"names of obsp: {list(network.obsp)}")
    for name in names:
        scores = network.obsp[name].toarray()
        condition = name if name.startswith("difference") else name.removeprefix("attention_")
        own = edges[edges.condition == condition]
        check(len(own) == len(genes) * (len(genes) - 1), f"pairs of {name}")
        found = scores[[genes.index(gene) for gene in own.target], [genes.index(gene) for gene in own.regulator]]
        check(np.allclose(found, own.score, atol=1e-6), f"scores of {name}")
        best = own.sort_values(["regulator", "rank"]).groupby("regulator").score
        check(best.apply(lambda score: score.is_monotonic_decreasing).all(), f"ranks of {name}")


def check_programs(genes, programs, scored):
    genes, scored = anndata.read_h5ad(genes), anndata.read_h5ad(scored)
    lines = [line.rstrip("\n").split("\t") for line in open(programs, encoding="utf-8")]
    expected = {gene: line[0] for line in lines for gene in line[2:]}
    found = genes.obs["program"].astype(object)
    check({gene: name for gene, name in found.items() if isinstance(name, str)} == expected, "programs of genes")
    embeddings = genes.obsm["X_scGPT"]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = genes.obsp["similarity"].toarray()
    apart = ~np.eye(len(unit), dtype=bool)
    check(np.allclose((unit @ unit.T)[apart], similarity[apart], atol=1e-5), "similarity is the cosine of embeddings")
    check(scored.obsm["X_programs"].shape == (scored.n_obs, len(lines)), "activities of programs")


if __name__ == "__main__":
    (check_attention if len(sys.argv) == 3 else check_programs)(*sys.argv[1:])
