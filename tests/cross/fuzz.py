"""Semantic fuzz of `secateur simplify`: seeded random graphs, run before and after in ONNX Runtime without its optimisations.

With `--only exact`, and where only exact rules fired, outputs are equal bit for bit. Otherwise floats differ by no more than rounding
explains, and integers and truth values do not differ at all. What rounding explains is measured: the original with each of its values
scaled by a little, as other orders of the same sums would.

usage: fuzz.py [--secateur BIN] [--count N] [--from SEED] [--seed SEED] [--group K] [--keep FOLDER] [--minutes M]
"""

import argparse
import collections
import concurrent.futures
import multiprocessing
import os
import sys
import tempfile
import time

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

import fuzz_graphs
import fuzz_motifs
import models
import runtime
import tool

IN_CI = 500
BATCH = 50
OPSETS = (7, 8, 9, 11, 13, 13, 15, 17, 18, 18, 20, 21, 23)
# Relative to the largest magnitude of an output.
ROUNDING = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 5e-5, np.dtype(np.float16): 2e-2}
DRAWS = 6
# Rules that keep the order of operations: what they do to infinities is looked at. Others may lose an overflow, and with it all that
# follows from it.
KEEP_ORDER = {
    "add-zero", "clip-then-relu", "relu-then-clip", "min-of-max", "relu-of-nonnegative", "pow-two", "where-true", "where-false", "where-all-true", "where-of-not", "over-ones",
    "over-ones-dropped", "matmul-add", "gemm-add", "transpose-gemm-left", "transpose-gemm-right", "transpose-matmul-left", "transpose-matmul-right", "einsum-matmul", "pad-conv",
    "sum-of-absolutes", "sum-of-squares", "root-of-sum-of-squares", "hard-swish", "mish", "softsign",
}


class Case:
    """A random model with the inputs of each of its cases."""

    def __init__(self, seed, eager):
        rng = np.random.default_rng([7919, seed])
        self.seed = seed
        self.opset = OPSETS[int(rng.integers(len(OPSETS)))]
        g = fuzz_graphs.Graph(rng, self.opset, eager, prefix=f"g{seed}_")
        main = fuzz_graphs.FLOATS[int(rng.choice(3, p=[0.7, 0.15, 0.15]))]
        dims = ("N", "N", "M", 1, 2, 3, 4, 3, 2)
        for _ in range(int(rng.integers(1, 4))):
            dtype = main if rng.random() < 0.75 else fuzz_motifs.choose(rng, (np.int64, np.bool_, np.int32, np.float32, np.int8, np.uint8))
            g.input(dtype, [dims[int(rng.integers(len(dims)))] for _ in range(int(rng.choice(6, p=[0.05, 0.15, 0.25, 0.25, 0.25, 0.05])))])
        if rng.random() < 0.4:
            g.input(main, ["N", 3, 4, 4] if rng.random() < 0.6 else ["N", 2, 3, 4])
        fuzz_motifs.grow(g, int(rng.integers(3, 14)))
        self.model = self.assemble(g, rng)
        self.feeds = [{value.name: value.arrays[case] for value, _ in g.inputs} for case in range(len(g.cases))]
        self.infinite = g.infinite
        self.exact = rng.random() < 0.4

    def assemble(self, g, rng):
        made = {name for node in g.nodes for name in node.output if node.op_type != "Constant"}
        computed = [value for value in g.values if value.name in made]
        read = fuzz_graphs.free_names(g.nodes, set()) - {None}
        outputs = [v for v in computed if v.name not in read]
        extra = [v for v in computed if v.name in read and rng.random() < 0.1]
        outputs = (outputs + extra)[-8:]
        inputs = [helper.make_tensor_value_info(v.name, helper.np_dtype_to_tensor_dtype(v.dtype), dims) for v, dims in g.inputs]
        controlled = {name for node in g.nodes if node.op_type in ("If", "Loop", "Scan") for name in node.output}
        declared = [fuzz_graphs.value_info(v.name, v.arrays) if rng.random() < 0.5 and not controlled else helper.make_tensor_value_info(v.name, helper.np_dtype_to_tensor_dtype(v.dtype), None) for v in outputs]
        graph = helper.make_graph(g.nodes, "fuzz", inputs, declared, g.initializers)
        return helper.make_model(graph, opset_imports=fuzz_graphs.imports(self.opset), ir_version=10, functions=g.functions)


