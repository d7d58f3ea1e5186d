"""Checks beyond the tool tests: resources of a destination reach the programs, the form explains an empty table of models, and a job runs
in the container image, if it was built here. Usage: checks.py URL ADMINISTRATOR_KEY CELLS MODELS_LOC IMAGE;
the file of models is emptied."""

import json
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

url, key, cells, models, image = sys.argv[1:]


def call(path, body=None):
    """The response of the server, also to a rejected request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"x-api-key": key, "content-type": "application/json"})
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        return json.load(error)


def history(name):
    return call("/api/histories", {"name": name})["id"]


def upload(path):
    elements = [{"src": "path", "path": path, "ext": "h5ad"}]
    targets = [{"destination": {"type": "hdas"}, "elements": elements}]
    dataset = call("/api/tools/fetch", {"history_id": history("cells"), "targets": targets})["outputs"][0]
    return {"src": "hda", "id": dataset["id"]}


def submit(tool, history_name, inputs):
    """The id of the job. tpv.yml selects its resources by the name of the history."""
    body = {"history_id": history(history_name), "tool_id": tool, "inputs": inputs}
    return call("/api/tools", body)["jobs"][0]["id"]


def finished(job):
    """The job, its metrics, and the run record if it succeeded."""
    while (details := call(f"/api/jobs/{job}?full=true"))["state"] not in ("ok", "error", "deleted"):
        time.sleep(1)
    given = {metric["name"]: metric["raw_value"] for metric in call(f"/api/jobs/{job}/metrics") if metric["plugin"] == "core"}
    given |= {name: float(given[name]) for name in ("galaxy_slots", "galaxy_memory_mb") if name in given}
    record = None
    if details["state"] == "ok":
        record = call(f"/api/datasets/{details['outputs']['record']['id']}/display?raw=true")
    return details, given, record


def destination_reaches_programs():
    """Slots and memory of the destination (tpv.yml: at most 2 and 4 GiB), and the device that follows from its GPUs."""
    dataset = upload(cells)
    annotation = {"input": dataset, "origin|source": "cached", "origin|name": "simulated_types"}
    tokenized = submit("scgpt_tokenize", "without a GPU", {"tables": dataset, "origin|source": "inputs"})
    on_cpu, on_gpu, on_any = (
        submit("scgpt_annotate", name, annotation) for name in ("without a GPU", "with a GPU", "on any device")
    )

    _, given, record = finished(tokenized)
    assert (given["galaxy_slots"], given["galaxy_memory_mb"]) == (2, 4096), given
    assert record["threads"] == given["galaxy_slots"], record
    assert record["options"]["memory"] == f"{given['galaxy_memory_mb'] * 3 / 4:.0f}M", record

    _, given, record = finished(on_cpu)
    assert record["threads"] == given["galaxy_slots"] == 2, record
    assert (record["options"]["device"], record["device"]) == ("cpu", "CPU"), record

    details, _, record = finished(on_gpu)
    if record is None:
        assert details["exit_code"] == 69 and "`--device cuda` needs a GPU" in details["tool_stderr"], details
        device = "CPU"
    else:
        device = record["device"]
        assert record["options"]["device"] == "cuda" and device != "CPU", record

    details, _, record = finished(on_any)
    assert (record["options"]["device"], record["device"]) == ("auto", device), record
    assert f"computing on {device}" in details["tool_stderr"], details


def image_runs_jobs():
    """A job in a container, with the programs of the image."""
    details, given, record = finished(submit("scgpt_tokenize", "in the image", {"tables": upload(cells), "origin|source": "inputs"}))
    assert record and record["threads"] == given["galaxy_slots"], details
    assert image in given.values(), given


def has_image():
    """Whether tests/engines/images/run.sh was run here."""
    command = ["podman", "--storage-driver", "vfs", "image", "exists", image]
    return shutil.which("podman") is not None and subprocess.run(command).returncode == 0


def empty_table_is_explained():
    """The form shows help instead of choices, and a job is rejected before it starts."""
    pathlib.Path(models).write_text("# no models\n")
    table = call("/api/tool_data/scgpt_models/reload")
    assert table["fields"] == [], table
    place = history("empty table")
    form = call(f"/api/tools/scgpt_checkpoint_inspect/build?history_id={place}&origin|source=cached")
    branches = {case["value"]: case["inputs"] for case in form["inputs"][0]["cases"]}
    choice = branches["cached"][0]
    assert choice["options"] == [] and "this server offers no such model yet" in choice["help"], choice
    for name in (None, "simulated"):
        inputs = {"origin|source": "cached", "origin|name": name}
        response = call("/api/tools", {"history_id": place, "tool_id": "scgpt_checkpoint_inspect", "inputs": inputs})
        assert "jobs" not in response and list(response["err_data"]) == ["origin|name"], response


checks = [destination_reaches_programs, empty_table_is_explained]
if has_image():
    checks.insert(0, image_runs_jobs)
else:
    print("skipped: image_runs_jobs (no image; tests/engines/images/run.sh makes it)")
for check in checks:
    check()
    print(f"{check.__name__}: passed")
