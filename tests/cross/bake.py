"""`bake` against the model as it was: images as Pillow decodes them go into the baked model in ONNX Runtime, and into the other one
after preprocessing and before a reading of boxes that numpy does here. Figures on labelled images are those of the evaluator.
"""

import json
import os
import tempfile

import numpy as np
import tool

# Pictures of every detector and classifier beside the labelled ones.
PICTURES = 16
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


def taps(old, new):
    """The lower and the upper pixel of each new one, and the share of the upper, with half-pixel centres."""
    at = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.floor(at).astype(int)
    return low, np.minimum(low + 1, old - 1), at - low


def bilinear(pixels, width, height):
    """Between the four nearest pixels, rounded to whole numbers. A sum on the edge between two depends on its order: the upper left pixel first."""
    top, bottom, down = taps(pixels.shape[0], height)
    left, right, across = taps(pixels.shape[1], width)
    down, across = down[:, None, None], across[None, :, None]
    pixels = pixels.astype(np.float64)
    total = (1 - across) * (1 - down) * pixels[top][:, left]
    total = total + across * (1 - down) * pixels[top][:, right]
    total = total + (1 - across) * down * pixels[bottom][:, left]
    return np.floor(total + across * down * pixels[bottom][:, right] + 0.5)


def letterboxed(pixels, width, height, pad, centred):
    """The image at its aspect on a canvas, with the factors and the margins."""
    rows, columns = pixels.shape[:2]
    factor = min(width / columns, height / rows)
    new = [int(min(max(np.floor(side * factor + 0.5), 1), most)) for side, most in ((columns, width), (rows, height))]
    left, top = ((width - new[0]) // 2, (height - new[1]) // 2) if centred else (0, 0)
    canvas = np.full((height, width, 3), float(pad))
    canvas[top : top + new[1], left : left + new[0]] = bilinear(pixels, *new)
    return canvas, (new[0] / columns, new[1] / rows), (left, top)


def planes(values):
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None].astype(np.float32))


def overlaps(box, others):
    wide = np.maximum(np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0]), 0)
    high = np.maximum(np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1]), 0)
    area = lambda b: np.maximum(b[..., 2] - b[..., 0], 0) * np.maximum(b[..., 3] - b[..., 1], 0)
    return wide * high / np.maximum(area(box) + area(others) - wide * high, 1e-12)


def suppressed(corners, scores, least, limit, most):
    """Rows of corners, score and class, the best first."""
    kept = []
    for category in range(scores.shape[1]):
        order = np.flatnonzero(scores[:, category] >= least)
        order = order[np.argsort(-scores[order, category], kind="stable")]
        while len(order):
            best, rest = order[0], order[1:]
            kept.append([*corners[best], scores[best, category], category])
            order = rest[overlaps(corners[best], corners[rest]) <= limit]
    kept.sort(key=lambda row: -row[4])
    return np.array(kept[:most]).reshape(-1, 6)


def in_image(corners, factors, margins, size):
    corners = (corners - np.tile(margins, 2)) / np.tile(factors, 2)
    return np.clip(corners, 0, np.tile(size, 2))


class Nanodet:
    name, path, preset, layout = "nanodet_m", "models/real/github-nanodet/nanodet_m.onnx", "nanodet", "nanodet"

    def found(self, session, pixels):
        from figures import MEAN, STD, nanodet_boxes

        canvas, factors, margins = letterboxed(pixels[:, :, ::-1], 416, 416, 0, True)
        outputs = session.run(None, {session.get_inputs()[0].name: planes((canvas - MEAN) / STD)})
        corners, scores = nanodet_boxes(outputs, 416)
        return suppressed(in_image(corners, factors, margins, pixels.shape[1::-1]), scores, 0.05, 0.6, 100)


class Ultraface:
    name, path, preset, layout = (
        "version-RFB-320",
        "models/real/github-ultraface/version-RFB-320.onnx",
        "ultraface",
        "ultraface",
    )

    def found(self, session, pixels):
        values = planes((bilinear(pixels, 320, 240) - 127) / 128)
        scores, corners = (part[0].astype(np.float64) for part in session.run(None, {session.get_inputs()[0].name: values}))
        size = pixels.shape[1::-1]
        corners = np.clip(corners * np.tile(size, 2), 0, np.tile(size, 2))
        return suppressed(corners, scores[:, 1:], 0.01, 0.5, 300)


