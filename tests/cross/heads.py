"""Features and linear heads against ONNX Runtime and scikit-learn.

* `features`: the numbers are those of the value in ONNX Runtime, the labels those of the data.
* `transfer features --head`: a model cut in two is whole again.
* `transfer features` against scikit-learn on the same standardised features: the scores of a ridge head are those of its ridge classifier;
  a logistic head reaches at least as low a value of what logistic regression minimises, as numpy adds it up. The accuracy of either on
  other samples is within half a point of scikit-learn's.

Models: the fixtures' digits; with a corpus LeNet-5 on MNIST and EfficientNet-Lite0 on digits drawn as 224x224 images
(SECATEUR_CROSS_LARGE=1: more of them).
"""

import os
import tempfile

import numpy as np
import onnx
import onnx.utils
import onnxruntime
from onnx import numpy_helper
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import corpus
import runtime
import tool

# Accuracy may differ from scikit-learn's by this much.
POINTS = 0.005
# Scores of ridge may differ by this share of their range, the minimum of logistic regression by this share of itself.
SCORES = 1e-4
MINIMUM = 1e-5


class Set:
    """Training and test samples as arrays of what the model takes, and as npz files that describe it."""

    def __init__(self, name, model, at, preprocess, train, test, plain, slow=False, halves=None):
        # Where the model falls in two parts.
        self.halves = halves or at
        self.slow = slow
        self.name = name
        self.model = model
        self.at = at
        self.preprocess = preprocess
        self.train = train
        self.test = test
        self.plain = plain


def check(report, secateur):
    library = tool.onnxruntime_library()
    if library is None:
        report.skipped("heads", "there is no ONNX Runtime library")
        return
    environment = {"ORT_DYLIB_PATH": library}
    for make in (digits, mnist, drawn_digits):
        name = make.__name__
        if not report.wants(name):
            continue
        chosen = make()
        if chosen is None:
            report.skipped(name, "there is no corpus")
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-heads-") as folder:
            check_set(report, secateur, chosen, folder, environment)


def digits():
    whole = np.load(os.path.join(corpus.FIXTURES, "data", "digits_test.npz"))
    x, y = whole["x"].astype(np.float32), whole["y"].astype(np.int64)
    half = len(y) // 2
    model = os.path.join(corpus.FIXTURES, "digits_cnn.onnx")
    return Set("digits_cnn", model, "auto", None, (x[:half], y[:half]), (x[half:], y[half:]), lambda pixels: pixels)


def mnist():
    if not corpus.folder():
        return None
    whole = np.load(os.path.join(corpus.folder(), "data", "mnist_u8.npz"))
    train = whole["x_train"][:600][:, None], whole["y_train"][:600].astype(np.int64)
    test = whole["x_test"][:600][:, None], whole["y_test"][:600].astype(np.int64)
    model = os.path.join(corpus.folder(), "models", "trained", "lenet5_mnist.onnx")
    # The pooled feature maps, which are no flat value.
    at = onnx.load(model).graph.node[4].input[0]
    return Set("lenet5_mnist", model, at, "mnist", train, test, lambda pixels: ((pixels / 255 - 0.1307) / 0.3081).astype(np.float32))


def drawn_digits():
    if not corpus.folder():
        return None
    whole = np.load(os.path.join(corpus.FIXTURES, "data", "digits_test.npz"))
    x, y = whole["x"].reshape(-1, 8, 8), whole["y"].astype(np.int64)
    x = (x * (255 / x.max())).astype(np.uint8)
    images = np.repeat(np.kron(x, np.ones((1, 28, 28), np.uint8))[:, None], 3, axis=1)
    count = (398, 202) if os.environ.get("SECATEUR_CROSS_LARGE") == "1" else (100, 60)
    train = images[:count[0]], y[:count[0]]
    test = images[count[0]:sum(count)], y[count[0]:sum(count)]
    model = os.path.join(corpus.folder(), "models", "pretrained", "efficientnet_lite0.onnx")
    at = "/_avg_pooling/GlobalAveragePool_output_0"
    return Set("efficientnet_lite0", model, at, "efficientnet-lite", train, test, lambda pixels: ((pixels - 127.0) / 128).astype(np.float32), slow=True,
               halves="/Reshape_output_0")


def describe(folder, name, samples, chosen):
    """An npz file with its description."""
    data = os.path.join(folder, name + ".npz")
    np.savez(data, x=samples[0], y=samples[1])
    spec = os.path.join(folder, name + ".yaml")
    with open(spec, "w") as file:
        file.write(f"npz: {data}\nlabels: y\nbatch: 16\n")
        if chosen.preprocess:
            file.write(f"preprocess: {chosen.preprocess}\n")
    return spec


def in_batches(session, x):
    name = session.get_inputs()[0].name
    fixed = session.get_inputs()[0].shape[0]
    size = fixed if isinstance(fixed, int) else 32
    return np.concatenate([session.run(None, {name: x[at:at + size]})[0] for at in range(0, len(x), size)])


