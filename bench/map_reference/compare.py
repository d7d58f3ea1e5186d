"""Runs scgpt-map-reference and faiss on the same embeddings, each in a process of its own, and prints a table.

Recall at 10 is the fraction of the ten true neighbors, those of the exact search of faiss, among the ten that were found.
Exact searches, and their recall, use the first queries only.

Usage: compare.py --data DIR [--program PATH] [--threads 2] [--n-lists 1000] [--also KIND ...] [--again] [--skip-exact]
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np


def timed(command):
    """Runs a command; seconds, and the peak of memory in GB."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {command}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024**2


def ours(options, name, n_lists, queries="query"):
    """Builds and queries; seconds of the stages, peaks of memory, `n_probe` of the index, and the nearest cells."""
    data = options.data
    index = data / name
    shutil.rmtree(index, ignore_errors=True)
    common = ["--threads", str(options.threads), "--quiet"]
    build = [options.program, "build", "--input", data / "reference.h5ad", "--label", "cluster", "--output", index]
    build_s, build_gb = timed(build + ["--n-lists", str(n_lists)] + common)
    query = [options.program, "query", "--input", data / f"{queries}.h5ad", "--index", index]
    query += ["--table", data / f"{name}.tsv", "--output", data / f"{name}.h5ad"]
    query_s, query_gb = timed(query + common)
    record = json.loads((data / f"{name}.run.json").read_text())
    search_s = sum(timing["seconds"] for timing in record["timings"] if timing["stage"] == "search")
    manifest = json.loads((index / "manifest.json").read_text())
    with open(data / f"{name}.tsv") as file:
        rows = [row["neighbors"].split(",") for row in csv.DictReader(file, delimiter="\t")]
    return {
        "build_s": build_s,
        "search_s": search_s,
        "whole_query_s": query_s,
        "peak_gb": max(build_gb, query_gb),
        "query_gb": query_gb,
        "n_probe": manifest["n_probe"],
        "neighbors": np.array([[int(name[1:]) for name in row] for row in rows]),
    }


def faiss(options, kind, queries="query"):
    found = options.data / f"{kind.replace(':', '-')}.npy"
    script = pathlib.Path(__file__).with_name("faiss_search.py")
    command = [sys.executable, script, options.data, queries, kind, str(options.threads), found]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout) | {"neighbors": np.load(found)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--program", default=f"{os.environ.get('CARGO_TARGET_DIR', 'target')}/release/scgpt-map-reference")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n-lists", type=int, default=1000)
    parser.add_argument("--again", action="store_true", help="take the true neighbors from the last run")
    parser.add_argument("--skip-exact", action="store_true", help="do not time our exact search")
    parser.add_argument("--also", nargs="*", default=[], help="more types of faiss index, such as hnsw:32:64")
    options = parser.parse_args()
    flat = None if options.again else faiss(options, "flat", "few")
    true = np.load(options.data / "flat.npy")

    def line(name, result, memory):
        pairs = zip(result["neighbors"], true)
        recall = np.mean([len(set(found) & set(others)) / 10 for found, others in pairs])
        rate = len(result["neighbors"]) / result["search_s"]
        print(f"{name:40} {result['build_s']:8.1f} {rate:10.0f} {recall:8.4f} {memory:8.2f}", flush=True)

    print(f"{'':40} {'build s':>8} {'queries/s':>10} {'recall':>8} {'peak GB':>8}")
    if flat:
        line("faiss, exact", flat, flat["peak_gb"])
    lists = ours(options, "lists", options.n_lists)
    n_probe = lists["n_probe"]
    line(f"scgpt-map-reference, {n_probe} of {options.n_lists} lists", lists, lists["query_gb"])
    for kind in [f"ivf:{options.n_lists}:{n_probe}"] + options.also:
        result = faiss(options, kind)
        line(f"faiss, {kind}", result, result["peak_gb"])
    if not options.skip_exact:
        exact = ours(options, "exact", 1, "few")
        line("scgpt-map-reference, exact", exact, exact["query_gb"])


main()
