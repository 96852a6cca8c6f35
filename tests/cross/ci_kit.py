"""The CI kit: action.yml, the hooks of pre-commit, the GitLab template, the workflows, and the script that they call.

The files are validated against their published schemas, which the package check-jsonschema brings (an own subset for the hooks), the
scripts by shellcheck, the workflows by actionlint where it is installed. Then everything that they run is run, with the variables that
GitHub and GitLab set: on good models, on one with another weight, on one with another shape, on files that are not there; exit
statuses, summaries, comments, annotations and test cases are looked at. `gh` is a program of this check that keeps comments in a file, and the
wheel is one that calls the binary.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree
import zipfile

import numpy
import onnx

import corpus
import tool

SCRIPT = os.path.join(tool.ROOT, "ci", "secateur-ci.sh")
HOOKS = os.path.join(tool.ROOT, "python", "secateur", "hooks.py")
REQUIREMENTS = os.path.join(tool.ROOT, "tests", "cross", "requirements-ci.txt")
WORKFLOWS = [".github/workflows/ci.yml", ".github/workflows/release.yml"]
PUBLISHED = (("vendor.github-actions", ["action.yml"]), ("vendor.github-workflows", WORKFLOWS), ("vendor.gitlab-ci", ["ci/gitlab.yml"]))
GATES = """version: 1
data:
  calibration: {{ npz: calibration.npz, samples: 32 }}
  evaluation: {{ npz: test.npz, labels: y }}
steps:
  - simplify
  - quantize
gates:
  - accuracy: {{ drop: 0.02 }}
  - size: {{ at-most: {most} }}
