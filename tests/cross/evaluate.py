"""`secateur evaluate` against scikit-learn's figures on the same predictions."""

import os
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper

TOLERANCE = 1e-12


def check(report, secateur):
    try:
        from sklearn import metrics
    except ImportError:
        report.skipped("figures", "scikit-learn is not installed")
        return
    rng = np.random.default_rng(11)
    with tempfile.TemporaryDirectory(prefix="secateur-evaluate-") as folder:
        for number in range(20):
            classes, samples = int(rng.integers(2, 12)), int(rng.integers(3, 200))
            name = f"figures {number}: {samples} samples of {classes} classes"
            if not report.wants(name):
                continue
            scores = rng.normal(0, 1, (samples, classes)).astype(np.float32)
            # Some classes are never predicted, some never true.
            scores[:, rng.integers(classes)] -= 100
            truth = rng.integers(0, max(1, classes - int(rng.integers(0, 3))), samples)
            problem = compare(secateur, metrics, folder, scores, truth)
            (report.failed if problem else report.passed)(name, problem or "")


def compare(secateur, metrics, folder, scores, truth):
    samples, classes = scores.shape
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", classes])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "scores", [x], [y])
    model = os.path.join(folder, "model.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    data = os.path.join(folder, "data.npz")
    np.savez(data, x=scores, y=truth.astype(np.int64))
    result = secateur.run("evaluate", model, "--data", data, "--latency-runs", "0", "--batch", "7", "--json")
    found = result.json()
    if result.code != 0 or not isinstance(found, dict):
        return result.why()
    predicted = scores.argmax(axis=1)
    for average, where in (("macro", found), ("micro", found["micro"]), ("weighted", found["weighted"])):
        wanted = metrics.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)[:3]
        for key, value in zip(("precision", "recall", "f1"), wanted):
            if abs(where[key] - value) > TOLERANCE:
                return f"{average} {key}: {where[key]} instead of {value}"
    if abs(found["accuracy"] - metrics.accuracy_score(truth, predicted)) > TOLERANCE:
        return f"accuracy: {found['accuracy']}"
    table = metrics.confusion_matrix(truth, predicted, labels=list(range(classes)))
    if found["confusion"] != table.tolist():
        return "the confusion table differs"
    if classes > 5:
        top = metrics.top_k_accuracy_score(truth, scores, k=5, labels=list(range(classes)))
        if abs(found["top5"] - top) > TOLERANCE:
            return f"top5: {found['top5']} instead of {top}"
    return None
