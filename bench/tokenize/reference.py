"""Tokenizes a file with the original implementation: in memory, binned by its Preprocessor, as padded tensors.

reference.py raw|binned FILE          SCGPT_SRC names a checkout of bowang-lab/scGPT

Prints the time without imports, in seconds, and the numbers of cells and tokens.
"""
import json
import logging
import os
import sys
import time
import types

import anndata
import numpy as np

# The package imports its models and trainers at start, which are not needed here.
package = types.ModuleType("scgpt")
package.__path__ = [os.path.join(os.environ["SCGPT_SRC"], "scgpt")]
package.logger = logging.getLogger("scGPT")
sys.modules["scgpt"] = package
from scgpt.preprocess import Preprocessor
from scgpt.tokenizer.gene_tokenizer import GeneVocab, tokenize_and_pad_batch


def tokens(values, path):
    """Every expressed gene of every cell: no gene filter, no sampling down to a length."""
    adata = anndata.read_h5ad(path)
    if values == "binned":
        Preprocessor(use_key="X", normalize_total=False, binning=51)(adata)
        data = adata.layers["X_binned"]
    else:
        data = adata.X.toarray()
    genes = adata.var_names.tolist()
    vocab = GeneVocab(genes, specials=["<pad>", "<cls>", "<eoc>"])
    ids = np.array(vocab(genes), dtype=int)
    return tokenize_and_pad_batch(data, ids, len(genes) + 1, vocab, "<pad>", -2), vocab["<pad>"]


def main():
    wall, cpu = time.perf_counter(), time.process_time()
    batch, pad = tokens(sys.argv[1], sys.argv[2])
    times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    cells = len(batch["genes"])
    expressed = int((batch["genes"] != pad).sum()) - cells
    print(json.dumps({**times, "cells": cells, "tokens": expressed}))


main()
