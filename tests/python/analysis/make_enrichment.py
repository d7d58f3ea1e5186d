"""Golden numbers of over-representation: scipy's hypergeom.sf, gseapy's enrich, Benjamini-Hochberg of scipy."""
import json
import numpy as np
import gseapy
from scipy.stats import hypergeom, false_discovery_control

rng = np.random.default_rng(0)
tails = []
for N, K, n in [(20000, 50, 100), (60000, 2000, 3000), (1000000, 500, 800), (30, 20, 25), (500, 250, 250), (10, 1, 1), (20000, 15000, 100)]:
    lo, hi = max(0, K + n - N), min(K, n)
    for k in sorted(set(np.linspace(lo, hi, 9).astype(int).tolist() + [int(n * K / N), int(n * K / N) + 1])):
        p = float(hypergeom.sf(k - 1, N, K, n))
        if p > 1e-290:
            tails.append([k, N, K, n, p])
N = 2000
query = sorted(rng.choice(N, 60, replace=False).tolist())
sets = []
for i in range(40):
    hit = int(rng.integers(0, 8))
    sets.append(sorted(set(rng.choice(query, hit, replace=False).tolist() + rng.choice(N, int(rng.integers(3, 120)), replace=False).tolist())))
sets.append([N + 1, N + 2])       # no gene in the background
sets.append(sorted(query[:5] + [N + 5]))
p, k = [], []
for s in sets:
    s = {g for g in s if g < N}
    k.append(len(s & set(query)))
    p.append(float(hypergeom.sf(k[-1] - 1, N, len(s), len(query))) if s else None)
ok = [i for i, v in enumerate(p) if v is not None]
bh, bonf = [None] * len(p), [None] * len(p)
for i, v in zip(ok, false_discovery_control([p[i] for i in ok])):
    bh[i], bonf[i] = float(v), min(1.0, p[i] * len(ok))
res = gseapy.enrich([f"G{g}" for g in query], {str(i): [f"G{g}" for g in s] for i, s in enumerate(sets)},
                    background=[f"G{g}" for g in range(N)], outdir=None, cutoff=1.0, no_plot=True).results
gs = [{"set": int(r["Term"]), "p_value": float(r["P-value"]), "overlap": sorted(int(g[1:]) for g in r["Genes"].split(";"))} for _, r in res.iterrows()]
json.dump({"tails": tails, "background": N, "list": query, "sets": sets, "p_value": p, "adjusted": bh, "bonferroni": bonf, "overlap": k, "gseapy": gs}, open("enrichment.json", "w"))
