"""Summary of the planemo report of a file: one line, and the failures. Fails unless all tests ran and passed."""

import json
import pathlib
import sys

report = pathlib.Path(sys.argv[1])
if not report.exists():
    sys.exit(f"{pathlib.Path(sys.argv[2]).name}: planemo ended without a report")
tests = json.loads(report.read_text())["tests"]
failed = [test for test in tests if test["data"]["status"] != "success"]
print(f"{pathlib.Path(sys.argv[2]).name}: {len(tests) - len(failed)} of {len(tests)} tests passed")
for test in failed:
    data = test["data"]
    job = data.get("job") or {}
    print(f"  {test['id']}: {data['status']}, exit code {job.get('exit_code')}")
    for part in (*(data.get("output_problems") or []), data.get("execution_problem"), job.get("stderr"), job.get("command_line")):
        if part:
            print("    " + str(part)[-2000:].strip().replace("\n", "\n    "))
sys.exit(not tests or bool(failed))
