#!/usr/bin/env python3
"""Writes the large model of the speed criteria: a chain of MatMuls whose weights are external data, 2.4 GiB by default.

Every weight is float32 [1024, 1024] from a seeded generator, scaled so that values neither vanish nor explode; nothing in the
graph can be simplified. The weights are written one at a time, so memory stays small. The same arguments give the same bytes.

usage: make_large.py DIR [--layers 600] [--size 1024] [--seed 0]
       writes DIR/large.onnx and DIR/large.data
"""

import argparse
import os

import numpy as np
import onnx
from onnx import TensorProto, helper


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--layers", type=int, default=600)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    nbytes = args.size * args.size * 4
    nodes, weights = [], []
    with open(os.path.join(args.folder, "large.data"), "wb") as file:
        for layer in range(args.layers):
            rng = np.random.default_rng([args.seed, layer])
            values = rng.standard_normal((args.size, args.size), dtype=np.float32)
            values *= np.float32(args.size**-0.5)
            file.write(values.astype("<f4", copy=False).data)
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[args.size, args.size])
            weight.data_location = TensorProto.EXTERNAL
            for key, content in (("location", "large.data"), ("offset", layer * nbytes), ("length", nbytes)):
                weight.external_data.add(key=key, value=str(content))
            weights.append(weight)
            source = f"h{layer}" if layer else "x"
            target = f"h{layer + 1}" if layer + 1 < args.layers else "y"
            nodes.append(helper.make_node("MatMul", [source, weight.name], [target], name=f"matmul_{layer}"))
    shape = ["batch", args.size]
    graph = helper.make_graph(
        nodes, "large", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with open(os.path.join(args.folder, "large.onnx"), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
    print(f"{args.layers} layers, {args.layers * nbytes:,} bytes of weights")


if __name__ == "__main__":
    main()
