"""What tests of tools cannot say: a destination's share of the machine reaches the programs, and an empty table of models is
explained in the form; a job runs in the image, if it was built here. Usage: checks.py URL ADMINISTRATOR_KEY CELLS MODELS_LOC IMAGE;
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


def ask(path, body=None):
    """The server's answer, also if it is a refusal."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"x-api-key": key, "content-type": "application/json"})
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as refusal:
        return json.load(refusal)


def history(name):
    return ask("/api/histories", {"name": name})["id"]


def upload(path):
    elements = [{"src": "path", "path": path, "ext": "h5ad"}]
    targets = [{"destination": {"type": "hdas"}, "elements": elements}]
    dataset = ask("/api/tools/fetch", {"history_id": history("cells"), "targets": targets})["outputs"][0]
    return {"src": "hda", "id": dataset["id"]}


def submit(tool, history_name, inputs):
    """The job's id. The history's name tells tpv.yml what to give the job."""
    body = {"history_id": history(history_name), "tool_id": tool, "inputs": inputs}
    return ask("/api/tools", body)["jobs"][0]["id"]


def finished(job):
    """The job, what the server measured, and the program's record if it succeeded."""
    while (details := ask(f"/api/jobs/{job}?full=true"))["state"] not in ("ok", "error", "deleted"):
        time.sleep(1)
    given = {metric["name"]: metric["raw_value"] for metric in ask(f"/api/jobs/{job}/metrics") if metric["plugin"] == "core"}
    given |= {name: float(given[name]) for name in ("galaxy_slots", "galaxy_memory_mb") if name in given}
    record = None
    if details["state"] == "ok":
        record = ask(f"/api/datasets/{details['outputs']['record']['id']}/display?raw=true")
    return details, given, record


def destination_reaches_programs():
    """Slots and memory as the server gave them, cut by tpv.yml to 2 and 4 GiB; the device that follows from its GPUs."""
    dataset = upload(cells)
    annotation = {"input": dataset, "origin|source": "cached", "origin|name": "simulated_types"}
    tokenised = submit("scgpt_tokenize", "without a GPU", {"tables": dataset, "origin|source": "inputs"})
    on_cpu, on_gpu, on_any = (
        submit("scgpt_annotate", name, annotation) for name in ("without a GPU", "with a GPU", "on any device")
    )

    _, given, record = finished(tokenised)
    assert (given["galaxy_slots"], given["galaxy_memory_mb"]) == (2, 4096), given
    assert record["threads"] == given["galaxy_slots"], record
    assert record["options"]["memory"] == f"{given['galaxy_memory_mb'] * 3 / 4:.0f}M", record

    _, given, record = finished(on_cpu)
    assert record["threads"] == given["galaxy_slots"] == 2, record
    assert (record["options"]["device"], record["device"]) == ("cpu", "CPU"), record

    details, _, record = finished(on_gpu)
    if record is None:
        assert details["exit_code"] == 69 and "`--device cuda` asks for a GPU" in details["tool_stderr"], details
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
    ask_podman = ["podman", "--storage-driver", "vfs", "image", "exists", image]
    return shutil.which("podman") is not None and subprocess.run(ask_podman).returncode == 0


def empty_table_is_explained():
    """The form opens with advice instead of a choice, and a job is refused before it starts."""
    pathlib.Path(models).write_text("# no models\n")
    table = ask("/api/tool_data/scgpt_models/reload")
    assert table["fields"] == [], table
    place = history("empty table")
    form = ask(f"/api/tools/scgpt_checkpoint_inspect/build?history_id={place}&origin|source=cached")
    branches = {case["value"]: case["inputs"] for case in form["inputs"][0]["cases"]}
    choice = branches["cached"][0]
    assert choice["options"] == [] and "this server offers no such model yet" in choice["help"], choice
    for name in (None, "simulated"):
        inputs = {"origin|source": "cached", "origin|name": name}
        answer = ask("/api/tools", {"history_id": place, "tool_id": "scgpt_checkpoint_inspect", "inputs": inputs})
        assert "jobs" not in answer and list(answer["err_data"]) == ["origin|name"], answer


checks = [destination_reaches_programs, empty_table_is_explained]
if has_image():
    checks.insert(0, image_runs_jobs)
else:
    print("skipped: no image; tests/engines/images/run.sh makes it")
for check in checks:
    check()
    print(f"{check.__name__}: passed")
