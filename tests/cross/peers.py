"""Runs onnxsim and onnxslim inside this process' children: the import is paid once, a crash is one result.

This gives the same models as their command lines with default settings; it says nothing about their start-up time.
"""

import contextlib
import os
import signal
import time


def simplify(tool, source, target):
    """One peer on one model, default settings."""
    if tool == "onnxsim":
        import onnx
        import onnxsim

        result, _ = onnxsim.simplify(source)
        try:
            onnx.save(result, target)
        except ValueError:
            onnx.save(result, target, save_as_external_data=True)
    else:
        import onnxslim

        onnxslim.slim(source, target)


def load(tool):
    """Imports a peer once, before the children are made."""
    __import__(tool)


def run(tool, source, target, timeout=240):
    """An error line, or None. The peer must be loaded and must not have run anything in this process."""
    log = target + ".log"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with open(log, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                try:
                    simplify(tool, source, target)
                    status = 0
                except BaseException as error:
                    file.write(f"\n{type(error).__name__}: {error}".replace("\n", " "))
        finally:
            os._exit(status)
    ended = wait(child, timeout)
    text = ""
    if os.path.exists(log):
        with open(log, errors="replace") as file:
            text = ([line.strip() for line in file if line.strip()] or [""])[-1]
        os.remove(log)
    if ended is None:
        return f"stopped after {timeout} s"
    if ended != 0 or not os.path.exists(target):
        return f"exit {ended}: {text[:160]}"
    return None


def wait(child, timeout):
    """The exit status of a child, negative for a signal, or None where it had to be stopped."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
