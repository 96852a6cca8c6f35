"""Random sets of true and found objects, and what pycocotools' COCOeval makes of them.

A set is (truth, detections): a COCO dictionary of images, annotations and categories, and a list in COCO's result format.
"""

import contextlib
import copy
import io

import numpy as np

BOX_KINDS = (
    "plain", "crowds", "ties", "empty", "nothing-found", "nothing-true", "one-class", "many", "left-out", "sizes", "perfect",
)
KEYPOINT_KINDS = ("keypoints", "keypoints-crowds", "keypoints-ties", "keypoints-left-out")
KINDS = BOX_KINDS + KEYPOINT_KINDS

BOX_FIGURES = (
    "map", "map50", "map75", "map-small", "map-medium", "map-large",
    "ar1", "ar10", "ar100", "ar-small", "ar-medium", "ar-large",
)
KEYPOINT_FIGURES = (
    "oks-map", "oks-map50", "oks-map75", "oks-map-medium", "oks-map-large",
    "oks-ar", "oks-ar50", "oks-ar75", "oks-ar-medium", "oks-ar-large",
)
POINTS = 17
# An area that every range of sizes excludes: COCOeval has no other way to leave out an object that is no crowd.
BEYOND = 1e11


def iou_type(kind):
    return "keypoints" if kind in KEYPOINT_KINDS else "bbox"


def random_set(rng, kind):
    """A set of one of KINDS, from a numpy Generator."""
    if kind in KEYPOINT_KINDS:
        return _keypoints(rng, kind)
    images = 1 if kind == "many" else int(rng.integers(1, 12))
    categories = [int(c) for c in np.cumsum(rng.integers(1, 5, 1 if kind in ("one-class", "many") else int(rng.integers(2, 7))))]
    annotations, detections = [], []
    for image in range(1, images + 1):
        if kind == "empty" and rng.random() < 0.6:
            # Images that have nothing, or in which only something is found.
            if rng.random() < 0.5:
                detections.append(_found(image, int(rng.choice(categories)), _rect(rng, kind), float(rng.random())))
            continue
        for _ in range(2000 if kind == "many" else int(rng.integers(0, 14))):
            category, rect = int(rng.choice(categories)), _rect(rng, kind)
            if kind != "nothing-true":
                annotations.append(_true(rng, kind, image, category, rect))
            for _ in range(int(rng.integers(0, 3))):
                other = category if rng.random() < 0.85 else int(rng.choice(categories))
                detections.append(_found(image, other, _moved(rng, kind, rect), _score(rng, kind)))
        for _ in range(8000 if kind == "many" else int(rng.integers(0, 5))):
            detections.append(_found(image, int(rng.choice(categories)), _rect(rng, kind), _score(rng, kind)))
    if rng.random() < 0.3:
        # More than are judged, at two of the three limits.
        for _ in range(150):
            rect = _moved(rng, kind, annotations[0]["bbox"]) if annotations else _rect(rng, kind)
            detections.append(_found(1, categories[0], rect, _score(rng, kind)))
    order = rng.permutation(len(detections))
    detections = [] if kind == "nothing-found" else [detections[i] for i in order]
    return _set(images, categories, annotations), detections


def coco_figures(truth, detections, iou_type):
    """Figures by name; None where COCOeval has -1."""
    names = KEYPOINT_FIGURES if iou_type == "keypoints" else BOX_FIGURES
    evaluated = _evaluated(truth, detections, iou_type)
    return {name: _or_none(value) for name, value in zip(names, evaluated.stats)}


def coco_by_class(truth, detections, iou_type):
    """`support`, `ap` and `ap50` by category; the averages are None where there is nothing to be found."""
    evaluated = _evaluated(truth, detections, iou_type)
    precision = evaluated.eval["precision"][:, :, :, 0, -1]
    support = dict.fromkeys(evaluated.params.catIds, 0)
    for result in evaluated.evalImgs:
        if result and result["aRng"] == evaluated.params.areaRng[0]:
            support[result["category_id"]] += int(np.count_nonzero(result["gtIgnore"] == 0))
    return {
        int(category): {
            "support": support[category],
            "ap": _or_none(precision[:, :, at].mean()),
            "ap50": _or_none(precision[0, :, at].mean()),
        }
        for at, category in enumerate(evaluated.params.catIds)
    }


def repeated(truth, detections, weights):
    """The set in which the image at place i is there weights[i] times, copies next to each other."""
    images, annotations, found = [], [], []
    for image, times in zip(truth["images"], weights):
        for _ in range(times):
            number = len(images) + 1
            images.append({**image, "id": number})
            annotations += [{**a, "image_id": number} for a in truth["annotations"] if a["image_id"] == image["id"]]
            found += [{**d, "image_id": number} for d in detections if d["image_id"] == image["id"]]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    return {**truth, "images": images, "annotations": annotations}, found


