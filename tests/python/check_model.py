"""Checks with Python safetensors that a model folder holds the expected tensors, and that its JSON files agree with them.

usage: check_model.py FOLDER EXPECTED.json

EXPECTED.json: {name: {"shape": [...], "sha256": checksum of the values in row order, little endian}}
"""

import hashlib
import json
import sys
from pathlib import Path

from safetensors.numpy import load_file


def main(folder, expected_path):
    folder, expected = Path(folder), json.loads(Path(expected_path).read_text())
    tensors = load_file(folder / "model.safetensors")
    if set(tensors) != set(expected):
        sys.exit(f"differs: names {sorted(set(tensors) ^ set(expected))}")
    for name, tensor in tensors.items():
        found = {"shape": list(tensor.shape), "sha256": hashlib.sha256(tensor.tobytes()).hexdigest()}
        if found != expected[name]:
            sys.exit(f"differs: {name}: {found} against {expected[name]}")
    arguments = json.loads((folder / "args.json").read_text())
    vocabulary = json.loads((folder / "vocab.json").read_text())
    rows, width = tensors["encoder.embedding.weight"].shape
    if width != arguments["embsize"] or len(vocabulary) > rows or max(vocabulary.values()) >= rows:
        sys.exit(f"differs: {rows} x {width} gene vectors, embsize {arguments['embsize']}, {len(vocabulary)} tokens")


if __name__ == "__main__":
    main(*sys.argv[1:])
