"""Annotation from few labels, with and without pre-training: few_labels.py CHECKPOINT PROGRAMS WORK [SEEDS].

CHECKPOINT is what run.sh made. Of the cells the model was pre-trained on, ten of each cell type keep their label; the held-out cells are the test.
"""

import json
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np

checkpoint, programs, work = map(Path, sys.argv[1:4])
seeds = int(sys.argv[4]) if len(sys.argv) > 4 else 5
work.mkdir(parents=True, exist_ok=True)
train = anndata.read_h5ad(checkpoint / "zheng_train.h5ad")
test = anndata.read_h5ad(checkpoint / "zheng_test.h5ad")
cells = anndata.concat([train, test], keys=["train", "test"], label="split")
for seed in range(seeds):
    draw = np.random.default_rng(seed)
    labels = cells.obs["celltype"].astype(object).copy()
    for name in sorted(labels.unique()):
        of_type = np.flatnonzero((labels == name).to_numpy() & (cells.obs["split"] == "train").to_numpy())
        labels.iloc[draw.permutation(of_type)[10:]] = None
    labels[(cells.obs["split"] == "train") & labels.isna()] = None
    cells.obs["few"] = labels.astype("category")
    file = work / f"few{seed}.h5ad"
    cells.write_h5ad(file)
    for start, options in {"pre-trained": ["--checkpoint", checkpoint / "model"], "scratch": []}.items():
        output = work / f"{start}{seed}"
        command = [programs / "scgpt-finetune-annotation", "--input", file, "--output", output, "--labels", "few", "--batch", "split"]
        command += ["--test-groups", "test", "--validation-fraction", "0.2", "--epochs", "60", "--learning-rate", "0.001", "--gene-dropout", "0.5", "--label-smoothing", "0.1", "--seed", str(seed), "--quiet", *options]
        subprocess.run(list(map(str, command)), check=True)
        for method, scores in json.loads((output / "test_metrics.json").read_text()).items():
            if method == "scGPT" or start == "scratch":
                name = f"scGPT, {start}" if method == "scGPT" else method
                print(seed, name, f"{scores['accuracy']:.4f}", f"{scores['macro']['f1']:.4f}", sep="\t", flush=True)