def _evaluated(truth, detections, iou_type):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = copy.deepcopy(truth)
        true.createIndex()
        if detections:
            found = true.loadRes(copy.deepcopy(detections))
        else:
            # loadRes looks at the first of them.
            found = COCO()
            found.dataset = {**copy.deepcopy(truth), "annotations": []}
            found.createIndex()
        evaluated = COCOeval(true, found, iou_type)
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated


def _or_none(value):
    return None if value == -1 else float(value)


def _set(images, categories, annotations):
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    return {
        "images": [{"id": i, "file_name": f"{i:04}.jpg", "width": 640, "height": 480} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class-{c}"} for c in categories],
    }


def _rect(rng, kind):
    if kind == "ties":
        # On a coarse grid, so that similarities are equal, too, and some are exactly a threshold.
        return [float(v) for v in (rng.integers(0, 4) * 10, rng.integers(0, 4) * 10, *(rng.integers(1, 4, 2) * 10))]
    if kind == "sizes":
        side = [float(v) for v in rng.choice([31.0, 32.0, 33.0, 95.0, 96.0, 97.0], 2)]
        return [float(rng.integers(0, 300)), float(rng.integers(0, 300)), *side]
    width, height = np.exp(rng.uniform(np.log(4), np.log(300), 2))
    return [float(rng.uniform(0, 640 - width)), float(rng.uniform(0, 480 - min(height, 470))), float(width), float(height)]


def _moved(rng, kind, rect):
    if kind == "perfect":
        return list(rect)
    if kind in ("ties", "sizes"):
        return [v + float(rng.integers(-1, 2)) for v in rect[:2]] + list(rect[2:])
    by = rng.uniform(0, 0.15)
    left, top, width, height = rect
    dx, dy = rng.normal(0, by, 2)
    grow = np.exp(rng.normal(0, by, 2))
    return [float(left + dx * width), float(top + dy * height), float(width * grow[0]), float(height * grow[1])]


def _score(rng, kind):
    return float(rng.integers(0, 4) / 4) if kind in ("ties", "keypoints-ties") else float(rng.random())


def _found(image, category, rect, score):
    return {"image_id": image, "category_id": category, "bbox": rect, "score": score}


def _true(rng, kind, image, category, rect):
    share = float(rng.uniform(0.4, 1.0)) if kind not in ("sizes", "ties") else 1.0
    crowd = kind in ("crowds", "many") and rng.random() < 0.25
    area = rect[2] * rect[3] * share
    if kind == "left-out" and rng.random() < 0.4:
        area = BEYOND
    return {"image_id": image, "category_id": category, "bbox": rect, "area": area, "iscrowd": int(crowd)}


def _keypoints(rng, kind):
    images = int(rng.integers(1, 12))
    annotations, detections = [], []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(0, 8))):
            left, top, width, height = _rect(rng, "plain")
            points = rng.uniform([left, top], [left + width, top + height], (POINTS, 2))
            if kind == "keypoints-ties":
                points = np.round(points / 20) * 20
            seen = rng.integers(0, 3, POINTS)
            if rng.random() < 0.15:
                seen[:] = 0
            crowd = kind == "keypoints-crowds" and rng.random() < 0.3
            left_out = kind == "keypoints-left-out" and rng.random() < 0.3
            flat = np.where(seen[:, None] > 0, points, 0)
            annotations.append({
                "image_id": image,
                "category_id": 1,
                "bbox": [left, top, width, height],
                "area": width * height * float(rng.uniform(0.4, 1.0)),
                "iscrowd": int(crowd),
                # COCOeval leaves out what is said to have none, whatever is labelled.
                "num_keypoints": 0 if left_out else int(np.count_nonzero(seen)),
                "keypoints": [float(v) for row in zip(*flat.T, seen) for v in row],
            })
            for _ in range(int(rng.integers(0, 3))):
                far = rng.uniform(0, 0.15) * np.sqrt(width * height)
                moved = points if kind == "keypoints-ties" and rng.random() < 0.5 else points + rng.normal(0, far, points.shape)
                detections.append(_pose(image, moved, _score(rng, kind)))
        for _ in range(int(rng.integers(0, 3))):
            detections.append(_pose(image, rng.uniform(0, 480, (POINTS, 2)), _score(rng, kind)))
    if annotations and rng.random() < 0.3:
        points = np.array(annotations[0]["keypoints"]).reshape(-1, 3)[:, :2]
        for _ in range(30):
            detections.append(_pose(1, points + rng.normal(0, 5, points.shape), _score(rng, kind)))
    return _set(images, [1], annotations), [detections[i] for i in rng.permutation(len(detections))]


def _pose(image, points, score):
    return {"image_id": image, "category_id": 1, "keypoints": [float(v) for x, y in points for v in (x, y, 1.0)], "score": score}
