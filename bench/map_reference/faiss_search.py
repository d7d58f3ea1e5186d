"""One index of faiss in a process of its own: builds it, searches, and prints times and memory as JSON.

Usage: faiss_search.py DIR QUERIES KIND THREADS NEIGHBORS.npy, where KIND is flat, or ivf:N_LISTS:N_PROBE, or hnsw:M:EF
"""

import json
import resource
import sys
import time

import faiss
import h5py
import numpy as np

directory, query_name, kind, threads, found = sys.argv[1:]
faiss.omp_set_num_threads(int(threads))


def embeddings(name):
    with h5py.File(f"{directory}/{name}.h5ad") as file:
        return file["obsm/X_scGPT"][:]


reference, queries = embeddings("reference"), embeddings(query_name)
start = time.perf_counter()
name, *numbers = kind.split(":")
numbers = [int(number) for number in numbers]
if name == "flat":
    index = faiss.IndexFlatL2(reference.shape[1])
elif name == "ivf":
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(reference.shape[1]), reference.shape[1], numbers[0])
    index.nprobe = numbers[1]
    index.train(reference[np.random.default_rng(0).permutation(len(reference))[: 32 * numbers[0]]])
else:
    index = faiss.IndexHNSWFlat(reference.shape[1], numbers[0])
    index.hnsw.efSearch = numbers[1]
index.add(reference)
built = time.perf_counter() - start
del reference
start = time.perf_counter()
distances, neighbors = index.search(queries, 10)
searched = time.perf_counter() - start
np.save(found, neighbors)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(json.dumps({"build_s": built, "search_s": searched, "peak_gb": peak}))
