"""Writes integration_reference.json from the golden files of the original implementation (metrics/), whose directory is the argument."""
import json
import pathlib
import sys

from safetensors.numpy import load_file

directory = pathlib.Path(sys.argv[1])
inputs = load_file(directory / "integration_inputs.safetensors")
edges = zip(inputs["connectivities_row"].tolist(), inputs["connectivities_col"].tolist())
golden = {
    "labels": inputs["celltype"].tolist(),
    "batches": inputs["batch"].tolist(),
    "embedding": [[float(str(x)) for x in row] for row in inputs["embedding"]],
    "edges": [(i, j, 1.0) for i, j in edges if i < j],
    **json.loads((directory / "integration_metrics.json").read_text()),
}
path = pathlib.Path(__file__).with_name("integration_reference.json")
path.write_text(json.dumps(golden, separators=(",", ":")))
