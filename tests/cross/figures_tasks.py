"""Random answers of the tasks without boxes, and the figures that numpy, scipy, scikit-learn and jiwer make of them.

Each case is (arrays, files, description, expected): arrays for an npz with the model's answer as `x`, files by name, what the
description says beside the npz, and figures by name.
"""

import numpy as np


def segmentation(rng):
    """Scores of classes a pixel, with pixels that do not count; intersections over unions by numpy."""
    samples, classes, height, width = int(rng.integers(1, 5)), int(rng.integers(2, 6)), *(int(v) for v in rng.integers(3, 20, 2))
    scores = rng.normal(0, 1, (samples, classes, height, width)).astype(np.float32)
    truth = rng.integers(0, classes, (samples, height, width))
    # One class is never true at times.
    if rng.random() < 0.4:
        truth[truth == classes - 1] = 0
    ignored = rng.random(truth.shape) < 0.1
    found = scores.argmax(axis=1)
    counted = ~ignored
    overlaps, dice, recalls = [], [], []
    for label in range(classes):
        a, b = (truth == label) & counted, (found == label) & counted
        if (a | b).sum():
            overlaps.append((a & b).sum() / (a | b).sum())
            dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        if a.sum():
            recalls.append((a & b).sum() / a.sum())
    labels = np.where(ignored, 255, truth).astype(np.int64)
    expected = {
        "miou": float(np.mean(overlaps)),
        "dice": float(np.mean(dice)),
        "pixel-accuracy": float(((truth == found) & counted).sum() / counted.sum()),
        "mean-accuracy": float(np.mean(recalls)),
    }
    return {"x": scores, "labels": labels}, {}, {"labels": "labels", "task": "segmentation"}, expected


def embedding(rng):
    """Vectors with pairs of the same and of different things; area under the curve and acceptance rates by scikit-learn."""
    from sklearn import metrics

    count, size = int(rng.integers(8, 40)), int(rng.integers(2, 9))
    vectors = rng.normal(0, 1, (count, size)).astype(np.float32)
    pairs = [(int(a), int(b), int(rng.random() < 0.4)) for a, b in rng.integers(0, count, (60, 2)) if a != b]
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = np.round([float(unit[a] @ unit[b]) for a, b, _ in pairs], 12)
    same = np.array([label for _, _, label in pairs])
    false, true, _ = metrics.roc_curve(same, similarity, drop_intermediate=False)
    expected = {"auc": float(metrics.roc_auc_score(same, similarity)), "tar": float(true[false <= 0.1].max())}
    table = "".join(f"{a}\t{b}\t{label}\n" for a, b, label in pairs)
    return {"x": vectors}, {"pairs.tsv": table}, {"embedding": {"pairs": "pairs.tsv", "far": [0.1]}}, expected


def text(rng):
    """Scores of characters, decoded by numpy; error rates by jiwer."""
    import jiwer

    characters = "abcde"
    samples, steps = int(rng.integers(2, 10)), int(rng.integers(3, 20))
    scores = rng.normal(0, 1, (samples, steps, len(characters) + 2)).astype(np.float32)
    alphabet = characters + " "
    found = []
    for row in scores.argmax(axis=2):
        kept = [k for at, k in enumerate(row) if k and (at == 0 or row[at - 1] != k)]
        found.append("".join(alphabet[k - 1] for k in kept))
    true = []
    for word in found:
        letters = [c for c in word if rng.random() > 0.2] + ["b"]
        true.append("".join(letters).strip() or "a")
    table = "".join(f"{at}\t{word}\n" for at, word in enumerate(true))
    expected = {"cer": float(jiwer.cer(true, found)), "wer": float(jiwer.wer(true, found))}
    return {"x": scores}, {"texts.tsv": table}, {"labels": "texts.tsv", "text": {"characters": characters, "space": True}}, expected


def tokens(rng):
    """Scores of the next token; perplexity by scipy's log-softmax."""
    from scipy.special import log_softmax

    samples, steps, vocabulary = int(rng.integers(1, 6)), int(rng.integers(2, 12)), int(rng.integers(3, 30))
    scores = rng.normal(0, 3, (samples, steps, vocabulary)).astype(np.float32)
    labels = rng.integers(0, vocabulary, (samples, steps))
    labels[rng.random(labels.shape) < 0.2] = -100
    labels[0, 0] = 1
    counted = labels >= 0
    logs = log_softmax(scores.astype(np.float64), axis=-1)
    chosen = np.take_along_axis(logs, np.maximum(labels, 0)[..., None], -1)[..., 0][counted]
    expected = {
        "perplexity": float(np.exp(-chosen.mean())),
        "top1": float((scores.argmax(-1) == labels)[counted].mean()),
    }
    return {"x": scores, "labels": labels}, {}, {"labels": "labels", "task": "tokens"}, expected


TASKS = {"segmentation": segmentation, "embedding": embedding, "text": text, "tokens": tokens}
