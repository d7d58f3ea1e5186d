"""Checks with Python safetensors that a model directory holds the expected tensors, and that its JSON files agree with them.

usage: check_model.py DIR EXPECTED.json

EXPECTED.json: {name: {"shape": [...], "sha256": checksum of the values in row order, little endian}}
"""

import hashlib
import json
import sys
from pathlib import Path

from safetensors.numpy import load_file


def main(directory, expected_path):
    directory, expected = Path(directory), json.loads(Path(expected_path).read_text())
    tensors = load_file(directory / "model.safetensors")
    if set(tensors) != set(expected):
        sys.exit(f"differs: names {sorted(set(tensors) ^ set(expected))}")
    for name, tensor in tensors.items():
        found = {"shape": list(tensor.shape), "sha256": hashlib.sha256(tensor.tobytes()).hexdigest()}
        if found != expected[name]:
            sys.exit(f"differs: {name}: {found} against {expected[name]}")
    arguments = json.loads((directory / "args.json").read_text())
    vocabulary = json.loads((directory / "vocab.json").read_text())
    rows, dim = tensors["encoder.embedding.weight"].shape
    if dim != arguments["embsize"] or len(vocabulary) > rows or max(vocabulary.values()) >= rows:
        sys.exit(f"differs: {rows} x {dim} gene embeddings, embsize {arguments['embsize']}, {len(vocabulary)} tokens")


if __name__ == "__main__":
    main(*sys.argv[1:])
