"""Golden gene network: gene embeddings of 8 planted blocks, and nearest genes, edges and Leiden clusters of the original implementation.

Argument: the directory of golden files of the original implementation.
"""
import json
import sys
import numpy as np
from safetensors.numpy import load_file

root = sys.argv[1] + "/grn"
clusters = [line.split("\t") for line in open(f"{root}/clusters.tsv").read().splitlines()[1:]]
names = [row[0] for row in clusters]
vectors = load_file(f"{root}/gene_embeddings.safetensors")["gene_embedding_after_layernorm"]
cosine = load_file(f"{root}/gene_embeddings.safetensors")["cosine_similarity_200"]
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
# Special tokens are among the embeddings: the genes are the 200 rows with the similarities of the original implementation.
first = next(o for o in range(len(unit) - 199) if np.allclose(unit[o:o + 200] @ unit[o:o + 200].T, cosine, atol=1e-4))
ours = vectors[first:first + 200]
nearest = [line.split("\t") for line in open(f"{root}/nearest_GENE000.tsv").read().splitlines()[1:]]
edges = [line.split("\t") for line in open(f"{root}/network_threshold_0.5.tsv").read().splitlines()[1:]]
at = {n: i for i, n in enumerate(names)}
with open("gene_network.json", "w") as f:
    json.dump({"vectors": [[float(f"{v:.9g}") for v in row] for row in ours],
               "nearest": [[at[g], float(s)] for g, s in nearest], "edges": [[at[a], at[b]] for a, b in edges],
               "clusters_1": [int(r[1]) for r in clusters], "clusters_5": [int(r[2]) for r in clusters]}, f, separators=(",", ":"))
