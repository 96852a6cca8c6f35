"""Jobs of several processes on real models, and the commands of docs/scale.md.

A job in 1, 2, 4 and 7 parts, each done by a process of its own, gives the bytes of one process: ranges and second moments of
EfficientNet-Lite0 on images, gradients of ResNet-8, mean average precision of nanodet_m, codes of layers (GPTQ) and a search under
a bound. Shards that are merged by hand do, too. The shell commands of the page run with programs of this check in the place of
GNU parallel and of Slurm, which start the same commands.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile

import corpus
import tool

PAGE = os.path.join(tool.ROOT, "docs", "scale.md")
PARTS = (1, 2, 4, 7)
#: Reads `parallel COMMAND ... {} ... ::: ARGUMENT...`, with all of them side by side.
PARALLEL = """#!/usr/bin/env python3
import subprocess, sys
at = sys.argv.index(":::")
words, arguments = sys.argv[1:at], sys.argv[at + 1:]
started = [subprocess.Popen([word.replace("{}", argument) for word in words]) for argument in arguments]
sys.exit(sum(process.wait() != 0 for process in started))
"""
#: Reads `sbatch --wait --array=FIRST-LAST SCRIPT`.
SBATCH = """#!/usr/bin/env python3
import os, re, subprocess, sys
first, last = map(int, re.match(r"--array=(\\d+)-(\\d+)$", sys.argv[2]).groups())
assert sys.argv[1] == "--wait"
script = open(sys.argv[3]).read()
assert script.startswith("#!/bin/sh") and "#SBATCH" in script
started = [
    subprocess.Popen(["sh", sys.argv[3]], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(index)})
    for index in range(first, last + 1)
]
sys.exit(sum(process.wait() != 0 for process in started))
"""


def kept(path):
    with open(path, "rb") as file:
        return file.read()


def finished(secateur, folder, plan):
    """Works on a plan, a task a process, and merges it; what went wrong, or None."""
    for _ in range(40):
        with open(os.path.join(plan, "tasks.jsonl")) as file:
            tasks = [json.loads(line) for line in file]
        last = [task for task in tasks if task["stage"] == tasks[-1]["stage"]]
        # The last task first: the order counts for nothing.
        for task in reversed(last):
            done = secateur.run("work", plan, "--task", task["id"], "--jobs", "1")
            if done.code != 0:
                return done.why()
        merged = secateur.run("merge", plan, "--force", "--json")
        if merged.code == 0:
            return None
        if merged.code != 1 or (merged.json() or {}).get("finished") is not False:
            return merged.why()
    return "it does not come to an end"


def compare(report, secateur, name, job, alone, parts=PARTS):
    """`alone` is what one process gives, by the key of the job that names its file."""
    for count in parts:
        with tempfile.TemporaryDirectory() as folder:
            key, expected = alone
            own = {**job, "parts": count, "output": os.path.join(folder, "output")}
            own[key] = os.path.join(folder, key)
            path = os.path.join(folder, "job.yaml")
            with open(path, "w") as file:
                json.dump(own, file)
            plan = os.path.join(folder, "plan")
            planned = secateur.run("plan", path, "-o", plan)
            why = planned.why() if planned.code != 0 else finished(secateur, folder, plan)
            if why is None and kept(own[key]) != expected:
                why = "the bytes are not those of one process"
            if why is None:
                report.passed(f"{name} in {count} parts")
            else:
                report.failed(f"{name} in {count} parts", why)


def one(secateur, arguments, output):
    """The file that one process writes."""
    done = secateur.run(*arguments)
    if done.code != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {done.why()}")
    return kept(output)


def check_statistics(report, secateur, name, model, purpose, role, data, parts=PARTS):
    if not report.wants(name):
        return
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "out")
        arguments = ["stats", model, "--for", purpose, "--data", json.dumps(data)]
        expected = one(secateur, [*arguments, "-o", output], output)
        job = {"job": "stats", "for": purpose, "model": model, "data": {role: data}}
        compare(report, secateur, name, job, ("output", expected), parts)
        shards = [os.path.join(folder, f"shard{index}") for index in range(3)]
        for index, shard in enumerate(shards):
            one(secateur, [*arguments, "--shard", f"{index}/3", "-o", shard], shard)
        merged = one(secateur, ["stats", "merge", *reversed(shards), "-o", output + "2"], output + "2")
        if merged == expected:
            report.passed(f"{name} in shards")
        else:
            report.failed(f"{name} in shards", "the merged file is not that of one process")


def check_evaluation(report, secateur, name, model, data):
    if not report.wants(name):
        return
    with tempfile.TemporaryDirectory() as folder:
        state = os.path.join(folder, "state")
        arguments = ["evaluate", model, "--data", json.dumps(data), "--state", state, "--latency-runs", "0"]
        expected = one(secateur, arguments, state)
        job = {"job": "evaluate", "latency-runs": 0, "model": model, "data": {"evaluation": data}}
        compare(report, secateur, name, job, ("state", expected))


def check_pipeline(report, secateur, name, model, pipeline, data, parts):
    if not report.wants(name):
        return
    with tempfile.TemporaryDirectory() as folder:
        path, output = os.path.join(folder, "pipeline.yaml"), os.path.join(folder, "out.onnx")
        with open(path, "w") as file:
            json.dump(pipeline, file)
        given = [word for role, described in data.items() for word in ("--data", f"{role}={json.dumps(described)}")]
        expected = one(secateur, ["run", path, model, "-o", output, *given], output)
        job = {"job": "run", "model": model, "pipeline": pipeline, "data": data}
        compare(report, secateur, name, job, ("output", expected), parts)


def check_page(report, secateur):
    """The files and the shell blocks of the page, in its order."""
    if not report.wants("docs/scale.md"):
        return
    with open(PAGE, encoding="utf-8") as file:
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", file.read(), re.M | re.S)
    with tempfile.TemporaryDirectory() as folder:
        programs = os.path.join(folder, "bin")
        os.mkdir(programs)
        os.symlink(secateur.binary, os.path.join(programs, "secateur"))
        for name, text in (("parallel", PARALLEL), ("sbatch", SBATCH)):
            path = os.path.join(programs, name)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o755)
        shutil.copy(os.path.join(corpus.FIXTURES, "digits_cnn_bn.onnx"), os.path.join(folder, "model.onnx"))
        shutil.copy(os.path.join(corpus.FIXTURES, "data", "digits_calib.npz"), os.path.join(folder, "calibration.npz"))
        environment = {**os.environ, "PATH": programs + os.pathsep + os.environ["PATH"], "NO_COLOR": "1"}
        ran = 0
        for kind, text in blocks:
            named = re.match(r"# ([\w.]+\.yaml)\n", text)
            if named:
                with open(os.path.join(folder, named[1]), "w") as file:
                    file.write(text)
            if kind == "console":
                text = "".join(line[2:] + "\n" for line in text.splitlines() if line.startswith("$ "))
            if kind not in ("sh", "console") or "kubectl" in text:
                continue
            done = subprocess.run(["bash", "-e", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
            first = text.splitlines()[0]
            if done.returncode == 0:
                report.passed(f"docs/scale.md: {first}")
                ran += 1
            else:
                report.failed(f"docs/scale.md: {first}", (done.stdout + done.stderr)[-500:])
        expected = os.path.join(folder, "gram.safetensors")
        alone = os.path.join(folder, "alone")
        data = json.dumps({"npz": os.path.join(folder, "calibration.npz"), "samples": 64})
        arguments = ["stats", os.path.join(folder, "model.onnx"), "--for", "gram", "--data", data, "-o", alone]
        if ran >= 4 and kept(expected) == one(secateur, arguments, alone):
            report.passed("docs/scale.md: what Slurm's stand-in made has the bytes of one process")
        else:
            report.failed("docs/scale.md: what Slurm's stand-in made", f"{ran} blocks ran")


def check(report, secateur):
    check_page(report, secateur)
    fixtures = corpus.FIXTURES
    digits = os.path.join(fixtures, "data")
    labelled = {"npz": os.path.join(digits, "digits_test.npz"), "labels": "y"}
    calibration = {"npz": os.path.join(digits, "digits_calib.npz"), "samples": 64}
    model = os.path.join(fixtures, "digits_cnn_bn.onnx")
    check_statistics(report, secateur, "digits gradients", model, "gradients", "training", {**labelled, "samples": 90})
    check_evaluation(report, secateur, "digits accuracy", model, labelled)
    both = {"calibration": calibration, "evaluation": {**labelled, "samples": 200}}
    search = {"steps": ["simplify", {"quantize": {"until": "accuracy.drop<=0.0"}}]}
    check_pipeline(report, secateur, "digits until", model, search, both, PARTS)
    root = os.environ.get("SECATEUR_CORPUS")
    if not root:
        report.skipped("corpus", "SECATEUR_CORPUS is not set")
        return
    images = {"images": {"folder": os.path.join(root, "data", "imagenet", "calibration")}, "preprocess": "efficientnet-lite", "samples": 30}
    efficient = os.path.join(root, "models", "pretrained", "efficientnet_lite0.onnx")
    check_statistics(report, secateur, "efficientnet ranges", efficient, "quantize", "calibration", images)
    check_statistics(report, secateur, "efficientnet gram", efficient, "gram", "calibration", images, (4,))
    gptq = {"steps": ["simplify", {"quantize-weights": {"type": "int8", "rounding": "gptq"}}]}
    check_pipeline(report, secateur, "efficientnet gptq", efficient, gptq, {"calibration": {**images, "samples": 16}}, (7,))
    coco = os.path.join(root, "data", "coco")
    boxes = {"images": {"folder": os.path.join(coco, "evaluation")}, "labels": os.path.join(coco, "evaluation.json"),
             "preprocess": "nanodet", "samples": 35}
    detector = os.path.join(root, "models", "real", "github-nanodet", "nanodet_m.onnx")
    check_evaluation(report, secateur, "nanodet mAP", detector, boxes)
