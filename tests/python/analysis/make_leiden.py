"""Partitions of leidenalg on simulated graphs, for leiden.rs. Writes leiden.json.

Per graph: edges [node, node, weight]; per resolution: the best of 60 seeds' partitions of RBConfigurationVertexPartition
iterated until stable, and the best, mean and worst modularity.
"""
import json, pathlib
import igraph, leidenalg, networkx
import numpy as np

rng = np.random.default_rng(0)


def planted():
    """Six groups of 40, exponential weights."""
    graph = networkx.planted_partition_graph(6, 40, 0.3, 0.03, seed=1)
    return 240, [(i, j, round(float(rng.exponential()), 3)) for i, j in graph.edges]


def benchmark():
    """LFR graph with groups of unequal sizes and degrees."""
    graph = networkx.LFR_benchmark_graph(300, 2.5, 1.5, 0.2, average_degree=8, max_degree=40, min_community=15, seed=3)
    return 300, [(i, j, 1) for i, j in graph.edges if i != j]


def neighbors():
    """15 nearest neighbors of 300 points in eight clouds, weights falling with distance."""
    points = np.concatenate([rng.normal(rng.normal(0, 1.6, 8), 1, (n, 8)) for n in (80, 60, 50, 40, 30, 20, 12, 8)])
    squared = ((points[:, None] - points[None]) ** 2).sum(2)
    edges = set()
    for i, row in enumerate(squared):
        edges |= {(min(i, j), max(i, j)) for j in map(int, np.argsort(row)[1:16])}
    return 300, [(i, j, round(float(np.exp(-squared[i, j] / 16)), 4)) for i, j in sorted(edges)]


golden = []
for name, make in {"planted": planted, "benchmark": benchmark, "neighbours": neighbors}.items():
    n, edges = make()
    graph = igraph.Graph(n=n, edges=[(i, j) for i, j, _ in edges])
    weights = [weight for _, _, weight in edges]
    partitions = []
    for resolution in (0.2, 0.5, 1.0, 2.0):
        found = [
            leidenalg.find_partition(
                graph, leidenalg.RBConfigurationVertexPartition, weights=weights, n_iterations=-1, seed=seed,
                resolution_parameter=resolution,
            )
            for seed in range(60)
        ]
        best = max(found, key=lambda partition: partition.quality())
        modularity = [partition.quality() / (2 * sum(weights)) for partition in found]
        best_mean_worst = {"best": max(modularity), "mean": float(np.mean(modularity)), "worst": min(modularity)}
        partitions.append({"resolution": resolution, **best_mean_worst, "clusters": best.membership})
        print(name, resolution, len(best), best_mean_worst)
    golden.append({"name": name, "n": n, "edges": edges, "partitions": partitions})
pathlib.Path(__file__).with_name("leiden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