class Yunet:
    name, path, preset, layout = "yunet_n_320_320", "models/real/github-yunet/yunet_n_320_320.onnx", "yunet", "yunet"

    def found(self, session, pixels):
        canvas, factors, margins = letterboxed(pixels[:, :, ::-1], 320, 320, 0, False)
        outputs = [part[0].astype(np.float64) for part in session.run(None, {session.get_inputs()[0].name: planes(canvas)})]
        corners, scores = [], []
        for at, stride in enumerate((8, 16, 32)):
            cells = 320 // stride
            grid = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2)
            box = outputs[6 + at]
            centre, half = (grid + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
            corners.append(np.concatenate([centre - half, centre + half], 1))
            scores.append(np.sqrt(np.maximum(outputs[at] * outputs[3 + at], 0)))
        corners = in_image(np.concatenate(corners), factors, margins, pixels.shape[1::-1])
        return suppressed(corners, np.concatenate(scores), 0.01, 0.3, 300)


def pixels_of(path):
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def pictures(corpus, count=PICTURES):
    folder = os.path.join(corpus, "data/coco/evaluation")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))[:count]]


def sessions(*models):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return [onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]) for model in models]


def run_json(secateur, arguments):
    """What a verb says in JSON, by ONNX Runtime."""
    library = tool.onnxruntime_library()
    done = secateur.run(*arguments, "--json", "--engine", "ort", env={"ORT_DYLIB_PATH": library or ""})
    if done.code:
        raise RuntimeError(done.why())
    return done.json()


def paired(expected, found):
    """Boxes of one side alone, and the largest differences of corners and of scores of the others."""
    left, alone, corners, scores = list(found), 0, 0.0, 0.0
    for row in expected:
        near = [(np.abs(row[:4] - other[:4]).max() + abs(row[4] - other[4]), at) for at, other in enumerate(left) if other[5] == row[5]]
        near = min(near, default=(np.inf, -1))
        if near[0] >= 1:
            alone += 1
            continue
        other = left.pop(near[1])
        corners, scores = max(corners, np.abs(row[:4] - other[:4]).max()), max(scores, abs(row[4] - other[4]))
    return alone + len(left), corners, scores


