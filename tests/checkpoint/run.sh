#!/usr/bin/env bash
# The checkpoint that experiments start from: 22,026 cells of blood, pancreas and cell lines, a model with 4 layers and embedding dimension 128.
# run.sh DATA OUTPUT: DATA holds the directories annotation and integration, OUTPUT is created anew.
set -euo pipefail
data=$1 output=$2
programs=$(cd "$(dirname "$0")/../../target/release" && pwd)
python=$(cd "$(dirname "$0")/../../.deps/python/bin" && pwd)/python
if [ ! -d "$data/annotation" ]; then
    echo "there is no directory annotation in \`$data\`: set SCGPT_TEST_DATA to the real data sets" >&2
    exit 1
fi
rm -rf "$output" && mkdir -p "$output"
"$python" "$(dirname "$0")/split.py" "$data/annotation/pbmc_zheng_sorted.h5ad" "$output/zheng_train.h5ad" "$output/zheng_test.h5ad"
inputs=$output/zheng_train.h5ad
for cells in annotation/{pbmc_kang_8donors,pancreas_5technologies_500,pancreas_baron_350_human_mouse,pbmc68k_reduced_counts} \
    integration/{celllines_mixology_5batches,pbmc_10x_3technologies,pbmc_frozen_donorA_unlabelled}; do
    inputs+=,$data/$cells.h5ad
done
"$programs/scgpt-tokenize" --input "$inputs" --output "$output/corpus"
"$programs/scgpt-pretrain" --input "$output/corpus" --output "$output/model" --epochs 2 --max-length 400 --validate-every 334
