"""Runs scgpt-tokenize, the original implementation and the limit in turn, each in a process of its own, and prints a table of medians.

Imports the standard library alone: memory of this process would count as peak memory of those it starts.
"""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="directory for the files that are created")
    parser.add_argument("--program", default=f"{os.environ.get('CARGO_TARGET_DIR', 'target')}/release/scgpt-tokenize")
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--reference-cells", type=int, help="fewer cells for the original implementation, which needs about 24 bytes per cell and gene")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def counts(options, cells):
    """The file with this number of cells, created if it does not exist."""
    path = os.path.join(options.data, f"counts-{cells}x{options.genes}.h5ad")
    if not os.path.exists(path):
        print(f"making {path}", file=sys.stderr)
        partial = path + ".partial"
        subprocess.run([sys.executable, f"{HERE}/counts.py", str(cells), str(options.genes), partial], check=True)
        os.rename(partial, path)
    return path


def within_memory():
    """Limits the memory of the process, so that it fails before the system runs out of memory."""
    with open("/proc/meminfo") as lines:
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (available, available))


def run(command):
    """Wall and CPU time in seconds and peak memory in MiB of a command, replaced by what it printed if that is JSON."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=within_memory)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    figures = {"wall": time.perf_counter() - start, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}
    if status:
        sys.exit(f"failed (the original implementation may need --reference-cells, for lack of memory): {' '.join(command)}")
    return figures | (json.loads(printed) if printed.startswith(b"{") else {})


def python(script, *arguments):
    return run([sys.executable, f"{HERE}/{script}", *arguments])


def tokenize(options, file, *values):
    """One run of ours, with the counts of its manifest."""
    output = os.path.join(options.data, "corpus")
    shutil.rmtree(output, ignore_errors=True)
    figures = run([options.program, "--quiet", "--input", file, "--output", output, "--values", *values])
    with open(os.path.join(output, "manifest.json")) as manifest:
        manifest = json.load(manifest)
    shutil.rmtree(output)
    return figures | {"cells": manifest["cells"], "tokens": manifest["tokens"]}


def contenders(options):
    """Name, the name of what it is compared with, and how it is run."""
    file = counts(options, options.cells)
    fewer = counts(options, options.reference_cells or options.cells)
    return [
        ("limit: inflate", None, lambda: {"cells": options.cells} | python("inflate.py", file)),
        ("original, raw", None, lambda: python("reference.py", "raw", fewer)),
        ("scgpt-tokenize, raw", "original, raw", lambda: tokenize(options, file, "raw")),
        ("original, binned", None, lambda: python("reference.py", "binned", fewer)),
        ("scgpt-tokenize, binned", "original, binned", lambda: tokenize(options, file, "binned")),
        ("scgpt-tokenize, binned, ties spread", "original, binned", lambda: tokenize(options, file, "binned", "--ties", "both-sided")),
    ]


def measure(options, contenders):
    """Medians of each contender's figures; they run in turn, so that other load on the machine affects all alike."""
    runs = {name: [] for name, _, _ in contenders}
    for turn in range(options.repeats):
        for name, _, start in contenders:
            runs[name].append(start())
            print(f"{turn + 1} {name}: {json.dumps(runs[name][-1])}", file=sys.stderr)
    return {name: {key: statistics.median(run[key] for run in each) for key in each[0]} for name, each in runs.items()}


def rate(figures):
    return figures["cells"] / figures["wall"]


def row(name, figures, reference, limit):
    cells = [name, f"{rate(figures):,.0f}", f"{figures['wall']:.2f}", f"{figures['cpu']:.2f}", f"{figures['memory']:,.0f}"]
    cells.append(f"{rate(figures) / rate(reference):.1f} x" if reference else "")
    cells.append(f"1/{reference['memory'] / figures['memory']:.1f}" if reference else "")
    cells.append(f"{100 * rate(figures) / rate(limit):.0f} %")
    return "| " + " | ".join(cells) + " |"


def main():
    chosen = options()
    turns = contenders(chosen)
    load = os.getloadavg()[0]
    medians = measure(chosen, turns)
    for name, reference, _ in turns:
        if reference and medians[reference]["cells"] == chosen.cells and medians[reference]["tokens"] != medians[name]["tokens"]:
            sys.exit(f"{name} made {medians[name]['tokens']} tokens, {reference} {medians[reference]['tokens']}")
    print(f"{chosen.cells:,} cells x {chosen.genes:,} genes, {os.cpu_count()} cores, load {load:.1f} at the start, medians of {chosen.repeats}\n")
    print("| | cells/s | wall, s | CPU, s | peak, MiB | speed | memory | fraction of the limit |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, reference, _ in turns:
        print(row(name, medians[name], medians.get(reference), medians["limit: inflate"]))


main()
