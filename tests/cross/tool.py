"""The secateur binary as the checks call it."""

import json
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def find(given=None):
    """The binary: the given path, SECATEUR_BIN, or the newest build under target/."""
    if given or os.environ.get("SECATEUR_BIN"):
        return os.path.abspath(given or os.environ["SECATEUR_BIN"])
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    built = [os.path.join(target, profile, "secateur") for profile in ("release", "debug")]
    built = [path for path in built if os.path.exists(path)]
    return max(built, key=os.path.getmtime) if built else None


def onnxruntime_library():
    """The shared library inside the installed onnxruntime wheel, for `--engine ort`; None if there is none."""
    import onnxruntime

    folder = os.path.join(os.path.dirname(onnxruntime.__file__), "capi")
    names = sorted(name for name in os.listdir(folder) if name.startswith(("libonnxruntime.so", "libonnxruntime.")))
    return os.path.join(folder, names[0]) if names else None


class Result:
    def __init__(self, code, stdout, stderr):
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    def json(self):
        """The JSON document on stdout, or None if stdout is not one."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return None

    def why(self):
        """One line that says what went wrong: the JSON error or the last line of stderr."""
        document = self.json()
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            error = document["error"]
            return f"exit {self.code}: {error.get('code')}: {error.get('message')}"
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return f"exit {self.code}: {lines[-1][:300] if lines else 'no message'}"


class Secateur:
    def __init__(self, binary, timeout=600):
        self.binary = binary
        self.timeout = timeout

    def run(self, *arguments, env=None):
        environment = {**os.environ, "NO_COLOR": "1", **(env or {})}
        try:
            done = subprocess.run([self.binary, *arguments], capture_output=True, text=True, errors="replace",
                                  stdin=subprocess.DEVNULL, timeout=self.timeout, env=environment)
        except subprocess.TimeoutExpired:
            return Result(-1, "", f"stopped after {self.timeout} s")
        return Result(done.returncode, done.stdout, done.stderr)