class Group:
    """Graphs side by side in one model: the start of the program is paid once."""

    def __init__(self, cases):
        first = cases[0]
        self.seed, self.opset, self.exact = first.seed, first.opset, first.exact
        self.model = onnx.ModelProto()
        self.model.CopyFrom(first.model)
        for case in cases[1:]:
            for field in ("input", "output", "node", "initializer"):
                getattr(self.model.graph, field).extend(getattr(case.model.graph, field))
            self.model.functions.extend(case.model.functions)
        self.feeds = [{name: array for case in cases for name, array in case.feeds[index].items()} for index in range(len(first.feeds))]
        self.infinite = [any(case.infinite[index] for case in cases) for index in range(len(first.feeds))]


def run(model, feeds):
    """Outputs for each feed, None for one that does not run."""
    session = fuzz_graphs.session(model if isinstance(model, str) else model.SerializeToString())
    found = []
    for feed in feeds:
        try:
            found.append(runtime.run(session, feed))
        except Exception as error:
            found.append(str(error))
    return found


def stage(marker, word):
    with open(marker, "w") as file:
        file.write(word)


def tested(case, secateur, folder, marker, classes):
    """(verdict, details): equal, rounding, explained, skipped or a word for what is wrong; with the rules that fired."""
    if not case.model.graph.output:
        return "skipped", "no outputs", []
    source, target = os.path.join(folder, "source.onnx"), os.path.join(folder, "target.onnx")
    onnx.save(case.model, source)
    stage(marker, "making")
    try:
        reference = run(source, case.feeds)
    except Exception as error:
        return "skipped", "ONNX Runtime refuses the original: " + str(error)[:200], []
    # What `verify` says about such pairs is another question, and that of equal.py.
    result = secateur.run("simplify", source, "-o", target, "--json", "--no-provenance", "--no-verify", *(["--only", "exact"] if case.exact else []))
    if result.code not in (0, 1) or not os.path.exists(target):
        return "refused", result.why(), []
    fired = rules_of(result.json(), classes)
    stage(marker, "judging")
    try:
        found = run(target, case.feeds)
    except Exception as error:
        return "does not load", str(error)[:300], fired
    exact = case.exact or all(word == "exact" for _, word in fired)
    reorders = any(word != "exact" and name not in KEEP_ORDER for name, word in fired)
    worst = "equal"
    for index, (left, right) in enumerate(zip(reference, found)):
        if isinstance(left, str):
            continue
        if isinstance(right, str):
            return "does not run", f"case {index}: {right[:300]}", fired
        if reorders and case.infinite[index]:
            left, right = whole(left), whole(right)
        problem, rounded = compared(left, right, exact and not half(case.model), case.infinite[index])
        if problem and explained(case, index, left, right):
            problem, rounded = None, True
        if problem:
            return "differs", f"case {index}: {problem}", fired
        worst = "rounding" if rounded else worst
    return worst, "", fired


def whole(outputs):
    """Outputs with the same shapes and types, and nothing in them: an infinity on the way may have become a number."""
    return {name: np.zeros_like(np.asarray(array)) for name, array in outputs.items()}


def half(model):
    """Whether a model computes in float16, which ONNX Runtime turns into float and back where it pleases."""
    return any(code == onnx.TensorProto.FLOAT16 for code in element_types(model))


def element_types(model):
    for value in (*model.graph.input, *model.graph.output):
        yield value.type.tensor_type.elem_type
    for graph in models.graphs(model):
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "to":
                    yield attribute.i
        for tensor in graph.initializer:
            yield tensor.data_type


def rules_of(document, classes):
    """(name, safety) of what changed the model."""
    changes = [change["rule"] for step in (document or {}).get("steps", []) for change in step["changes"]]
    return sorted({(name, class_of(name, classes)) for name in changes})


def class_of(name, classes):
    if name in classes:
        return classes[name]
    # Functions of constants are rounded once, kernels round as they please.
    return "rounding" if name.startswith("fold-constants: constant ") else "exact"


