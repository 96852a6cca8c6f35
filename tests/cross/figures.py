"""The figures of tasks against those who own them: pycocotools for boxes and keypoints, on random sets and on a real detector; numpy,
scipy, scikit-learn and jiwer for masks, vectors, texts and tokens.

A random set is a COCO file and an npz of detections; the model under test hands its input on, so that `layout: rows` reads exactly
those detections and only matching, precision and recall are judged.
"""

import json
import os
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper

import figures_sets as sets
import figures_tasks as tasks

SEEDS = int(os.environ.get("SECATEUR_CROSS_SETS", "3"))
# Corners, score and class, and behind them three numbers a keypoint.
ROWS = 6


def rows_model(path):
    """A model that answers what it is given: rows of boxes, one image at a time."""
    shape = [1, "rows", "columns"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["detections"], ["found"])],
        "rows",
        [helper.make_tensor_value_info("detections", TensorProto.DOUBLE, shape)],
        [helper.make_tensor_value_info("found", TensorProto.DOUBLE, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def written(folder, truth, detections):
    """The files of a set: COCO JSON, and an array with as many rows an image as the most has; rows without a box have class -1."""
    labels = os.path.join(folder, "truth.json")
    with open(labels, "w") as file:
        json.dump(truth, file)
    ids = sorted(image["id"] for image in truth["images"])
    by_image = {image: [] for image in ids}
    for found in detections:
        left, top, width, height = found.get("bbox", (0.0, 0.0, 0.0, 0.0))
        row = [left, top, left + width, top + height, found["score"], found["category_id"], *found.get("keypoints", [])]
        by_image[found["image_id"]].append(row)
    most = max(1, max(len(rows) for rows in by_image.values()))
    width = max([ROWS, *(len(row) for rows in by_image.values() for row in rows)])
    array = np.full((len(ids), most, width), -1.0)
    for at, image in enumerate(ids):
        for row, values in enumerate(by_image[image]):
            array[at, row] = values
    data = os.path.join(folder, "found.npz")
    np.savez(data, detections=array)
    return labels, data


def described(labels, data, kind):
    boxes = {"layout": "rows"}
    task = "detection"
    if kind in sets.KEYPOINT_KINDS:
        boxes |= {"columns": {"keypoints": [ROWS]}, "keypoint-values": 3}
        task = "keypoints"
    return json.dumps({"npz": data, "labels": labels, "task": task, "boxes": boxes})


def corners_round_trip(detections):
    """Widths as they come back from corners, so that both sides see the same numbers."""
    for found in detections:
        # Objects that are keypoints have no box, and their size is what the keypoints reach.
        if "bbox" not in found:
            continue
        left, top, width, height = found["bbox"]
        right, bottom = left + width, top + height
        found["bbox"] = [left, top, right - left, bottom - top]
        if "area" in found:
            found["area"] = found["bbox"][2] * found["bbox"][3]
    return detections


def run_json(secateur, arguments):
    result = secateur.run(*arguments, "--json")
    found = result.json()
    if result.code != 0 or not isinstance(found, dict):
        raise RuntimeError(result.why())
    return found


def compare(report, name, expected, found, tolerance=1e-9):
    wrong = []
    for figure, value in expected.items():
        own = found.get(figure)
        if value is None or own is None:
            if value is not own:
                wrong.append(f"{figure} is {own}, not {value}")
        elif abs(own - value) > tolerance:
            wrong.append(f"{figure} is {own!r}, not {value!r}")
    if wrong:
        report.failed(name, "; ".join(wrong[:4]))
    else:
        report.passed(name)


def check_random(report, secateur, model, seed, kind):
    name = f"boxes {kind} {seed}"
    if not report.wants(name):
        return
    rng = np.random.default_rng(seed)
    truth, detections = sets.random_set(rng, kind)
    detections = corners_round_trip(detections)
    expected = sets.coco_figures(truth, detections, sets.iou_type(kind))
    with tempfile.TemporaryDirectory() as folder:
        labels, data = written(folder, truth, detections)
        data = described(labels, data, kind)
        found = run_json(secateur, ["evaluate", model, "--data", data, "--latency-runs", "0"])
        compare(report, name, expected, found["task"]["figures"])
        # Four parts add up to the whole, to the byte.
        whole, parts = os.path.join(folder, "whole.json"), []
        run_json(secateur, ["evaluate", model, "--data", data, "--latency-runs", "0", "--state", whole])
        for part in range(4):
            state = os.path.join(folder, f"part{part}.json")
            run_json(
                secateur,
                ["evaluate", model, "--data", data, "--latency-runs", "0", "--shard", f"{part}/4", "--state", state],
            )
            parts.append(state)
        merged = os.path.join(folder, "merged.json")
        run_json(secateur, ["evaluate", "merge", *parts[::-1], "--state", merged])
        with open(whole, "rb") as a, open(merged, "rb") as b:
            if a.read() != b.read():
                report.failed(f"{name} merged", "four shards merged are not the state of one run")
            else:
                report.passed(f"{name} merged")


# How nanodet_m is read: strides, anchor points in the middle of cells, distances as distributions, scores with the sigmoid applied.
STRIDES = (8, 16, 32)
SCORE, NMS, MOST = 0.05, 0.6, 100
MEAN, STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])


