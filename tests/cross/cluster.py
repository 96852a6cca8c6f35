"""Weights that share values: in ONNX Runtime the model computes what the float model computes whose weights numpy has replaced by the values
that their codes stand for, and k-means of scikit-learn with ten starts finds no values with a smaller error. Zeros stay zeros, bits keep
their mean, and `simplify` leaves the codes alone.
"""

import math
import os
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from sklearn.cluster import KMeans

import corpus
import runtime

FIXTURES = ("digits_cnn.onnx", "digits_gru.onnx", "digits_vit.onnx", "resnet8_cifar10_bn.onnx")
CORPUS = ("models/trained/lenet5_mnist.onnx", "models/trained/lenet_300_100_mnist.onnx")
# Options, and how many values a weight has at most; None where that differs from weight to weight.
CASES = (
    (("--bits", "1"), 2),
    (("--bits", "4"), 16),
    (("--bits", "4", "--codes", "uint4"), 16),
    (("--bits", "6", "--initialisation", "density"), 64),
    (("--bits", "3.5"), None),
)
SAMPLES = 32
# Elements of a weight that scikit-learn takes seconds for.
MOST = 2_500
# Its values are float32 for ours, and both stop somewhere.
SLACK = 1e-4


def check(report, secateur):
    root = corpus.folder()
    paths = [os.path.join(corpus.FIXTURES, name) for name in FIXTURES]
    paths += [os.path.join(root, path) for path in CORPUS] if root else []
    with tempfile.TemporaryDirectory(prefix="secateur-cluster-") as folder:
        for path in paths:
            for options, values in CASES:
                name = f"{os.path.basename(path)} {' '.join(options)}"
                if report.wants(name):
                    said(report, name, check_model(secateur, folder, path, options, values))
            name = f"{os.path.basename(path)} zeros"
            if report.wants(name):
                said(report, name, check_zeros(secateur, folder, path))
        name = "lenet_300_100_mnist.onnx --weighting gram"
        if report.wants(name):
            if root:
                said(report, name, check_gram(secateur, folder, os.path.join(root, CORPUS[1])))
            else:
                report.skipped(name, "the corpus is not there")


def said(report, name, problem):
    if problem:
        report.failed(name, problem)
    else:
        report.passed(name)


def simplified(secateur, folder, path):
    plain = os.path.join(folder, "plain.onnx")
    done = secateur.run("simplify", path, "-o", plain, "--force", "--no-verify", "--allow-unchanged")
    return plain, None if done.code == 0 else done.why()


def clustered(secateur, plain, folder, *options):
    target = os.path.join(folder, "clustered.onnx")
    done = secateur.run("cluster", plain, "-o", target, "--no-verify", "--force", "--json", *options)
    if done.code != 0:
        return None, done.why()
    onnx.checker.check_model(target, full_check=True)
    return target, None


