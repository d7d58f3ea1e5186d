#!/usr/bin/env bash
# From labeled to annotated cells: fine-tune on four fifths of a real data set, annotate the rest, embed and plot all, and write a report.
set -euo pipefail
cells=$1
out=$2
bin=${CARGO_TARGET_DIR:-target}/release
rm -rf "$out"
mkdir -p "$out"

echo "== 1. fine-tune on the cell types of 560 cells, test on the other 140 =="
"$bin/scgpt-finetune-annotation" --input "$cells" --labels bulk_labels --epochs 30 --output "$out/model" --test-cells "$out/held_out.h5ad"

echo "== 2. annotate the held-out cells =="
"$bin/scgpt-annotate" --input "$out/held_out.h5ad" --model "$out/model" --true-labels bulk_labels --threshold 0.5 --output "$out/annotated.h5ad"

echo "== 3. embed all cells with the trained model and plot them =="
"$bin/scgpt-embed" --input "$cells" --checkpoint "$out/model" --output "$out/embedded.h5ad" --plot "$out/embedding.svg" --color bulk_labels

echo "== 4. write the report =="
"$bin/scgpt-report" --input "$out" --output "$out/report.html" --summary "$out/report_mqc.json" --color bulk_labels --title "Cell types of PBMC 68k (reduced)"

echo "== done =="
column -t -s "$(printf '\t')" "$out/model/test_metrics.tsv" 2>/dev/null || cat "$out/model/test_metrics.tsv"
cat <<END
annotated cells      $out/annotated.h5ad  (obs: scgpt_label, scgpt_probability, scgpt_second_label, ...)
embedding            $out/embedded.h5ad  (obsm: X_scGPT)
plots                $out/model/confusion.svg  $out/embedding.svg
report               $out/report.html
model and metrics    $out/model
END