def check_set(report, secateur, chosen, folder, environment):
    train, test = describe(folder, "train", chosen.train, chosen), describe(folder, "test", chosen.test, chosen)
    stored = {}
    for name, spec in (("train", train), ("test", test)):
        out = os.path.join(folder, name + "_features.npz")
        result = secateur.run("features", chosen.model, "--at", chosen.at, "--data", spec, "-o", out, "--engine", "ort", "--json",
                              env=environment)
        if result.code != 0:
            report.failed(f"{chosen.name} features", result.why())
            return
        stored[name], value = np.load(out), result.json()["value"]
    problem = wrong_features(chosen, stored, value)
    (report.failed if problem else report.passed)(f"{chosen.name} features", problem or f"{stored['train']['features'].shape} at {value}")
    problem = attached(secateur, chosen, folder)
    (report.failed if problem else report.passed)(f"{chosen.name} attached", problem or "")
    large = os.environ.get("SECATEUR_CROSS_LARGE") == "1"
    peers = (("logistic", LogisticRegression(C=1.0, max_iter=1000)), ("ridge", RidgeClassifier(alpha=1.0)))
    for method, peer in peers if large or not chosen.slow else peers[:1]:
        name = f"{chosen.name} {method}"
        problem, note = check_head(secateur, chosen, folder, environment, train, test, stored, method, peer)
        (report.failed if problem else report.passed)(name, problem or note)
        if not problem:
            report.note(f"{name}: {note}")


def attached(secateur, chosen, folder):
    """The model cut in two by onnx.utils and put together again, twice: both outputs are the model's own, to the bit."""
    source = onnx.load(chosen.model)
    value = chosen.halves if chosen.halves != "auto" else next(node.input[0] for node in reversed(source.graph.node) if node.op_type in ("Gemm", "MatMul"))
    head, out = os.path.join(folder, "head.onnx"), os.path.join(folder, "attached.onnx")
    onnx.utils.extract_model(chosen.model, head, [value], [source.graph.output[0].name])
    result = secateur.run("transfer", "features", chosen.model, "--at", value, "--head", head, "--head", head, "-o", out)
    if result.code != 0:
        return result.why()
    onnx.checker.check_model(out, full_check=True)
    feeds = {source.graph.input[0].name: chosen.plain(chosen.train[0][:1])}
    expected = list(runtime.run(runtime.session(chosen.model), feeds).values())
    found = list(runtime.run(runtime.session(out), feeds).values())
    if len(found) != 2 or not all(runtime.same_bits(expected[0], other) for other in found):
        return f"{len(found)} outputs, which are not those of the model"
    if os.path.getsize(out) > 1.02 * os.path.getsize(chosen.model) + 4096:
        return f"{os.path.getsize(out)} bytes: weights of the heads are stored twice"
    return None


def wrong_features(chosen, stored, value):
    source = onnx.load(chosen.model)
    if value not in [output.name for output in source.graph.output]:
        del source.graph.output[:]
        source.graph.output.append(onnx.ValueInfoProto(name=value))
    session = runtime.session(source.SerializeToString())
    few = slice(0, 10)
    reference = in_batches(session, chosen.plain(chosen.train[0][few])).reshape(10, -1)
    found = stored["train"]["features"]
    if found.shape[0] != len(chosen.train[1]) or found.dtype != np.float32:
        return f"{found.dtype}{list(found.shape)}"
    if not np.array_equal(stored["train"]["labels"], chosen.train[1]) or not np.array_equal(stored["test"]["labels"], chosen.test[1]):
        return "other labels than the data's"
    error = np.abs(found[few] - reference).max() / np.abs(reference).max()
    return f"features differ by {error:.2g} of their range" if error > 1e-4 else None


def minimised(scores, labels, weights):
    """What logistic regression with C = 1 minimises."""
    scores = scores - scores.max(axis=1, keepdims=True)
    return (np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]).sum() + (weights ** 2).sum() / 2


def check_head(secateur, chosen, folder, environment, train, test, stored, method, peer):
    out = os.path.join(folder, method + ".onnx")
    result = secateur.run("transfer", "features", chosen.model, "--at", chosen.at, "--method", method, "--data", "training=" + train,
                          "-o", out, "--engine", "ort", "--json", env=environment)
    if result.code != 0:
        return result.why(), None
    onnx.checker.check_model(out, full_check=True)
    session = runtime.session(out, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    if [value.name for value in session.get_outputs()] != ["scores"]:
        return f"outputs are {[value.name for value in session.get_outputs()]}", None
    scores = in_batches(session, chosen.plain(chosen.test[0]))
    features, labels = stored["train"]["features"].astype(np.float64), stored["train"]["labels"]
    estimator = make_pipeline(StandardScaler(), peer).fit(features, labels)
    expected = estimator.decision_function(stored["test"]["features"].astype(np.float64))
    if method == "ridge":
        error = np.abs(scores - expected).max() / np.abs(expected).max()
        if error > SCORES:
            return f"scores differ from scikit-learn's by {error:.2g} of their range", None
        said = f"scores within {error:.1g}"
    else:
        weights = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in onnx.load(out).graph.initializer}
        deviation = estimator[0].scale_
        own = minimised(features @ weights["scores.weight"].T + weights["scores.bias"], labels, weights["scores.weight"] * deviation)
        other = minimised(estimator.decision_function(features), labels, estimator[1].coef_)
        if own > other * (1 + MINIMUM):
            return f"minimum {own:.6f}, scikit-learn's is {other:.6f}", None
        said = f"minimum {own:.5f}, scikit-learn's {other:.5f}"
    truth = chosen.test[1]
    own, other = float((scores.argmax(axis=1) == truth).mean()), float((expected.argmax(axis=1) == truth).mean())
    if own < other - POINTS:
        return f"accuracy {own:.4f}, scikit-learn's is {other:.4f}", None
    if chosen.slow:
        return None, f"accuracy {own:.4f}, scikit-learn's {other:.4f}, {said}"
    judged = secateur.run("evaluate", out, "--data", test, "--engine", "ort", "--json", env=environment)
    if judged.code != 0:
        return judged.why(), None
    if abs(judged.json()["accuracy"] - own) > 0.5 / len(truth):
        return f"evaluate says {judged.json()['accuracy']}, numpy {own}", None
    return None, f"accuracy {own:.4f}, scikit-learn's {other:.4f}, {said}"
