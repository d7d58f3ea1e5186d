"""Checks with pyarrow and Hugging Face datasets that a corpus matches its manifest and holds the expected cells.

usage: check_corpus.py DIR EXPECTED.json

EXPECTED.json: {"cells": number of cells, "columns": {annotation: "string", "double" or "bool"},
"rows": {id: {"genes": [ids], "expressions": [...], annotation: value or null}}}; rows may be some of the cells.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import disable_progress_bars, load_dataset

LISTS = {"genes": pa.int64(), "expressions": pa.float32()}


def check(condition, what):
    if not condition:
        sys.exit(f"differs: {what}")


def check_types(schema, columns, file):
    expected = {"id": pa.int64(), "string": pa.string(), "double": pa.float64(), "bool": pa.bool_()}
    check(schema.names == ["id", *LISTS, *columns], f"{file}: columns {schema.names}")
    check(schema.field("id").type == expected["id"] and not schema.field("id").nullable, f"{file}: type of id")
    for name, element in LISTS.items():
        field = schema.field(name)
        check(field.type == pa.list_(pa.field("element", element, nullable=False)), f"{file}: {name} is {field.type}")
        check(not field.nullable, f"{file}: {name} is nullable")
    for name, kind in columns.items():
        check(schema.field(name).type == expected[kind], f"{file}: {name} is {schema.field(name).type}")


def check_shard(directory, shard, first, vocabulary, columns):
    file = directory / shard["file"]
    check(hashlib.sha256(file.read_bytes()).hexdigest() == shard["sha256"], f"checksum of {file}")
    table = pq.read_table(file)
    check_types(table.schema, columns, file)
    check(table["id"].to_pylist() == list(range(first, first + shard["cells"])), f"ids of {file}")
    genes = pa.chunked_array([chunk.flatten() for chunk in table["genes"].chunks], pa.int64()).to_numpy()
    check(len(genes) == shard["tokens"], f"tokens of {file}")
    check(len(set(genes.tolist())) == shard["genes"], f"genes of {file}")
    check(len(genes) == 0 or 0 <= genes.min() and genes.max() < len(vocabulary), f"gene ids of {file}")
    lengths = (pa.compute.list_value_length(table[name]).to_pylist() for name in LISTS)
    check(next(lengths) == next(lengths), f"lengths in {file}")


def main(directory, expected_path):
    directory, expected = Path(directory), json.loads(Path(expected_path).read_text())
    manifest = json.loads((directory / "manifest.json").read_text())
    vocabulary = json.loads((directory / "vocab.json").read_text())
    shards = manifest["shards"]
    check((manifest["format"], manifest["format_version"]) == ("scgpt-corpus", 2), "format")
    check(manifest["genes"] == len(vocabulary), "size of the vocabulary")
    check(sorted(vocabulary.values()) == list(range(len(vocabulary))), "ids of the vocabulary")
    check(manifest["cells"] == expected["cells"], f"{manifest['cells']} cells")
    first = 0
    for shard in shards:
        check_shard(directory, shard, first, vocabulary, expected["columns"])
        first += shard["cells"]
    check(first == manifest["cells"], "cells of the shards")
    check(sum(shard["tokens"] for shard in shards) == manifest["tokens"], "tokens of the shards")
    disable_progress_bars()
    files = [str(directory / shard["file"]) for shard in shards]
    with tempfile.TemporaryDirectory() as cache:
        cells = load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        check(len(cells) == expected["cells"], "cells that datasets finds")
        for id, row in expected["rows"].items():
            check(cells[int(id)] == {"id": int(id), **row}, f"cell {id}: {cells[int(id)]} against {row}")


if __name__ == "__main__":
    main(*sys.argv[1:])
