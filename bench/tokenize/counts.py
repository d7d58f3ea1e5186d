"""Writes a 10x-like file of counts: CSR, gzip, float32 values, int32 indices, about 8 % dense.

counts.py CELLS GENES FILE

Each block of cells has a generator of its own, so a smaller file holds the first cells of a larger one.
"""
import sys

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

BLOCK = 500
TYPES = 12


def abundances(genes):
    """Cumulative fractions of the genes in each cell type, TYPES x genes: log-normal, and different between the types."""
    random = np.random.default_rng(0)
    logarithms = random.normal(0, 2.1, genes) + random.normal(0, 0.7, (TYPES, genes))
    fractions = np.exp(logarithms)
    return np.cumsum(fractions / fractions.sum(1, keepdims=True), 1)


def block(number, cells, cumulative):
    """Counts of a block of cells: as many molecules as the cell has are drawn from the fractions of its type."""
    random = np.random.default_rng([1, number])
    genes = cumulative.shape[1]
    types = random.integers(TYPES, size=BLOCK)
    depths = random.lognormal(8.05, 0.4, BLOCK).astype(int)
    counts = np.zeros((cells, genes), np.float32)
    for cell in range(cells):
        drawn = np.searchsorted(cumulative[types[cell]], np.sort(random.random(depths[cell])))
        counts[cell] = np.bincount(np.minimum(drawn, genes - 1), minlength=genes)
    return sparse.csr_matrix(counts)


def main():
    cells, genes, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    cumulative = abundances(genes)
    blocks = [block(i, min(BLOCK, cells - start), cumulative) for i, start in enumerate(range(0, cells, BLOCK))]
    counts = sparse.vstack(blocks, format="csr")
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(cells)])
    var = pd.DataFrame(index=[f"GENE{i:05}" for i in range(genes)])
    anndata.AnnData(counts, obs, var).write_h5ad(path, compression="gzip")


main()
