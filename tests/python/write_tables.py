"""Writes six cells in the formats of other programs, and invalid tables.

usage: write_tables.py DIR

DIR/good-*/cells.parquet hold cell i with genes 0 to i - 1 and expressions 0.5, 1.5, ...; DIR/bad-*/cells.parquet do not.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, disable_progress_bars

IDS = list(range(6))
GENES = [list(range(i)) for i in IDS]
EXPRESSIONS = [[g + 0.5 for g in range(i)] for i in IDS]
LABELS = ["a", None, "b", "b", "a", None]


def table(genes=GENES, expressions=EXPRESSIONS, gene=pa.int64(), expression=pa.float32()):
    columns = {
        "id": pa.array(IDS),
        "genes": pa.array(genes, pa.list_(gene)),
        "expressions": pa.array(expressions, pa.list_(expression)),
        "tissue": pa.array(LABELS).dictionary_encode(),
        "age": pa.array([1, 2, None, 4, 5, 6], pa.int32()),
        "healthy": pa.array([True, None, False, True, True, False]),
        "day": pa.array(IDS, pa.date32()),
    }
    return pa.table(columns)


def replaced(lists, row, value):
    return lists[:row] + [value] + lists[row + 1 :]


def write(directory, name, cells, **options):
    (directory / name).mkdir()
    pq.write_table(cells, directory / name / "cells.parquet", **options)


def main(directory):
    directory = Path(directory)
    write(directory, "good-snappy", table(), compression="snappy")
    write(directory, "good-zstd", table(), compression="zstd", row_group_size=2, data_page_version="2.0", write_page_index=True)
    write(directory, "good-none", table(), compression="none", use_dictionary=False)
    write(directory, "good-types", table(gene=pa.int32(), expression=pa.float64()), version="1.0")
    delta = {"genes.list.element": "DELTA_BINARY_PACKED", "expressions.list.element": "BYTE_STREAM_SPLIT"}
    write(directory, "good-delta", table(), compression="zstd", use_dictionary=False, column_encoding=delta)
    write(directory, "good-checksums", table(), write_page_checksum=True, store_schema=False)
    disable_progress_bars()
    (directory / "good-datasets").mkdir()
    Dataset(table().drop_columns(["day"])).to_parquet(directory / "good-datasets" / "cells.parquet")

    write(directory, "bad-gzip", table(), compression="gzip")
    write(directory, "bad-gene", table(replaced(GENES, 3, [0, 1, 900])), row_group_size=2)
    write(directory, "bad-negative", table(replaced(GENES, 1, [-1])))
    write(directory, "bad-lengths", table(replaced(GENES, 4, [1])))
    write(directory, "bad-null-list", table(replaced(GENES, 2, None)))
    write(directory, "bad-null-entry", table(expressions=replaced(EXPRESSIONS, 2, [1.0, None])))
    write(directory, "bad-nan", table(expressions=replaced(EXPRESSIONS, 1, [float("nan")])))
    write(directory, "bad-text", table(gene=pa.string(), genes=[list(map(str, row)) for row in GENES]))
    write(directory, "bad-columns", table().drop_columns(["genes"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
