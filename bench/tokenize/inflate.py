"""The limit: the chunks of X/data and X/indices, already in memory, inflated by libdeflate on all cores.

inflate.py FILE

Prints its time in seconds.
"""
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import imagecodecs

PIECE = 32


def chunks(dataset):
    """Compressed chunks of a dataset and their inflated sizes."""
    size = dataset.chunks[0] * dataset.dtype.itemsize
    for i in range(dataset.id.get_num_chunks()):
        offset = dataset.id.get_chunk_info(i).chunk_offset
        yield dataset.id.read_direct_chunk(offset)[1], size


def inflate(chunks):
    """Inflates chunks one after another, each into the same buffer; returns the number of bytes."""
    inflated = bytearray(max(size for _, size in chunks))
    return sum(len(imagecodecs.deflate_decode(compressed, out=inflated)) for compressed, _ in chunks)


def main():
    with h5py.File(sys.argv[1]) as file:
        every = [*chunks(file["X/data"]), *chunks(file["X/indices"])]
    pieces = [every[start : start + PIECE] for start in range(0, len(every), PIECE)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        inflated = sum(pool.map(inflate, pieces))
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "bytes": inflated}))


main()
