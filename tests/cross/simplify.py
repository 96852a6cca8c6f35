"""`secateur simplify` on every model: valid, loadable, the same interface, the same numbers, never bigger; a second time it changes no byte.

Default rules may round: outputs agree to 1e-4 of their range. With `--only exact` they are equal bit for bit, in ONNX Runtime
without graph optimisation and on one thread, for two seeded inputs.
"""

import os
import tempfile

import onnx

import corpus
import models
import runtime

SEEDS = (1, 2)


def check(report, secateur):
    chosen = corpus.every_model()
    totals = {"before": 0, "default": 0, "exact": 0}
    for model in chosen:
        if not report.wants(model.name):
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-simplify-") as folder:
            check_model(report, secateur, model, folder, totals)
    report.note(f"nodes: {totals['before']} before, {totals['exact']} with exact rules, {totals['default']} with all default rules")


def check_model(report, secateur, model, folder, totals):
    source = onnx.load(model.path, load_external_data=False)
    fully_valid = is_fully_valid(model.path)
    feeds = [model.inputs(seed) for seed in SEEDS]
    session = runtime.session(model.path)
    expected = [runtime.run(session, feed) for feed in feeds]
    del session
    before = models.count_nodes(source)
    counts = {}
    for mode, flags in (("default", ()), ("exact", ("--only", "exact"))):
        name = f"{model.name} [{mode}]"
        target = os.path.join(folder, f"{mode}.onnx")
        result = secateur.run("simplify", model.path, "-o", target, "--json", *flags)
        if result.code != 0:
            report.failed(name, result.why())
            continue
        problem = examine(model, source, target, fully_valid, mode == "exact", feeds, expected) or again(secateur, target, flags)
        if problem:
            report.failed(name, problem)
            continue
        counts[mode] = models.count_nodes(onnx.load(target, load_external_data=False))
        report.passed(name, f"{before} -> {counts[mode]} nodes")
        os.remove(target)
    if len(counts) == 2:
        totals["before"] += before
        for mode, count in counts.items():
            totals[mode] += count


def again(secateur, path, flags):
    """What a second run changes, or None."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        # Under the same name, so that a file of external data is named alike.
        target = os.path.join(folder, os.path.basename(path))
        result = secateur.run("simplify", path, "-o", target, "--no-verify", "--json", *flags)
        if result.code != 0:
            return "the second time: " + result.why()
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as second, open(os.path.join(os.path.dirname(path), name), "rb") as first:
                if first.read() == second.read():
                    continue
            before, after = (models.operators(onnx.load(file, load_external_data=False)) for file in (path, target))
            changes = {key: after.get(key, 0) - before.get(key, 0) for key in sorted({*before, *after})}
            changes = {key: change for key, change in changes.items() if change}
            return f"a second run changes {name}: {changes or 'no operator, but bytes'}"
    return None


def is_fully_valid(path):
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception:
        return False
    return True


def examine(model, source, target, fully_valid, exact, feeds, expected):
    """The first thing that is wrong with a result, or None."""
    try:
        onnx.checker.check_model(target, full_check=fully_valid)
    except Exception as error:
        return "onnx.checker: " + str(error).strip().splitlines()[0][:200]
    result = onnx.load(target, load_external_data=False)
    if (problem := interface(source, result)) is not None:
        return problem
    allowed = models.total_bytes(model.path, source) + provenance_bytes(result)
    if models.total_bytes(target, result) > allowed:
        return f"{models.total_bytes(target, result)} bytes, more than the {allowed} allowed"
    try:
        session = runtime.session(target)
    except Exception as error:
        return "ONNX Runtime does not load it: " + str(error).strip().splitlines()[0][:200]
    for seed, feed, reference in zip(SEEDS, feeds, expected):
        try:
            found = runtime.run(session, feed)
        except Exception as error:
            return f"seed {seed}: does not run: " + str(error).strip().splitlines()[0][:200]
        difference = runtime.compare(reference, found)
        if exact and not difference.equal:
            return f"seed {seed}: not bit-equal: {difference.reason}"
        if difference.relative > runtime.TOLERANCE and difference.relative > runtime.rounding_allowed(model.path, feed, reference):
            return f"seed {seed}: {difference.reason}"
    return None


def interface(source, result):
    """How the graph's inputs and outputs changed, or None: names, order and types survive."""
    for side in ("input", "output"):
        before = [(value.name, value.type.SerializeToString(deterministic=True)) for value in models.interface(source, side)]
        after = [(value.name, value.type.SerializeToString(deterministic=True)) for value in models.interface(result, side)]
        if [name for name, _ in before] != [name for name, _ in after]:
            return f"{side}s are {[name for name, _ in after]} instead of {[name for name, _ in before]}"
        for (name, left), (_, right) in zip(before, after):
            if left != right:
                return f"the type of {side} {name} changed"
    return None


def provenance_bytes(model):
    """What the recorded provenance adds to the file."""
    entries = [entry for entry in model.metadata_props if entry.key.startswith("secateur.")]
    return sum(entry.ByteSize() + 4 for entry in entries)