def lookups(model):
    """By the name of each weight that is looked up: its codes and the values, as arrays. Main graph alone."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    found = {}
    for node in model.graph.node:
        cast = made.get(node.input[1]) if node.op_type == "Gather" and node.input[0] in constants else None
        if cast is None or cast.op_type != "Cast" or cast.input[0] not in constants:
            continue
        codes, book = constants[cast.input[0]], constants[node.input[0]]
        if codes.data_type in (onnx.TensorProto.UINT8, onnx.TensorProto.UINT4):
            found[node.output[0]] = (numpy_helper.to_array(codes).astype(np.int64), numpy_helper.to_array(book))
    return found


def replaced(model, found):
    """The model with the values as float weights; the weights that it had."""
    floats = onnx.ModelProto()
    floats.CopyFrom(model)
    before = {}
    for tensor in floats.graph.initializer:
        if tensor.name in found:
            codes, book = found[tensor.name]
            before[tensor.name] = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(book[codes], tensor.name))
    return floats, before


def feeds(model):
    entry = model.graph.input[0]
    shape = [dim.dim_value or SAMPLES for dim in entry.type.tensor_type.shape.dim]
    return {entry.name: np.random.default_rng(5).standard_normal(shape).astype(np.float32)}


def check_model(secateur, folder, path, options, values):
    plain, problem = simplified(secateur, folder, path)
    if problem:
        return problem
    target, problem = clustered(secateur, plain, folder, *options)
    if problem:
        return problem
    if os.path.getsize(target) >= os.path.getsize(plain):
        return f"{os.path.getsize(target)} bytes, {os.path.getsize(plain)} before"
    model, found = onnx.load(plain), lookups(onnx.load(target))
    floats, before = replaced(model, found)
    if not found or set(before) != set(found):
        return f"weights {sorted(found)} are looked up, of which {sorted(before)} were weights before"
    feed = feeds(model)
    expected = runtime.run(runtime.session(floats.SerializeToString()), feed)
    for level in (onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
        difference = runtime.compare(expected, runtime.run(runtime.session(target, level), feed))
        if difference.relative > runtime.TOLERANCE:
            return f"differs from the floats that numpy put in by {difference.relative:.1e} at {level}"
        if level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL and not difference.equal:
            return f"differs from the floats that numpy put in by {difference.relative:.1e}, and not by rounding of optimisations"
    # Starts other than the exact one end where k-means ends.
    problem = None if "--initialisation" in options else errors(found, before, values)
    if problem:
        return problem
    spent = sum(codes.size * math.ceil(math.log2(max(book.size, 2))) for codes, book in found.values())
    mean = spent / sum(codes.size for codes, _ in found.values())
    if mean > float(options[1]):
        return f"{mean:.3f} bits a weight"
    again = os.path.join(folder, "again.onnx")
    done = secateur.run("simplify", target, "-o", again, "--force", "--no-verify", "--allow-unchanged", "--max-growth", "100")
    if done.code != 0:
        return done.why()
    if set(lookups(onnx.load(again))) != set(found):
        return "simplify folded codes"
    return None


def errors(found, before, values):
    """Whether scikit-learn finds values with a smaller error."""
    for name, (codes, book) in found.items():
        weight, count = before[name].astype(np.float64), values or book.size
        if book.size > count:
            return f"{name}: {book.size} values"
        lost = ((book[codes] - weight) ** 2).sum()
        dense = weight[weight != 0].reshape(-1, 1)
        count -= dense.size < weight.size
        if weight.size > MOST or len(np.unique(dense)) <= count:
            continue
        other = KMeans(count, n_init=10, random_state=0, tol=0).fit(dense).inertia_
        if lost > other * (1 + SLACK):
            return f"{name}: {lost:.6g} is lost with {count} values, {other:.6g} by scikit-learn"
    return None


def check_zeros(secateur, folder, path):
    plain, problem = simplified(secateur, folder, path)
    if problem:
        return problem
    pruned = os.path.join(folder, "pruned.onnx")
    done = secateur.run("prune-weights", plain, "--sparsity", "0.6", "-o", pruned, "--force", "--no-verify")
    if done.code != 0:
        return done.why()
    target, problem = clustered(secateur, pruned, folder, "--bits", "3")
    if problem:
        return problem
    found = lookups(onnx.load(target))
    _, before = replaced(onnx.load(pruned), found)
    for name, (codes, book) in found.items():
        if ((book[codes] == 0) != (before[name] == 0)).any():
            return f"{name}: other weights are zero than before"
    return None if found else "no weight shares values"


def check_gram(secateur, folder, path):
    plain, problem = simplified(secateur, folder, path)
    if problem:
        return problem
    model = onnx.load(plain)
    feed, data = feeds(model), os.path.join(folder, "data.npz")
    np.savez(data, **feed)
    target, problem = clustered(secateur, plain, folder, "--bits", "3", "--weighting", "gram", "--data", f"calibration={data}")
    if problem:
        return problem
    found = lookups(onnx.load(target))
    _, before = replaced(model, found)
    layers = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul") and node.input[1] in found]
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    known = {value.name for value in [*wide.graph.input, *wide.graph.output]}
    for node in layers:
        if node.input[0] not in known:
            wide.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.input[0]))
    rows = {**feed, **runtime.run(runtime.session(wide.SerializeToString()), feed)}
    for node in layers:
        codes, book = found[node.input[1]]
        weight = before[node.input[1]].astype(np.float64)
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        square = (rows[node.input[0]].reshape(-1, weight.shape[1 if turned else 0]).astype(np.float64) ** 2).mean(0)
        importance = np.broadcast_to(square if turned else square[:, None], weight.shape)
        importance = np.maximum(importance, 1e-6 * importance.mean())
        lost = (importance * (book[codes] - weight) ** 2).sum()
        plain_values = KMeans(book.size, n_init=3, random_state=0, tol=0)
        other = plain_values.fit(weight.reshape(-1, 1), sample_weight=importance.reshape(-1)).inertia_
        if lost > other * (1 + 1e-3):
            return f"{node.input[1]}: {lost:.6g} is lost, {other:.6g} by scikit-learn"
    return None if layers else "no layer"