"""
HOSTILE = "a$(touch pwned)`touch pwned`|<b>@all.onnx"


class Kit:
    """A folder with good and broken models, and the environment of a CI system."""

    def __init__(self, secateur, folder):
        self.secateur = secateur
        self.folder = folder
        self.bin = os.path.join(folder, "bin")
        os.mkdir(self.bin)
        os.symlink(secateur.binary, os.path.join(self.bin, "secateur"))
        os.symlink(sys.executable, os.path.join(self.bin, "python3"))
        for name in ("digits_cnn", "digits_cnn_bn"):
            shutil.copy(os.path.join(corpus.FIXTURES, name + ".onnx"), self.path(name + ".onnx"))
        shutil.copy(os.path.join(corpus.FIXTURES, "data", "digits_calib.npz"), self.path("calibration.npz"))
        shutil.copy(os.path.join(corpus.FIXTURES, "data", "digits_test.npz"), self.path("test.npz"))
        self.broken("other-weight.onnx", lambda weight: numpy.roll(weight, 1, 0))
        self.broken("other-shape.onnx", lambda weight: weight[:, :-1])
        shutil.copy(self.path("digits_cnn_bn.onnx"), self.path(HOSTILE))
        shutil.copy(self.path("other-weight.onnx"), self.path("-hyphen.onnx"))
        for name, most in (("good.yaml", 0.5), ("strict.yaml", 0.01)):
            with open(self.path(name), "w") as file:
                file.write(GATES.format(most=most))

    def path(self, name):
        return os.path.join(self.folder, name)

    def broken(self, name, change):
        """A model whose classifier has other weights."""
        model = onnx.load(self.path("digits_cnn.onnx"))
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.weight")
        changed = numpy.ascontiguousarray(change(onnx.numpy_helper.to_array(weight)))
        weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
        with open(self.path(name), "wb") as file:
            file.write(model.SerializeToString())

    def environment(self, **variables):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SECATEUR_", "GITHUB_", "CI_", "GH_"))}
        kept["PATH"] = self.bin + os.pathsep + kept["PATH"]
        return {**kept, "NO_COLOR": "1", **variables}

    def github(self, **variables):
        """As a step of a workflow for a pull request has it."""
        self.say("event.json", json.dumps({"pull_request": {"number": 7}}))
        files = {f"GITHUB_{name}": self.path(name.lower()) for name in ("STEP_SUMMARY", "OUTPUT", "PATH")}
        for path in files.values():
            open(path, "w").close()
        return self.environment(CI="true", GITHUB_ACTIONS="true", GITHUB_EVENT_NAME="pull_request", GITHUB_EVENT_PATH=self.path("event.json"),
                                GITHUB_REPOSITORY="owner/models", GITHUB_SERVER_URL="https://github.com", GITHUB_RUN_ID="42", **files, **variables)

    def say(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def run(self, command, environment):
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)

    def script(self, environment, *arguments):
        shutil.rmtree(self.path("secateur-reports"), ignore_errors=True)
        return self.run(["sh", SCRIPT, *arguments], environment)

    def test_cases(self):
        """(name, whether it failed) of junit.xml."""
        root = xml.etree.ElementTree.parse(self.path("secateur-reports/junit.xml")).getroot()
        cases = [(case.get("name"), len(case) > 0) for case in root.iter("testcase")]
        assert int(root.get("tests")) == len(cases) and int(root.get("failures")) + int(root.get("errors")) == sum(failed for _, failed in cases)
        return cases

    def fake_gh(self, working=True):
        """`gh api` over a file of comments."""
        program = f"#!{sys.executable}\n" + '''import json, os, sys
if not WORKING: sys.exit("HTTP 403: Resource not accessible by integration")
store = PATH
comments = json.load(open(store)) if os.path.exists(store) else []
words = sys.argv[1:]
assert words[0] == "api"
method = words[words.index("-X") + 1] if "-X" in words else "GET"
url = next(word for word in words if word.startswith("repos/"))
if method == "GET":
    assert "--paginate" in words and url == "repos/owner/models/issues/7/comments?per_page=100", words
    # As gh prints pages: one array after the other.
    print(json.dumps(comments[:1]) + json.dumps(comments[1:]))
    sys.exit()
field = words[words.index("-F") + 1]
assert field.startswith("body=@"), words
body = open(field[len("body=@"):]).read()
if method == "POST":
    assert url == "repos/owner/models/issues/7/comments", words
    comments.append({"id": len(comments) + 1, "body": body, "user": {"type": "Bot"}})
else:
    assert method == "PATCH" and url.startswith("repos/owner/models/issues/comments/"), words
    next(comment for comment in comments if comment["id"] == int(url.rsplit("/", 1)[1]))["body"] = body
json.dump(comments, open(store, "w"))
'''.replace("WORKING", repr(working)).replace("PATH", repr(self.path("comments.json")))
        path = os.path.join(self.bin, "gh")
        with open(path, "w") as file:
            file.write(program)
        os.chmod(path, 0o755)

    def wheel(self):
        """A wheel whose program calls the binary: what pip does with it is what it does with the real one."""
        path = self.path("secateur-0.1.0-py3-none-any.whl")
        info = "secateur-0.1.0.dist-info"
        files = {
            "secateur-0.1.0.data/scripts/secateur": f"#!/bin/sh\nexec '{self.secateur.binary}' \"$@\"\n",
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: secateur\nVersion: 0.1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: check\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with zipfile.ZipFile(path, "w") as archive:
            record = []
            for name, text in files.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o100755 << 16
                archive.writestr(entry, text)
                digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
                record.append(f"{name},sha256={digest},{len(text)}")
            archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
        return path


class Expect:
    """Collects what is not as it should be."""

    def __init__(self, report, name):
        self.report = report
        self.name = name
        self.wrong = []

    def __call__(self, right, what):
        if not right:
            self.wrong.append(what)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, Exception):
            self.wrong.append(f"{kind.__name__}: {error}")
        self.report.failed(self.name, "; ".join(self.wrong)[:2000]) if self.wrong else self.report.passed(self.name)
        return kind is None or issubclass(kind, Exception)


# (name, variables, status, what the summary says, annotations that begin so, failing test cases)
RUNS = (
    ("verify good", {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "digits_cnn_bn.onnx"},
     0, ["verify: passed, outputs are within", "| logits | within |"], ["::notice file=digits_cnn_bn.onnx,title=models::verify: passed"], 0),
    ("verify other weight", {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "other-weight.onnx"},
     1, [":x: models: verify: outputs are different", "| logits | different |"], ["::error file=other-weight.onnx,title=models::verify: outputs are different"], 1),
    ("verify a hyphen", {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "-hyphen.onnx"},
     1, ["verify: outputs are different"], ["::error file=-hyphen.onnx"], 1),
    ("verify other shape", {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "other-shape.onnx"},
     2, [":warning: models: verify: "], ["::error file=other-shape.onnx,title=models::verify: "], 1),
    ("verify nothing", {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "absent.onnx"},
     2, ["cannot read absent.onnx"], ["::error title=models::verify: cannot read absent.onnx"], 1),
    ("verify a hostile name", {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": HOSTILE},
     0, ["verify: passed"], ["::notice file=a$(touch pwned)`touch pwned`|<b>@all.onnx,"], 0),
    ("run good", {"SECATEUR_COMMAND": "run", "SECATEUR_PIPELINE": "good.yaml", "SECATEUR_MODEL": "digits_cnn_bn.onnx"},
     0, ["run: passed", "| accuracy | passed |", "| size | passed |", "| nodes | 15 | 32 |", "| accuracy | 0.98"], ["::notice", "::warning"], 0),
    ("run broken gate", {"SECATEUR_COMMAND": "run", "SECATEUR_PIPELINE": "strict.yaml", "SECATEUR_MODEL": "digits_cnn_bn.onnx"},
     1, ["run: broken: size", "| size | **broken** | size is"], ["::error file=digits_cnn_bn.onnx,title=models%3A size::size is"], 1),
    ("run other shape", {"SECATEUR_COMMAND": "run", "SECATEUR_PIPELINE": "good.yaml", "SECATEUR_MODEL": "other-shape.onnx"},
     2, [":warning: models: run: "], ["::error"], 1),
    ("evaluate good", {"SECATEUR_COMMAND": "evaluate", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "digits_cnn_bn.onnx",
                       "SECATEUR_DATA": "{npz: test.npz, labels: y}", "SECATEUR_ARGUMENTS": "--gate\naccuracy.drop=0.01\n--latency-runs\n0"},
     0, ["evaluate: passed", "| accuracy | passed |", "| accuracy | 0.9867 | 0.9867 |"], ["::notice"], 0),
    ("evaluate other weight", {"SECATEUR_COMMAND": "evaluate", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "other-weight.onnx",
                               "SECATEUR_DATA": "{npz: test.npz, labels: y}", "SECATEUR_ARGUMENTS": "--gate=accuracy.drop=0.01\n--latency-runs=0"},
     1, ["evaluate: broken: accuracy", "| accuracy | **broken** |"], ["::error file=other-weight.onnx,title=models%3A accuracy::accuracy is"], 1),
)


def check_runs(report, kit):
    for name, variables, status, said, annotated, failing in RUNS:
        if not report.wants(name):
            continue
        with Expect(report, name) as expect:
            done = kit.script(kit.github(SECATEUR_NAME="models", **variables))
            expect(done.returncode == status, f"status {done.returncode}, not {status}: {done.stderr[-300:]}")
            summary = kit.read("secateur-reports/summary.md") or ""
            for text in said:
                expect(text in summary, f"the summary lacks {text!r}: {summary!r}")
            expect(kit.read("step_summary") == summary, "the summary of the job is another one")
            expect(kit.read("output") == f"status={status}\n", f"output {kit.read('output')!r}")
            comment = kit.read("secateur-reports/comment.md") or ""
            expect(comment.startswith("<!-- secateur: models -->\n" + summary.rstrip()[:40]), f"the comment begins {comment[:120]!r}")
            expect(comment.endswith("(https://github.com/owner/models/actions/runs/42)\n"), f"the comment ends {comment[-120:]!r}")
            lines = [line for line in done.stdout.splitlines() if line.startswith("::")]
            for start in annotated:
                expect(any(line.startswith(start) for line in lines), f"no annotation {start!r} in {lines}")
            expect(sum(line.startswith("::error") for line in lines) == failing, f"errors in {lines}")
            cases = kit.test_cases()
            expect(sum(failed for _, failed in cases) == failing and cases, f"test cases {cases}")
            page = kit.read("secateur-reports/report.html")
            expect((page is not None and "<html" in page) == (status != 2), "the page is " + ("there" if page else "not there"))
            written = os.path.exists(kit.path("secateur-reports/model.onnx"))
            expect(written == (variables["SECATEUR_COMMAND"] == "run" and status == 0), "the result is " + ("there" if written else "not there"))
            expect(not os.path.exists(kit.path("pwned")), "a file name ran as a command")
            if name == "verify a hostile name":
                expect("<b>" not in comment.replace(f"`{HOSTILE.replace('`', '')}`", ""), f"markup in {comment!r}")


def check_script(report, kit):
    """What is not one of the commands."""
    with Expect(report, "no such command") as expect:
        done = kit.script(kit.environment(SECATEUR_COMMAND="rm", SECATEUR_MODEL="digits_cnn.onnx"))
        expect(done.returncode == 2 and "SECATEUR_COMMAND is `rm`" in done.stderr, f"{done.returncode}: {done.stderr}")
    with Expect(report, "no reference") as expect:
        done = kit.script(kit.environment(SECATEUR_COMMAND="verify", SECATEUR_MODEL="digits_cnn.onnx"))
        expect(done.returncode == 2 and "SECATEUR_REFERENCE is not set" in done.stderr, f"{done.returncode}: {done.stderr}")
    variables = {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_MODEL": "other-weight.onnx"}
    with Expect(report, "a status that is left to the next step") as expect:
        done = kit.script(kit.github(SECATEUR_DEFER="true", **variables))
        expect((done.returncode, kit.read("output")) == (0, "status=1\n"), f"{done.returncode} {kit.read('output')}")
    with Expect(report, "outside of CI the summary is printed") as expect:
        done = kit.script(kit.environment(**variables))
        expect(done.returncode == 1 and kit.read("secateur-reports/summary.md") in done.stdout and "::" not in done.stdout, done.stdout)
    with Expect(report, "a program that is not there") as expect:
        done = kit.script(kit.github(SECATEUR_BIN="/nonexistent/secateur", **variables))
        expect(done.returncode == 127 and "printed no result" in (kit.read("secateur-reports/summary.md") or ""), f"{done.returncode}: {done.stderr}")
        expect("::error" in done.stdout and kit.test_cases() == [("verify", True)], done.stdout)


def check_comments(report, kit):
    variables = {"SECATEUR_COMMAND": "verify", "SECATEUR_REFERENCE": "digits_cnn.onnx", "SECATEUR_COMMENT": "true", "SECATEUR_NAME": "models"}
    comments = lambda: json.loads(kit.read("comments.json") or "[]")  # noqa: E731
    kit.fake_gh()
    # A reader writes the marker: that comment is not the action's.
    kit.say("comments.json", json.dumps([{"id": 1, "body": "<!-- secateur: models -->\nmine", "user": {"type": "User"}}]))
    with Expect(report, "a comment is written, and written over") as expect:
        kit.script(kit.github(SECATEUR_MODEL="other-weight.onnx", **variables))
        expect([comment["id"] for comment in comments()] == [1, 2] and "outputs are different" in comments()[1]["body"], f"{comments()}")
        kit.script(kit.github(SECATEUR_MODEL="digits_cnn_bn.onnx", **variables))
        expect([comment["id"] for comment in comments()] == [1, 2] and "outputs are within" in comments()[1]["body"], f"{comments()}")
        expect(comments()[0]["body"].endswith("mine"), "a reader's comment was written over")
        kit.script(kit.github(SECATEUR_MODEL="digits_cnn_bn.onnx", **{**variables, "SECATEUR_NAME": "other"}))
        expect(len(comments()) == 3, "another report has no comment of its own")
    with Expect(report, "no comment without a pull request") as expect:
        environment = kit.github(SECATEUR_MODEL="digits_cnn_bn.onnx", **variables)
        kit.say("event.json", json.dumps({"ref": "refs/heads/main"}))
        done = kit.script(environment)
        expect(done.returncode == 0 and "this is no run for a pull request" in done.stdout and len(comments()) == 3, done.stdout)
    with Expect(report, "a token that may not write is no failure") as expect:
        kit.fake_gh(working=False)
        done = kit.script(kit.github(SECATEUR_MODEL="digits_cnn_bn.onnx", **variables))
        expect(done.returncode == 0 and "::notice title=secateur::no comment: HTTP 403" in done.stdout, f"{done.returncode} {done.stdout}")


def check_verb(expect, kit):
    """`check` on a model with errors, on one without, and with warnings denied."""
    done = kit.script(kit.github(SECATEUR_COMMAND="check", SECATEUR_MODEL="other-shape.onnx"))
    expect(done.returncode == 1 and "::error file=other-shape.onnx,title=secateur%3A " in done.stdout, f"{done.returncode} {done.stdout} {done.stderr}")
    expect("| error |" in kit.read("step_summary") and any(failed for _, failed in kit.test_cases()), kit.read("step_summary"))
    done = kit.script(kit.github(SECATEUR_COMMAND="check", SECATEUR_MODEL="digits_cnn_bn.onnx"))
    expect(done.returncode == 0 and "::error" not in done.stdout and "::warning" in done.stdout, f"{done.returncode} {done.stdout} {done.stderr}")
    expect(not any(failed for _, failed in kit.test_cases()), f"{kit.test_cases()}")
    sarif = json.loads(kit.read("secateur-reports/findings.sarif") or "{}")
    expect(sarif.get("version") == "2.1.0" and sarif["runs"][0]["results"], f"findings.sarif: {sarif}")
    done = kit.script(kit.github(SECATEUR_COMMAND="check", SECATEUR_MODEL="digits_cnn_bn.onnx", SECATEUR_ARGUMENTS="--deny\nwarning"))
    expect(done.returncode == 1 and "::error" in done.stdout and any(failed for _, failed in kit.test_cases()), f"{done.returncode} {done.stdout} {done.stderr}")


def check_findings(report, kit):
    """`check` and `ci`, where the binary has them."""
    for verb in ("check", "ci"):
        if kit.secateur.run(verb, "--help").code != 0:
            report.skipped(verb, f"this binary has no verb {verb}")
            continue
        with Expect(report, verb) as expect:
            if verb == "check":
                check_verb(expect, kit)
                continue
            evaluated = {"SECATEUR_COMMAND": "evaluate", "SECATEUR_NAME": "models", "SECATEUR_DATA": "{npz: test.npz, labels: y}", "SECATEUR_ARGUMENTS": "--latency-runs=0"}
            kit.script(kit.github(SECATEUR_MODEL="digits_cnn_bn.onnx", **evaluated))
            shutil.copy(kit.path("secateur-reports/result.json"), kit.path("models.json"))
            kept = kit.run([kit.secateur.binary, "ci", "models.json", "--baseline", "secateur.lock", "--update"], kit.environment())
            expect(kept.returncode == 0 and kit.read("secateur.lock"), f"--update: {kept.returncode} {kept.stderr}")
            done = kit.script(kit.github(SECATEUR_COMMAND="ci", SECATEUR_MODEL="models.json", SECATEUR_BASELINE="secateur.lock"))
            expect(done.returncode == 0 and "ci: passed" in kit.read("step_summary"), f"the same: {done.returncode} {done.stderr}")
            done = kit.script(kit.github(SECATEUR_MODEL="digits_cnn_bn.onnx", SECATEUR_BASELINE="secateur.lock", **evaluated))
            expect(done.returncode == 0 and kit.read("output") == "status=0\n", f"the same, evaluated again: {done.returncode} {done.stdout}")
            done = kit.script(kit.github(SECATEUR_MODEL="other-weight.onnx", SECATEUR_BASELINE="secateur.lock", **evaluated))
            expect(done.returncode == 1 and kit.read("output") == "status=1\n", f"worse: {done.returncode} {done.stderr}")
            expect("::error file=other-weight.onnx,title=models%3A accuracy::models: is 0, it was 0.9867" in done.stdout, done.stdout)
            summary = kit.read("step_summary")
            expect("| accuracy | error | models | is 0, it was 0.9867 |" in summary and "figures do not hold" in summary, summary)
            expect(sum(failed for _, failed in kit.test_cases()) > 1, f"{kit.test_cases()}")
            done = kit.script(kit.github(**{**evaluated, "SECATEUR_NAME": "unknown"}, SECATEUR_MODEL="digits_cnn_bn.onnx", SECATEUR_BASELINE="secateur.lock"))
            expect(done.returncode == 1 and "the baseline does not know this result" in done.stdout, f"unknown: {done.returncode} {done.stdout}")


def check_install(report, kit, wheel):
    with Expect(report, "install") as expect:
        environment = kit.github(SECATEUR_WHEEL=wheel, PIP_NO_INDEX="1")
        done = kit.script(environment, "install", kit.path("environment"))
        expect(done.returncode == 0 and done.stdout.startswith("secateur "), f"{done.returncode} {done.stdout} {done.stderr}")
        expect(kit.read("path") == kit.path("environment/bin") + "\n", f"the path of later steps: {kit.read('path')!r}")
    with Expect(report, "install what is not there") as expect:
        done = kit.script(kit.github(SECATEUR_WHEEL="absent.whl", PIP_NO_INDEX="1"), "install", kit.path("environment"))
        expect(done.returncode not in (0, None), "it succeeded")


def check_runtime(report, kit, wheel):
    """ONNX Runtime is installed where it is the engine: without an index that fails, and the package itself does not."""
    with Expect(report, "install ONNX Runtime") as expect:
        done = kit.script(kit.github(SECATEUR_WHEEL=wheel, SECATEUR_ENGINE="ort", PIP_NO_INDEX="1"), "install", kit.path("runtime"))
        expect(done.returncode != 0 and "onnxruntime" in done.stderr, f"{done.returncode} {done.stderr}")


def expression(text, values):
    """A text of a workflow with its expressions replaced."""
    def value(found):
        key = found[1].strip()
        if key not in values:
            raise KeyError(f"no value for {key}")
        return values[key]
    return re.sub(r"\$\{\{(.+?)\}\}", value, str(text))


def check_action(report, kit, action, wheel):
    """The steps of the action one after the other, as a runner takes them."""
    for name, model, status in (("the action on a good model", "digits_cnn_bn.onnx", 0), ("the action on a broken model", "other-weight.onnx", 1)):
        with Expect(report, name) as expect:
            kit.fake_gh()
            given = {"command": "verify", "reference": "digits_cnn.onnx", "model": model, "wheel": wheel, "comment": "true", "report-name": "two words"}
            values = {f"inputs.{key}": given.get(key, declared.get("default", "")) for key, declared in action["inputs"].items()}
            values.update({"inputs.token": "none", "github.token": "none"})
            base = kit.github(RUNNER_TEMP=kit.path("temporary"), GITHUB_ACTION_PATH=tool.ROOT, PIP_NO_INDEX="1")
            os.makedirs(kit.path("temporary"), exist_ok=True)
            last, uploads = 0, []
            for step in action["runs"]["steps"]:
                if "uses" in step:
                    uploads += [path for path in expression(step["with"]["path"], values).split() if os.path.exists(path)]
                    continue
                expect("${{" not in step["run"], f"an expression in the script of {step['name']}")
                own = {key: expression(value, values) for key, value in (step.get("env") or {}).items()}
                path = os.pathsep.join([*(kit.read("path") or "").split(), base["PATH"]])
                open(kit.path("output"), "w").close()
                done = kit.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], {**base, **own, "PATH": path})
                for line in (kit.read("output") or "").splitlines():
                    key, _, value = line.partition("=")
                    values[f"steps.{step.get('id')}.outputs.{key}"] = value
                last = done.returncode
                expect(last == 0 or step is action["runs"]["steps"][-1], f"{step['name']} ended with {last}: {done.stderr[-300:]}")
            expect(last == status, f"the action ends with {last}, not {status}")
            expect({os.path.basename(path) for path in uploads} == {"report.html", "result.json", "summary.md"}, f"uploads {uploads}")
            expect("two words" in (kit.read("step_summary") or ""), "the summary lacks the name of the report")


def check_gitlab(report, kit, template, wheel):
    for name, model, status in (("GitLab on a good model", "digits_cnn_bn.onnx", 0), ("GitLab on a broken model", "other-weight.onnx", 1)):
        with Expect(report, name) as expect:
            job = template[".secateur"]
            environment = kit.environment(CI="true", GITLAB_CI="true", **job["variables"])
            environment.update(SECATEUR_KIT=os.path.join(tool.ROOT, "ci"), SECATEUR_ENVIRONMENT=kit.path("gitlab"), SECATEUR_WHEEL=wheel, PIP_NO_INDEX="1",
                               SECATEUR_COMMAND="verify", SECATEUR_REFERENCE="digits_cnn.onnx", SECATEUR_MODEL=model)
            shutil.rmtree(kit.path("secateur-reports"), ignore_errors=True)
            done = kit.run(["sh", "-ec", "\n".join([*job["before_script"], *job["script"]])], environment)
            expect(done.returncode == status, f"status {done.returncode}, not {status}: {done.stderr[-300:]}")
            expect(sum(failed for _, failed in kit.test_cases()) == status, f"{kit.test_cases()}")
            expect(job["artifacts"]["when"] == "always" and job["artifacts"]["reports"]["junit"] == "secateur-reports/junit.xml", "artifacts")
    with Expect(report, "GitLab without the kit fetches it") as expect:
        job = template[".secateur"]
        environment = kit.environment(**{**job["variables"], "SECATEUR_KIT": "absent", "SECATEUR_SOURCE": "file://" + os.path.join(tool.ROOT, "ci")})
        done = kit.run(["sh", "-ec", job["before_script"][0] + '\nls "$SECATEUR_KIT"'], environment)
        expect(done.returncode == 0 and done.stdout.split() == ["secateur-ci.sh", "summary.py"], f"{done.stdout} {done.stderr}")


def check_hooks(report, kit, hooks):
    """The entries of the hooks in a repository, on models that are committed, changed, broken and new."""
    if not shutil.which("git"):
        report.skipped("hooks", "git is not installed")
        return
    entries = {hook["id"]: hook for hook in hooks}
    repository = kit.path("repository/models")
    os.makedirs(repository)
    environment = kit.environment(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1", SECATEUR_BIN=kit.secateur.binary)
    git = ["git", "-c", "user.name=check", "-c", "user.email=check@localhost", "-c", "init.defaultBranch=main"]

    def hook(name, *arguments):
        entry = entries[name]["entry"].split()
        assert entry[:3] == ["python", "-m", "secateur.hooks"], entry
        command = [sys.executable, HOOKS, *entry[3:], *arguments]
        return subprocess.run(command, cwd=os.path.dirname(repository), env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)

    def put(source, name="model.onnx"):
        shutil.copy(source if os.path.isabs(source) else kit.path(source), os.path.join(repository, name))

    def commit():
        for command in (["add", "."], ["commit", "-qm", "models"]):
            subprocess.run([*git, *command], cwd=os.path.dirname(repository), env=environment, check=True)

    subprocess.run([*git, "init", "-q"], cwd=os.path.dirname(repository), env=environment, check=True)
    put("digits_cnn.onnx")
    for suffix in (".onnx", ".data"):
        put(os.path.join(corpus.FIXTURES, "digits_mlp_external" + suffix), "digits_mlp_external" + suffix)
    commit()
    cases = (("computes the same", "digits_cnn_bn.onnx", 0), ("does not", "other-weight.onnx", 1), ("is no model", "test.npz", 2))
    for name, source, status in cases:
        with Expect(report, f"hook verify: what {name}") as expect:
            put(source)
            done = hook("secateur-verify", "models/model.onnx")
            expect(done.returncode == status, f"{done.returncode}, not {status}: {done.stdout} {done.stderr}")
    with Expect(report, "hook verify: the worst counts, and a new model has no reference") as expect:
        put("other-weight.onnx")
        put("digits_cnn.onnx", "new.onnx")
        done = hook("secateur-verify", "models/model.onnx", "models/new.onnx", "models/digits_mlp_external.onnx")
        expect(done.returncode == 1 and "models/new.onnx: new" in done.stdout and "verdict: equal" in done.stdout, f"{done.returncode}: {done.stdout} {done.stderr}")
    with Expect(report, "hook verify: a reference, and an option") as expect:
        done = hook("secateur-verify", "--reference", kit.path("other-weight.onnx"), "--option=--rounds=2", "models/model.onnx")
        expect(done.returncode == 0 and "verdict: equal" in done.stdout, f"{done.returncode}: {done.stdout} {done.stderr}")
    if kit.secateur.run("check", "--help").code != 0:
        report.skipped("hook check", "this binary has no verb check")
        return
    with Expect(report, "hook check") as expect:
        put("other-shape.onnx")
        broken, good = hook("secateur-check", "models/model.onnx", "models/new.onnx"), hook("secateur-check", "models/new.onnx")
        expect((broken.returncode > 0, good.returncode) == (True, 0), f"{broken.returncode} {good.returncode}: {broken.stdout} {good.stdout}")


def linters():
    """The folder with check-jsonschema, shellcheck and a Python that reads YAML; or (None, why not)."""
    beside = os.path.dirname(sys.executable)
    if os.path.exists(os.path.join(beside, "check-jsonschema")):
        return beside, None
    folder = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(tool.ROOT, "target")), "ci-kit-venv")
    python = os.path.join(folder, "bin", "python")
    try:
        if not os.path.exists(python):
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300, capture_output=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
        subprocess.run(install, check=True, timeout=600, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"requirements-ci.txt cannot be installed: {error}"
    return os.path.join(folder, "bin"), None


def parsed(folder, path):
    """A YAML file as data."""
    code = "import json, sys, ruamel.yaml; print(json.dumps(ruamel.yaml.YAML(typ='safe', pure=True).load(open(sys.argv[1]))))"
    done = subprocess.run([os.path.join(folder, "python"), "-c", code, os.path.join(tool.ROOT, path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def steps(document):
    """Steps of an action or a workflow."""
    yield from (document.get("runs") or {}).get("steps") or []
    for job in (document.get("jobs") or {}).values():
        yield from job.get("steps") or []


def check_files(report, folder, scratch):
    validate = os.path.join(folder, "check-jsonschema")
    own = os.path.join(tool.ROOT, "tests", "cross", "schemas", "pre-commit-hooks.schema.json")
    commands = [([validate, "--builtin-schema", schema], paths) for schema, paths in PUBLISHED]
    commands.append(([validate, "--schemafile", own], [".pre-commit-hooks.yaml"]))
    for command, paths in commands:
        for path in paths:
            whole, spoilt = os.path.join(scratch, "whole.yml"), os.path.join(scratch, "spoilt.yml")
            with open(os.path.join(tool.ROOT, path)) as file:
                # The schema of GitLab lets jobs pass whose names begin with a dot, whatever is in them.
                text = file.read().replace("\n.secateur:\n", "\nsecateur:\n")
            with open(whole, "w") as file:
                file.write(text)
            done = subprocess.run([*command, whole], capture_output=True, text=True)
            report.failed(path, done.stdout + done.stderr) if done.returncode else report.passed(path)
            # What the schema would let pass, if it let everything pass.
            broken = re.sub(r"^(\s*(?:- )?)(using|steps|entry):", r"\1no-\2:", text, flags=re.M).replace("when: always", "when: sometimes")
            with open(spoilt, "w") as file:
                file.write(broken + ("nonsense: true\n" if path.startswith(".github") else ""))
            done = subprocess.run([*command, spoilt], capture_output=True, text=True)
            report.passed(f"{path} spoilt") if done.returncode else report.failed(f"{path} spoilt", "the schema lets it pass")
    for path in ("action.yml", *WORKFLOWS):
        inside = [step.get("name") for step in steps(parsed(folder, path)) if "${{" in step.get("run", "")]
        report.failed(f"{path} scripts", f"expressions in {inside}") if inside else report.passed(f"{path} scripts")
    shellcheck = os.path.join(folder, "shellcheck")
    if not os.path.exists(shellcheck):
        shellcheck = shutil.which("shellcheck")
    if shellcheck:
        inline = [("action.yml", step) for step in steps(parsed(folder, "action.yml"))]
        inline += [(path, step) for path in WORKFLOWS for step in steps(parsed(folder, path))]
        scripts = [("ci/secateur-ci.sh", None, "sh"), (".ci/run", None, "bash")]
        scripts += [(f"{path}: {step['name']}", "#!/bin/bash\n" + step["run"], "bash") for path, step in inline if "run" in step]
        scripts.append(("ci/gitlab.yml", "#!/bin/sh\n" + "\n".join(parsed(folder, "ci/gitlab.yml")[".secateur"]["before_script"]) + "\n", "sh"))
        for name, text, shell in scripts:
            held = os.path.join(scratch, "script.sh") if text else os.path.join(tool.ROOT, name)
            if text:
                with open(held, "w") as file:
                    file.write(text)
            done = subprocess.run([shellcheck, "-s", shell, held], capture_output=True, text=True)
            report.failed(f"shellcheck {name}", done.stdout) if done.returncode else report.passed(f"shellcheck {name}")
    else:
        report.skipped("shellcheck", "it is not installed")
    actionlint = os.environ.get("ACTIONLINT") or shutil.which("actionlint")
    if actionlint:
        done = subprocess.run([actionlint, *(os.path.join(tool.ROOT, path) for path in WORKFLOWS)], capture_output=True, text=True)
        report.failed("actionlint", done.stdout + done.stderr) if done.returncode else report.passed("actionlint")
    else:
        report.skipped("actionlint", "it is not installed")


def check_projects(report):
    """The package is described alike at the top and under python/."""
    with Expect(report, "pyproject.toml") as expect:
        with open(os.path.join(tool.ROOT, "pyproject.toml"), "rb") as top, open(os.path.join(tool.ROOT, "python", "pyproject.toml"), "rb") as below:
            top, below = tomllib.load(top), tomllib.load(below)
        expect(top["build-system"] == below["build-system"], "build-system differs")
        expect(top["project"] == {**below["project"], "readme": "python/README.md"}, "project differs")
        expect(top["tool"]["maturin"]["module-name"] == below["tool"]["maturin"]["module-name"], "module-name differs")
        for path in (top["project"]["readme"], top["tool"]["maturin"]["manifest-path"], top["tool"]["maturin"]["python-source"]):
            expect(os.path.exists(os.path.join(tool.ROOT, path)), f"{path} is not there")


def check(report, secateur):
    check_projects(report)
    folder, why = linters()
    with tempfile.TemporaryDirectory(prefix="secateur-ci-") as scratch:
        kit = Kit(secateur, os.path.realpath(scratch))
        check_runs(report, kit)
        check_script(report, kit)
        check_comments(report, kit)
        check_findings(report, kit)
        wheel = kit.wheel()
        check_install(report, kit, wheel)
        check_runtime(report, kit, wheel)
        if folder is None:
            report.skipped("action.yml, hooks, templates and workflows", why)
            return
        check_files(report, folder, scratch)
        check_action(report, kit, parsed(folder, "action.yml"), wheel)
        check_gitlab(report, kit, parsed(folder, "ci/gitlab.yml"), wheel)
        check_hooks(report, kit, parsed(folder, ".pre-commit-hooks.yaml"))
