"""Checks cells of corpora, drawn at random, against the source files as anndata reads them.

usage: check_cells.py CASES.json

CASES.json: [{"folder": corpus, "file": .h5ad, "matrix": "X", "raw" or the name of a layer, "genes": "index" or a column of var}].
The corpora hold all cells that have counts, and any columns of obs.
"""

import json
import sys
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import scipy.sparse
from datasets import disable_progress_bars, load_dataset

CELLS = 50


def check(condition, what):
    if not condition:
        sys.exit(f"differs: {what}")


def read_corpus(directory):
    """Its rows as pyarrow reads them, which datasets must read alike, and the names of the genes by id."""
    files = sorted(str(path) for path in directory.glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    with tempfile.TemporaryDirectory() as cache:
        cells = load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        check(list(cells) == rows, f"what datasets reads of {directory}")
    vocabulary = json.loads((directory / "vocab.json").read_text())
    return rows, {id: name for name, id in vocabulary.items()}


def read_cells(case):
    """Counts, gene names and annotations of the cells that have counts."""
    data = anndata.read_h5ad(case["file"])
    table = data.raw if case["matrix"] == "raw" else data
    counts = table.X if case["matrix"] in ("X", "raw") else data.layers[case["matrix"]]
    counts = scipy.sparse.csr_matrix(counts)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    names = table.var_names if case["genes"] == "index" else table.var[case["genes"]]
    kept = np.diff(counts.indptr) > 0
    return counts[kept], [str(name) for name in names], data.obs[kept]


def expression(row, names):
    """Counts by gene; those of several columns of one name are added up."""
    found = {}
    for column, value in zip(row.indices, row.data):
        found[names[column]] = found.get(names[column], 0) + float(value)
    return found


def plain(value):
    if pd.isna(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return float(value) if isinstance(value, (int, float, np.number)) else str(value)


def check_case(case, random):
    where = Path(case["file"]).name
    rows, genes = read_corpus(Path(case["folder"]))
    counts, names, obs = read_cells(case)
    check(len(rows) == counts.shape[0], f"{where}: {len(rows)} cells")
    for cell in random.permutation(len(rows))[:CELLS]:
        row = rows[cell]
        check(row["id"] == cell, f"{where}: id of cell {cell}")
        found = {genes[id]: value for id, value in zip(row["genes"], row["expressions"])}
        check(len(found) == len(row["genes"]), f"{where}: repeated genes of cell {cell}")
        check(found == expression(counts[[cell]], names), f"{where}: expressions of cell {cell}")
        for name in row.keys() - {"id", "genes", "expressions"}:
            expected = plain(obs[name].iloc[cell])
            check(row[name] == expected, f"{where}: {name} of cell {cell}: {row[name]!r} against {expected!r}")


def main(cases):
    disable_progress_bars()
    random = np.random.default_rng(0)
    for case in json.loads(Path(cases).read_text()):
        check_case(case, random)


if __name__ == "__main__":
    main(*sys.argv[1:])
