"""Checks with Python anndata that a copy of an .h5ad file holds everything the original does, and the additions.

usage: check_additions.py ORIGINAL WRITTEN EXPECTED.json

EXPECTED.json: {"obs": {name: {"labels": [...], "categories": [...]?, "ordered": bool?}}, "obsm": {name: rows},
"obsp": {name: [[columns, values] of each row]}, "uns": {name: value}};
labels are strings, numbers, booleans or null; with "categories" the column has to be categorical.
"""

import json
import sys
import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

warnings.simplefilter("ignore")


def check(condition, what):
    if not condition:
        sys.exit(f"differs: {what}")


def equal_values(a, b):
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.names:
        return all(equal_values(a[name], b[name]) for name in a.dtype.names)
    if a.dtype.kind in "fc":
        return np.array_equal(a, b, equal_nan=True)
    return np.array_equal(a, b)


def compare(a, b, where):
    """Two elements as anndata reads them: equal in type and value."""
    if sparse.issparse(a):
        check(sparse.issparse(b) and a.format == b.format and a.shape == b.shape, where)
        for part in ("data", "indices", "indptr"):
            compare(getattr(a, part), getattr(b, part), f"{where}.{part}")
    elif isinstance(a, pd.DataFrame):
        check(a.index.equals(b.index) and a.index.name == b.index.name, f"{where}.index")
        for column in a.columns:
            check(column in b.columns and a[column].dtype == b[column].dtype, f"{where}[{column}].dtype")
            check(a[column].equals(b[column]), f"{where}[{column}]")
        check(list(b.columns[: a.shape[1]]) == list(a.columns), f"{where}.columns")
    elif hasattr(a, "items"):
        for key in a.keys():
            check(key in b.keys(), f"{where}[{key}]")
            compare(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, np.ndarray):
        check(equal_values(a, b), where)
    elif a is None or isinstance(a, (str, bytes, bool, int, float, np.generic)):
        check(type(a) is type(b) and (a == b or a != a), where)
    else:
        check(type(a) is type(b), where)


def compare_stored(original, written):
    """The bytes-for-value level: every object of a file with groups is there with the same type, values and attributes."""
    rewritten = isinstance(original["obs"], h5py.Dataset)

    def visit(name, a):
        if rewritten and (name.split("/")[0] in ("obs", "var", "obsm") or name.endswith("_categories")):
            return
        check(name in written, name)
        b = written[name]
        check(type(a) is type(b), name)
        for key, value in a.attrs.items():
            if name == "obs" and key == "column-order":
                kept = list(b.attrs[key])[: len(value)]
                check(kept == list(value), f"{name}@{key}")
            elif not isinstance(value, h5py.Reference):
                check(equal_values(value, b.attrs[key]), f"{name}@{key}")
        if isinstance(a, h5py.Dataset):
            check(a.dtype == b.dtype and a.shape == b.shape and a.compression == b.compression, name)
            if a.shape is not None:
                check(equal_values(a[()], b[()]), name)

    original.visititems(visit)
    extra = set(written.attrs) ^ set(original.attrs)
    check(not extra, f"attributes {extra} of the file")


def compare_column(column, expected, where):
    labels = expected["labels"]
    check(len(column) == len(labels), where)
    if "categories" in expected:
        check(isinstance(column.dtype, pd.CategoricalDtype), f"{where} is categorical")
        check(list(column.cat.categories) == expected["categories"], f"{where}.categories")
        check(bool(column.cat.ordered) == expected.get("ordered", False), f"{where}.ordered")
    missing = column.isna().tolist()
    check(missing == [label is None for label in labels], f"{where}: missing entries")
    found = [value for value in column.tolist() if not pd.isna(value)]
    check(found == [label for label in labels if label is not None], f"{where}: entries")


def compare_json(found, expected, where):
    if isinstance(expected, dict):
        check(set(found.keys()) == set(expected), where)
        for key in expected:
            compare_json(found[key], expected[key], f"{where}[{key}]")
    else:
        found = found.tolist() if isinstance(found, (np.ndarray, np.generic)) else found
        check(found == expected and type(found) is type(expected), f"{where}: {found!r} against {expected!r}")


def main(original_path, written_path, expected_path):
    with open(expected_path) as file:
        expected = json.load(file)
    with h5py.File(original_path) as original, h5py.File(written_path) as written:
        compare_stored(original, written)
    original, written = anndata.read_h5ad(original_path), anndata.read_h5ad(written_path)
    check(original.shape == written.shape, "shape")
    for part in ("X", "layers", "obs", "var", "obsm", "varm", "obsp", "varp", "uns"):
        compare(getattr(original, part), getattr(written, part), part)
    check((original.raw is None) == (written.raw is None), "raw")
    if original.raw is not None:
        for part in ("X", "var", "varm"):
            compare(getattr(original.raw, part), getattr(written.raw, part), f"raw.{part}")
    for part in ("obs", "obsm", "obsp", "uns"):
        added = set(getattr(written, part).keys()) - set(getattr(original, part).keys())
        # Every file states the version of its format.
        always = {"scgpt_tools"} - set(original.uns) if part == "uns" else set()
        check(added == set(expected.get(part, {})) | always, f"names added to {part}: {sorted(added)}")
    for name, column in expected.get("obs", {}).items():
        compare_column(written.obs[name], column, f"obs[{name}]")
    for name, rows in expected.get("obsm", {}).items():
        check(written.obsm[name].dtype == np.float32, f"obsm[{name}].dtype")
        check(written.obsm[name].tolist() == rows, f"obsm[{name}]")
    for name, rows in expected.get("obsp", {}).items():
        graph = written.obsp[name]
        check(graph.format == "csr" and graph.dtype == np.float32, f"obsp[{name}] is compressed rows of float32")
        spans = zip(graph.indptr[:-1], graph.indptr[1:])
        found = [[graph.indices[a:b].tolist(), graph.data[a:b].tolist()] for a, b in spans]
        check(found == rows, f"obsp[{name}]")
    for name, value in expected.get("uns", {}).items():
        compare_json(written.uns[name], value, f"uns[{name}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
