#!/usr/bin/env bash
# Compares target/release/scgpt-map-reference with faiss on simulated embeddings; options are passed to compare.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
data=${BENCH_DATA:-target/bench-map-reference}
python=${BENCH_PYTHON:-$data/python/bin/python}
if [ ! -x "$python" ]; then
	python3 -m venv "$data/python"
	"$python" -m pip install --quiet --disable-pip-version-check -r bench/map_reference/requirements.txt
fi
[ -f "$data/query.h5ad" ] || "$python" bench/map_reference/vectors.py "$data"
"$python" bench/map_reference/compare.py --data "$data" "$@"