def check_detector(report, secateur, corpus, folder, detector):
    model, baked = os.path.join(corpus, detector.path), os.path.join(folder, detector.name + ".onnx")
    arguments = ["bake", model, "-o", baked, "--preprocess", detector.preset, "--boxes", detector.layout]
    run_json(secateur, arguments)
    before, after = sessions(model, baked)
    count, alone, corners, scores = 0, 0, 0.0, 0.0
    for path in pictures(corpus):
        pixels = pixels_of(path)
        expected = detector.found(before, pixels)
        boxes, score, classes = after.run(["boxes", "scores", "classes"], {"image": pixels[None]})
        found = np.concatenate([boxes, score[:, None], classes[:, None]], 1)
        own = paired(expected, found)
        count, alone = count + len(expected), alone + own[0]
        corners, scores = max(corners, own[1]), max(scores, own[2])
    note = f"{count} boxes of numpy, {alone} of one side alone; the others differ by {corners:.1e} pixels and {scores:.1e} at most"
    # A box whose score or overlap stands on a bound may fall on either side.
    right = count > 0 and alone <= max(2, count // 500) and corners < 0.05 and scores < 1e-3
    (report.passed if right else report.failed)(f"{detector.name} boxes", note)
    report.note(f"{detector.name}: {note}")


def check_average_precision(report, secateur, corpus, folder):
    """Figures of nanodet_m on labelled images, read from the model as it was and from the baked one by the same description."""
    model, baked = os.path.join(corpus, Nanodet.path), os.path.join(folder, Nanodet.name + ".onnx")
    images = os.path.join(corpus, "data/coco/evaluation")
    data = json.dumps({"images": {"folder": images}, "labels": images + ".json", "preprocess": "nanodet", "boxes": "nanodet"})
    found = [run_json(secateur, ["evaluate", path, "--data", data, "--latency-runs", "0"])["task"]["figures"] for path in (model, baked)]
    differences = {name: abs(found[0][name] - found[1][name]) for name in found[0] if found[0][name] is not None}
    worst = max(differences, key=differences.get)
    note = f"map {found[0]['map']:.6f} and {found[1]['map']:.6f}, map50 {found[0]['map50']:.6f} and {found[1]['map50']:.6f}; {worst} differs most, by {differences[worst]:.1e}"
    (report.passed if differences[worst] < 1e-3 else report.failed)("nanodet_m figures", note)
    report.note(f"nanodet_m: {note}")


CLASSIFIERS = (
    ("efficientnet_lite0", "efficientnet-lite", lambda pixels: (pixels - 127) / 128),
    ("mobilenet_v2_torchvision_bn", "torchvision", lambda pixels: (pixels / 255 - IMAGENET[0]) / IMAGENET[1]),
)


def centre(path):
    """The centre of an image whose shortest side becomes 256, as Pillow resizes."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    short = min(image.size)
    image = image.resize([side * 256 // short for side in image.size], Image.BILINEAR)
    left, top = ((side - 224) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float64)


def check_classifier(report, secateur, corpus, folder, name, preset, values):
    model = os.path.join(corpus, f"models/pretrained/{name}.onnx")
    shares, best = os.path.join(folder, name + "-softmax.onnx"), os.path.join(folder, name + "-argmax.onnx")
    for baked, classes in ((shares, "softmax"), (best, "argmax")):
        run_json(secateur, ["bake", model, "-o", baked, "--preprocess", preset, "--classes", classes])
    data = json.dumps({"images": {"folder": os.path.join(corpus, "data/imagenet/evaluation")}, "preprocess": preset})
    accuracies = [run_json(secateur, ["evaluate", path, "--data", data, "--latency-runs", "0"])["accuracy"] for path in (model, shares, best)]
    before, after, number = sessions(model, shares, best)
    worst, same, count = 0.0, 0, 0
    for path in pictures(corpus):
        scores = before.run(None, {before.get_inputs()[0].name: planes(values(centre(path)))})[0][0].astype(np.float64)
        expected = np.exp(scores - scores.max())
        expected /= expected.sum()
        image = {"image": pixels_of(path)[None]}
        found, chosen = after.run(None, image)[0][0], number.run(["classes"], image)[0][0]
        worst, count = max(worst, np.abs(found - expected).max()), count + 1
        same += int(chosen == expected.argmax()) and int(found.argmax() == chosen)
    note = f"accuracy {accuracies[0]:.4f}, {accuracies[1]:.4f} and {accuracies[2]:.4f}; shares of {count} pictures differ from Pillow's by {worst:.1e} at most, {same} best classes are the same"
    # Pillow rounds between its two steps of resizing, so that pixels differ by one.
    right = len(set(accuracies)) == 1 and worst < 0.05 and same >= count - 1
    (report.passed if right else report.failed)(name, note)
    report.note(f"{name}: {note}")


def check_on_images(report, secateur, corpus, folder):
    """What the step itself says of images, by ONNX Runtime and by the engine that is built in."""
    model = os.path.join(corpus, Yunet.path)
    data = json.dumps({"images": {"folder": os.path.join(corpus, "data/coco/evaluation")}, "labels": "reference", "task": "detection", "samples": 4})
    arguments = ["bake", model, "--preprocess", "yunet", "--boxes", "yunet", "--data", f"evaluation={data}", "--json", "--force"]
    for engine in ("ort", "tract"):
        library = tool.onnxruntime_library()
        out = os.path.join(folder, f"checked-{engine}.onnx")
        done = secateur.run(*arguments, "-o", out, "--engine", engine, env={"ORT_DYLIB_PATH": library or ""})
        notes = [note for step in (done.json() or {}).get("steps", []) for note in step.get("notes", [])]
        said = [note for note in notes if "checked on images" in note]
        right = done.code == 0 and bool(said) and (engine == "tract" or all(note.startswith("checked") for note in said))
        (report.passed if right else report.failed)(f"check by {engine}", "; ".join(said) or done.why())
        for note in said:
            report.note(f"{engine}: {note}")


def check(report, secateur):
    corpus = os.environ.get("SECATEUR_CORPUS")
    if not corpus:
        report.skipped("bake", "SECATEUR_CORPUS is not set")
        return
    with tempfile.TemporaryDirectory() as folder:
        for detector in (Nanodet(), Ultraface(), Yunet()):
            if report.wants(detector.name):
                check_detector(report, secateur, corpus, folder, detector)
        if report.wants(Nanodet.name):
            check_average_precision(report, secateur, corpus, folder)
        for name, preset, values in CLASSIFIERS:
            if report.wants(name):
                check_classifier(report, secateur, corpus, folder, name, preset, values)
        if report.wants("check on images"):
            check_on_images(report, secateur, corpus, folder)