def compared(left, right, exact, infinite=False):
    """What is wrong, or None; and whether anything differs. `infinite`: something on the way is, so what is not finite is left open."""
    if list(left) != list(right):
        return f"outputs {list(right)} instead of {list(left)}", True
    rounded = False
    for name in left:
        a, b = np.asarray(left[name]), np.asarray(right[name])
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{name}: {b.dtype}{list(b.shape)} instead of {a.dtype}{list(a.shape)}", True
        if a.tobytes() == b.tobytes():
            continue
        if a.dtype.kind != "f":
            return f"{name}: {a.ravel()[:8]} became {b.ravel()[:8]}", True
        nan = np.isnan(a)
        if (nan == np.isnan(b)).all() and a[~nan].tobytes() == b[~nan].tobytes():
            continue
        rounded = True
        if exact:
            where = np.argwhere(~((a == b) & (np.signbit(a) == np.signbit(b)) | nan & np.isnan(b)))[0]
            return f"{name} at {where.tolist()}: {a[tuple(where)]!r} became {b[tuple(where)]!r}", True
        wrong = beyond(a, b, infinite)
        if wrong is not None:
            return f"{name} at {wrong}: {a[tuple(wrong)]!r} became {b[tuple(wrong)]!r}", True
    return None, rounded


def beyond(a, b, infinite):
    """Where two arrays differ by more than rounding, or None."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x)
    largest = np.abs(x[finite]).max(initial=0.0)
    with np.errstate(all="ignore"):
        close = np.where(finite, np.abs(x - y) <= ROUNDING[a.dtype] * np.maximum(np.abs(x), largest), (x == y) | np.isnan(x) & np.isnan(y))
    close |= infinite & ~(finite & np.isfinite(y))
    return None if close.all() else np.argwhere(~close)[0].tolist()


# Functions that engines compute to an absolute error, not to a share of the result.
ABSOLUTE = ("Div", "Reciprocal", "Log", "Sigmoid", "Tanh", "Erf", "Softmax", "Softplus", "ReduceLogSum", "ReduceLogSumExp")

# What is divided by the root of a variance: where it is none, the rounding of the mean counts by the root of epsilon.
NORMALIZED = ("InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "SkipLayerNormalization")

ABSOLUTE_ERROR = {onnx.TensorProto.FLOAT: 2.0 ** -24, onnx.TensorProto.DOUBLE: 2.0 ** -53}


def explained(case, index, left, right):
    """Whether the original itself, with its values scaled by a little, moves as far."""
    rng = np.random.default_rng([case.seed, index])
    spread = {name: [np.asarray(array)] for name, array in left.items()}
    for _ in range(DRAWS):
        try:
            moved = run(scaled(case.model, rng), [case.feeds[index]])[0]
        except Exception:
            return False
        if isinstance(moved, str):
            continue
        for name in spread:
            spread[name].append(np.asarray(moved[name]))
    for name, arrays in spread.items():
        a, b = arrays[0], np.asarray(right[name])
        if a.dtype != b.dtype:
            return False
        if a.shape != b.shape:
            if all(array.shape == a.shape for array in arrays):
                return False
            continue
        if any(array.shape != a.shape for array in arrays):
            continue
        if a.dtype.kind != "f":
            # A float16 that is compared with itself by two ways may differ in ONNX Runtime: only one of them is rounded.
            if half(case.model):
                continue
            if not np.isin(b != a, [False]).all() and not all(any((b == array).ravel()[i] for array in arrays) for i in np.flatnonzero((b != a).ravel())):
                return False
            continue
        stack = np.stack(arrays).astype(np.float64)
        x, y = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(all="ignore"):
            steady = np.isfinite(stack).all(axis=0)
            room = 20 * np.where(steady, np.abs(stack - stack[0]).max(axis=0), 0) + ROUNDING[a.dtype] * np.maximum(np.abs(x), np.abs(x[np.isfinite(x)]).max(initial=0.0))
            fits = np.where(np.isfinite(x), np.abs(x - y) <= room, (x == y) | np.isnan(x) & np.isnan(y))
            # Where rounding moves a result by half of itself, as next to a pole, no digit of it is known.
            fits |= steady & (np.abs(stack - stack[0]).max(axis=0) >= np.abs(x) / 2) & (x != 0)
            fits |= ~steady & np.isfinite(stack).any(axis=0) | case.infinite[index] & ~(np.isfinite(x) & np.isfinite(y))
        if not fits.all():
            return False
    return True


def scaled(model, rng):
    """The model with every float value of its main graph, and of the functions it calls, times a factor near 1, the same for all
    elements: ties stay ties. Zeros get a sign. What engines compute to an absolute error, as where a sigmoid is all but 0, moves by that."""
    model = onnx.inliner.inline_local_functions(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    types |= {v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    eps = {onnx.TensorProto.FLOAT: 2e-7, onnx.TensorProto.DOUBLE: 4e-16, onnx.TensorProto.FLOAT16: 1.5e-3}
    nodes = []
    outputs = {v.name for v in model.graph.output}
    for node in model.graph.node:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        nodes.append(new)
        for position, name in enumerate(node.output):
            kind = types.get(name)
            if kind not in eps or node.op_type == "Constant":
                continue
            new.output[position] = name + ".raw"
            factor = helper.make_tensor(name + ".factor", kind, [], [1 + eps[kind] * float(rng.integers(-3, 4))])
            copy.graph.initializer.append(factor)
            moved = [helper.make_node("Mul", [name + ".raw", name + ".factor"], [name + ".moved"])]
            if node.op_type in ABSOLUTE + NORMALIZED and kind in ABSOLUTE_ERROR:
                epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
                share = 1 if node.op_type in ABSOLUTE else 1 / np.sqrt(max(epsilon, 1e-12))
                nudge = helper.make_tensor(name + ".nudge", kind, [], [ABSOLUTE_ERROR[kind] * share * float(rng.integers(-1, 2))])
                copy.graph.initializer.append(nudge)
                moved[0].output[0] = name + ".scaled"
                moved.append(helper.make_node("Add", [name + ".scaled", name + ".nudge"], [name + ".moved"]))
            nodes.extend(moved)
            if model.opset_import[0].version < 11:
                # Equal takes no floats yet.
                moved[-1].output[0] = name
                continue
            zero = helper.make_tensor(name + ".zero", kind, [], [float(rng.choice([0.0, -0.0]))])
            copy.graph.initializer.append(zero)
            nodes.append(helper.make_node("Equal", [name + ".moved", name + ".zero"], [name + ".none"]))
            nodes.append(helper.make_node("Where", [name + ".none", name + ".zero", name + ".moved"], [name]))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    assert outputs == {v.name for v in copy.graph.output}
    return copy


def batch(job):
    """Seeds in one process: (seed, verdict, details, fired, operators) each. The stage is left in a file for the case that it dies."""
    binary, keep, size, seeds, marker = job
    eager = fuzz_graphs.Eager()
    secateur = tool.Secateur(binary, timeout=120)
    found = []
    classes = {rule["name"]: rule["safety"] for rule in secateur.run("rules", "list", "--json").json()["rules"]}
    with tempfile.TemporaryDirectory(prefix="secateur-fuzz-") as folder:
        stage(marker, "making")
        cases = [Case(seed, eager) for seed in seeds]
        single = []
        for together in grouped(cases, size):
            verdict = judged(Group(together), secateur, folder, marker, classes)[0] if len(together) > 1 else "alone"
            if verdict in ("equal", "rounding"):
                found.extend((case.seed, verdict, "", [], kinds_of(case)) for case in together)
            else:
                single.extend(together)
        for case in single:
            verdict, details, fired = judged(case, secateur, folder, marker, classes)
            if keep and verdict not in GOOD:
                keep_case(case, folder, os.path.join(keep, str(case.seed)))
            found.append((case.seed, verdict, details, fired, kinds_of(case)))
    return found


def judged(case, secateur, folder, marker, classes):
    for name in ("source.onnx", "target.onnx"):
        if os.path.exists(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name))
    return tested(case, secateur, folder, marker, classes)


def grouped(cases, size):
    """Cases of one opset and mode, so many at a time; those without outputs are alone."""
    kinds = collections.defaultdict(list)
    for case in cases:
        kinds[(case.opset, case.exact) if case.model.graph.output else case.seed].append(case)
    for members in kinds.values():
        yield from (members[at:at + size] for at in range(0, len(members), size))


def kinds_of(case):
    return sorted({node.op_type for node in models.nodes(case.model)})


def keep_case(case, folder, target):
    os.makedirs(target, exist_ok=True)
    for name in ("source.onnx", "target.onnx"):
        if os.path.exists(os.path.join(folder, name)):
            os.replace(os.path.join(folder, name), os.path.join(target, name))
    for index, feed in enumerate(case.feeds):
        np.savez(os.path.join(target, f"case{index}.npz"), **feed)
    with open(os.path.join(target, "mode.txt"), "w") as file:
        file.write("exact" if case.exact else "default")


GOOD = ("equal", "rounding", "skipped")


def isolated(work, arguments, seeds, size, minutes=None):
    """Calls `work((*arguments, seeds, marker))` for so many seeds at a time in child processes, so that an engine that dies ends one
    of them; yields its results and None, or a seed that ends the process and the stage it had reached."""
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    seeds = list(seeds)
    groups = [seeds[at:at + size] for at in range(0, len(seeds), size)]
    marker = os.path.join(tempfile.gettempdir(), f"secateur-fuzz-{os.getpid()}.stage")
    while groups:
        group = groups.pop(0)
        if minutes and time.monotonic() - start > 60 * minutes:
            return
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                results = pool.submit(work, (*arguments, group, marker)).result(timeout=60 + 30 * len(group))
            except concurrent.futures.process.BrokenProcessPool:
                results = None
        if results is not None:
            yield results, None
        elif len(group) > 1:
            groups[:0] = [group[:len(group) // 2], group[len(group) // 2:]]
        else:
            with open(marker) as file:
                yield group[0], file.read()


def campaign(binary, seeds, keep=None, minutes=None, size=1):
    """Runs seeds in child processes; yields results."""
    for results, reached in isolated(batch, (binary, keep, size), seeds, BATCH if size == 1 else 8 * BATCH, minutes):
        if reached is None:
            yield from results
        else:
            # What ends the process on the original is ONNX Runtime's own fault.
            yield results, "the engine died" if reached == "judging" else "skipped", "ONNX Runtime ended the process", [], []


def check(report, secateur, seeds=range(IN_CI), keep=None, minutes=None, size=1):
    counts, rules, operators = collections.Counter(), collections.Counter(), collections.Counter()
    for seed, verdict, details, fired, kinds in campaign(secateur.binary, seeds, keep, minutes, size):
        counts[verdict] += 1
        rules.update(name for name, _ in fired)
        operators.update(kinds)
        if verdict in ("skipped", "refused"):
            # A refusal writes nothing that could be wrong; the note counts them.
            report.skipped(f"seed {seed}", f"{verdict}: {details}")
        elif verdict in GOOD:
            report.passed(f"seed {seed}", verdict)
        else:
            report.failed(f"seed {seed}", f"{verdict}: {details} (rules: {', '.join(name for name, _ in fired) or 'none'})")
    report.note(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    report.note(f"{len(operators)} operators, {len(rules)} rules and passes")
    if len(operators) < 60 and len(list(seeds)) >= IN_CI:
        report.failed("operators", f"only {len(operators)} of at least 60 operators stand in the graphs")
    return counts, rules, operators


def main():
    import run as runner

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur")
    parser.add_argument("--count", type=int, default=IN_CI)
    parser.add_argument("--from", type=int, default=0, dest="start")
    parser.add_argument("--seed", type=int, help="this graph only")
    parser.add_argument("--group", type=int, default=1, help="graphs in one model")
    parser.add_argument("--keep", help="a folder for the models that fail")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    binary = tool.find(args.secateur)
    report = runner.Report("", args.verbose)
    report.check = "fuzz"
    seeds = [args.seed] if args.seed is not None else range(args.start, args.start + args.count)
    _, rules, operators = check(report, tool.Secateur(binary), seeds, args.keep, args.minutes, args.group)
    if args.verbose:
        print("rules:", dict(rules.most_common()))
        print("operators:", dict(operators.most_common()))
    print(", ".join(f"{count} {word}" for word, count in report.counts.items()))
    return 1 if report.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
