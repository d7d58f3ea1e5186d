#!/usr/bin/env bash
# From labelled cells to annotated ones: fine-tune on four fifths of a real data set, name the rest, embed and draw all, and put it on one page.
set -euo pipefail
cells=$1
out=$2
bin=${CARGO_TARGET_DIR:-target}/release
rm -rf "$out"
mkdir -p "$out"

echo "== 1. learn the cell types of 560 cells, test on the other 140 =="
"$bin/scgpt-finetune-annotation" --input "$cells" --labels bulk_labels --epochs 30 --output "$out/model" --held-out "$out/held_out.h5ad"

echo "== 2. name the held-out cells =="
"$bin/scgpt-annotate" --input "$out/held_out.h5ad" --model "$out/model" --truth bulk_labels --threshold 0.5 --output "$out/annotated.h5ad"

echo "== 3. embed all cells with the trained model and draw them =="
"$bin/scgpt-embed" --input "$cells" --checkpoint "$out/model" --output "$out/embedded.h5ad" --figure "$out/embedding.svg" --colour bulk_labels

echo "== 4. put it all on one page =="
"$bin/scgpt-report" --input "$out" --output "$out/report.html" --summary "$out/report_mqc.json" --colour bulk_labels --title "Cell types of PBMC 68k (reduced)"

echo "== done =="
column -t -s "$(printf '\t')" "$out/model/test_metrics.tsv" 2>/dev/null || cat "$out/model/test_metrics.tsv"
cat <<END
annotated cells      $out/annotated.h5ad  (obs: scgpt_label, scgpt_probability, scgpt_second, ...)
embedding            $out/embedded.h5ad  (obsm: X_scGPT)
pictures             $out/model/confusion.svg  $out/embedding.svg
page                 $out/report.html
model and metrics    $out/model
END
