"""Simulates cell embeddings: clusters in a subspace of few dimensions, in the format of scgpt-embed.

Usage: vectors.py DIR [--cells 1000000] [--queries 10000] [--few 1000] [--clusters 300] [--embedding-dim 512] [--dimensions 30]
"""

import argparse
import pathlib

import h5py
import numpy as np


def write(path, vectors, labels, clusters):
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        n = len(labels)
        for name, index in [("obs", [f"c{at}" for at in range(n)]), ("var", ["G0"])]:
            group = file.create_group(name)
            group.attrs["encoding-type"], group.attrs["encoding-version"] = "dataframe", "0.2.0"
            group.attrs["_index"] = "_index"
            group.attrs["column-order"] = np.array(["cluster"] if name == "obs" else [], dtype=h5py.string_dtype())
            column = group.create_dataset("_index", data=index, dtype=h5py.string_dtype())
            column.attrs["encoding-type"], column.attrs["encoding-version"] = "string-array", "0.2.0"
        cluster = file["obs"].create_group("cluster")
        cluster.attrs["encoding-type"], cluster.attrs["encoding-version"] = "categorical", "0.2.0"
        cluster.attrs["ordered"] = False
        codes = cluster.create_dataset("codes", data=labels.astype("int16"))
        names = cluster.create_dataset("categories", data=[f"cluster {at:03}" for at in range(clusters)], dtype=h5py.string_dtype())
        codes.attrs["encoding-type"], codes.attrs["encoding-version"] = "array", "0.2.0"
        names.attrs["encoding-type"], names.attrs["encoding-version"] = "string-array", "0.2.0"
        group = file.create_group("obsm")
        group.attrs["encoding-type"], group.attrs["encoding-version"] = "dict", "0.1.0"
        matrix = group.create_dataset("X_scGPT", data=vectors)
        matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = "array", "0.2.0"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    for name, number in [("cells", 1_000_000), ("queries", 10_000), ("few", 1_000), ("clusters", 300), ("embedding-dim", 512), ("dimensions", 30)]:
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    centers = random.standard_normal((options.clusters, options.dimensions), dtype=np.float32)
    basis = np.linalg.qr(random.standard_normal((options.embedding_dim, options.dimensions)))[0].T.astype(np.float32)
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, n in [("reference", options.cells), ("query", options.queries)]:
        labels = random.integers(options.clusters, size=n)
        inner = centers[labels] + 0.35 * random.standard_normal((n, options.dimensions), dtype=np.float32)
        vectors = inner @ basis
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        write(options.directory / f"{name}.h5ad", vectors, labels, options.clusters)
        if name == "query":
            write(options.directory / "few.h5ad", vectors[: options.few], labels[: options.few], options.clusters)


main()
