"""Quantizes a model to int8 with samples that a program makes or reads itself.

    python quantize_with_own_data.py MODEL.onnx OUTPUT.onnx [SAMPLES]

Here the samples are random numbers of the shape of the model's only input, as a stand-in for a camera, a log or a database:
replace `samples`. They are read once, one after the other, and may be more than the memory holds.
"""

from __future__ import annotations

import argparse
import math
import random
from array import array
from collections.abc import Iterator

import secateur


def samples(model: secateur.Model, count: int) -> Iterator[dict[str, memoryview[float]]]:
    """This many samples, each a dict from the name of the input to an array with one sample along axis 0."""
    (given,) = [value for value in model.inputs if not value.optional]
    if given.dtype != "float" or given.shape is None:
        raise SystemExit(f"input {given.name} takes {given.dtype}: say how its values are made")
    shape = tuple(size if isinstance(size, int) else 1 for size in given.shape)
    draw = random.Random(0)
    for _ in range(count):
        values = array("f", (draw.gauss(0, 1) for _ in range(math.prod(shape))))
        # NumPy arrays and tensors do as well; this needs nothing but the standard library.
        yield {given.name: memoryview(values).cast("B").cast("f", shape)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("samples", type=int, nargs="?", default=64)
    asked = parser.parse_args()
    model = secateur.Model(asked.model)
    outcome = secateur.quantize(model, data=samples(model, asked.samples), output=asked.output)
    print(outcome)


if __name__ == "__main__":
    main()
