"""One index of faiss in a process of its own: builds it, searches, and prints what that took as JSON.

Usage: faiss_search.py FOLDER QUERIES KIND THREADS NEIGHBOURS.npy, where KIND is flat, or ivf:LISTS:PROBES, or hnsw:M:EF
"""

import json
import resource
import sys
import time

import faiss
import h5py
import numpy as np

folder, asked, kind, threads, found = sys.argv[1:]
faiss.omp_set_num_threads(int(threads))


def vectors(name):
    with h5py.File(f"{folder}/{name}.h5ad") as file:
        return file["obsm/X_scGPT"][:]


reference, queries = vectors("reference"), vectors(asked)
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
distances, neighbours = index.search(queries, 10)
searched = time.perf_counter() - start
np.save(found, neighbours)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(json.dumps({"build_s": built, "search_s": searched, "peak_gb": peak}))
