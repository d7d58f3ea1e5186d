#!/usr/bin/env bash
# Compares target/release/scgpt-tokenize with the original implementation (SCGPT_SRC) and with the limit; options are passed to compare.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${SCGPT_SRC:?set SCGPT_SRC to a checkout of bowang-lab/scGPT}"
data=${BENCH_DATA:-target/bench-tokenize}
python=${BENCH_PYTHON:-$data/python/bin/python}
mkdir -p "$data"
if ! [ -e "$python" ]; then
	python3 -m venv "$data/python"
	"$python" -m pip install --quiet --disable-pip-version-check -r bench/tokenize/requirements.txt
fi
"$python" bench/tokenize/compare.py --data "$data" "$@"