def letterboxed(path, side):
    """BGR pixels in the middle of a square, with the factor and the margins."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    factor = side / max(image.size)
    width, height = (max(1, round(edge * factor)) for edge in image.size)
    pixels = np.asarray(image.resize((width, height), Image.BILINEAR), dtype=np.float64)[:, :, ::-1]
    left, top = (side - width) // 2, (side - height) // 2
    canvas = np.zeros((side, side, 3))
    canvas[top : top + height, left : left + width] = pixels
    values = ((canvas - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
    return values, (width / image.size[0], height / image.size[1]), (left, top), image.size


def overlaps(box, others):
    wide = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    high = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    both = np.maximum(wide, 0) * np.maximum(high, 0)
    area = lambda b: (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    return both / np.maximum(area(box) + area(others) - both, 1e-12)


def nanodet_boxes(outputs, side):
    """Corners in pixels of the input, and the scores of each class."""
    corners, scores = [], []
    for at, stride in enumerate(STRIDES):
        cells = -(-side // stride)
        grid = (np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2) + 0.5) * stride
        logits = outputs[at + 3][0].astype(np.float64).reshape(len(grid), 4, -1)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        distance = shares @ np.arange(shares.shape[-1]) * stride
        corners.append(np.concatenate([grid - distance[:, :2], grid + distance[:, 2:]], 1))
        scores.append(outputs[at][0])
    return np.concatenate(corners), np.concatenate(scores)


def nanodet_found(session, path, image_id, side=416):
    values, factors, margins, size = letterboxed(path, side)
    corners, scores = nanodet_boxes(session.run(None, {session.get_inputs()[0].name: values}), side)
    corners = (corners - np.tile(margins, 2)) / np.tile(factors, 2)
    corners = np.clip(corners, 0, np.tile(size, 2))
    kept = []
    for category in range(scores.shape[1]):
        order = np.flatnonzero(scores[:, category] >= SCORE)
        order = order[np.argsort(-scores[order, category], kind="stable")]
        while len(order):
            best, rest = order[0], order[1:]
            kept.append((scores[best, category], category, corners[best]))
            order = rest[overlaps(corners[best], corners[rest]) <= NMS]
    kept.sort(key=lambda found: -found[0])
    return [
        {
            "image_id": image_id,
            "category_id": category,
            "score": float(score),
            "bbox": [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
        }
        for score, category, box in kept[:MOST]
    ]


def check_detector(report, secateur):
    """nanodet_m on the evaluation images: the same mean average precision as a decoder in numpy on ONNX Runtime, but for resizing."""
    name = "nanodet_m"
    corpus = os.environ.get("SECATEUR_CORPUS")
    if not report.wants(name):
        return
    if not corpus:
        report.skipped(name, "SECATEUR_CORPUS is not set")
        return
    import onnxruntime

    model = os.path.join(corpus, "models/real/github-nanodet/nanodet_m.onnx")
    folder = os.path.join(corpus, "data/coco/evaluation")
    labels = folder + ".json"
    with open(labels) as file:
        truth = json.load(file)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    detections = [
        found
        for image in sorted(truth["images"], key=lambda image: image["id"])
        for found in nanodet_found(session, os.path.join(folder, image["file_name"]), image["id"])
    ]
    expected = sets.coco_figures(truth, detections, "bbox")
    data = json.dumps({"images": {"folder": folder}, "labels": labels, "preprocess": "nanodet"})
    found = run_json(secateur, ["evaluate", model, "--data", data, "--latency-runs", "0"])["task"]["figures"]
    note = ", ".join(f"{figure} {found[figure]:.4f} (numpy {expected[figure]:.4f})" for figure in ("map", "map50"))
    far = [figure for figure in ("map", "map50") if abs(found[figure] - expected[figure]) > 0.006]
    (report.failed if far else report.passed)(name, note)


def check_task(report, secateur, task, seed):
    name = f"{task} {seed}"
    if not report.wants(name):
        return
    try:
        arrays, files, description, expected = tasks.TASKS[task](np.random.default_rng(seed))
    except ImportError as error:
        report.skipped(name, f"{error.name} is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "echo.onnx")
        echo_model(model, arrays["x"])
        np.savez(os.path.join(folder, "data.npz"), **arrays)
        for file, content in files.items():
            with open(os.path.join(folder, file), "w") as target:
                target.write(content)
        data = os.path.join(folder, "data.yaml")
        with open(data, "w") as file:
            json.dump({"npz": "data.npz", "inputs": {"x": "x"}, **description}, file)
        found = run_json(secateur, ["evaluate", model, "--data", data, "--latency-runs", "0", "--batch", "2"])
        compare(report, name, expected, found["task"]["figures"])


def echo_model(path, answers):
    """A model that hands its input on, batch by batch."""
    shape = ["samples", *answers.shape[1:]]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "echo",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def check(report, secateur):
    for task in tasks.TASKS:
        for seed in range(SEEDS * 2):
            check_task(report, secateur, task, seed)
    try:
        import pycocotools  # noqa: F401
    except ImportError:
        report.skipped("boxes", "pycocotools is not installed")
        return
    check_detector(report, secateur)
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "rows.onnx")
        rows_model(model)
        for kind in sets.KINDS:
            for seed in range(SEEDS):
                check_random(report, secateur, model, seed, kind)
