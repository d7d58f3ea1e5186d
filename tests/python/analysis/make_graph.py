"""Simulated cells with scanpy's connectivities, diffusion components and pseudotime: graph.json.

Needs scanpy 1.11, umap-learn 0.5.
"""
import json

import anndata
import numpy as np
import scanpy
from scanpy.neighbors._connectivity import umap
from umap.umap_ import find_ab_params


def numbers(values, digits=9):
    return [float(f"{value:.{digits}g}") for value in np.asarray(values, dtype=float).ravel()]


def nearest(points, k):
    """Exact neighbors, nearest first, ties to the lower index."""
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(distances, indices, axis=1)


def connectivities(points, k):
    indices, distances = nearest(points, k)
    matrix = umap(indices, distances.astype(np.float32), n_obs=len(points), n_neighbors=k).tocsr()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix, {
        "cells": len(points),
        "k": k,
        "indices": indices.ravel().tolist(),
        "distances": numbers(distances),
        "offsets": matrix.indptr.tolist(),
        "columns": matrix.indices.tolist(),
        "weights": numbers(matrix.data),
    }


def pseudotime(matrix, root, components):
    cells = anndata.AnnData(np.zeros((matrix.shape[0], 1), dtype=np.float32))
    cells.obsp["connectivities"] = cells.obsp["distances"] = matrix
    cells.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {"method": "umap", "n_neighbors": 15},
    }
    scanpy.tl.diffmap(cells, n_comps=components)
    cells.uns["iroot"] = root
    scanpy.tl.dpt(cells, n_dcs=components)
    return numbers(cells.uns["diffmap_evals"]), numbers(cells.obs["dpt_pseudotime"])


def main():
    random = np.random.default_rng(0)
    # Two branches of one trajectory, in eight dimensions.
    time = np.sort(random.uniform(0, 1, 150))
    branch = random.choice([-1, 1], 150) * np.maximum(time - 0.4, 0)
    points = np.c_[4 * time, 4 * branch, np.sin(4 * time), np.zeros((150, 5))] + random.normal(0, 0.15, (150, 8))
    matrix, trajectory = connectivities(points, 10)
    trajectory["root"] = 0
    trajectory["eigenvalues"], trajectory["pseudotime"] = pseudotime(matrix, 0, 15)
    # Cells that are equal: some have others first, some do not have themselves among their neighbors at all.
    copies = np.repeat(random.normal(0, 1, (12, 3)), [1, 1, 2, 3, 8, 1, 1, 2, 1, 1, 6, 1], axis=0)
    _, equal = connectivities(copies, 5)
    curves = [
        {"min_dist": min_dist, "spread": spread, "ab": numbers(find_ab_params(spread, min_dist))}
        for min_dist, spread in [(0.5, 1.0), (0.1, 1.0), (0.0, 2.0), (0.3, 0.5)]
    ]
    with open("graph.json", "w") as file:
        json.dump({"trajectory": trajectory, "equal": equal, "curves": curves}, file, separators=(",", ":"))


main()
