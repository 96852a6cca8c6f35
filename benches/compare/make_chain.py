#!/usr/bin/env python3
"""Writes a chain of redundant blocks for the scaling criterion: each block has eight nodes, of which two compute something.

A block is Identity, Transpose, its inverse, Add of 0, Mul by 1, Reshape to the shape it has, Add of a bias, Relu; one Identity
ends the chain. The same arguments give the same bytes.

usage: make_chain.py OUT.onnx [--nodes 32000]       writes a model of NODES + 1 nodes (NODES is rounded down to whole blocks)
"""

import argparse

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCK = 8
WIDTH = 8


def block(index, source, target):
    steps = [
        ("Identity", [], {}),
        ("Transpose", [], {"perm": [1, 0]}),
        ("Transpose", [], {"perm": [1, 0]}),
        ("Add", ["zero"], {}),
        ("Mul", ["one"], {}),
        ("Reshape", ["shape"], {}),
        ("Add", [f"bias{index}"], {}),
        ("Relu", [], {}),
    ]
    for step, (operator, constants, attributes) in enumerate(steps):
        output = target if step == BLOCK - 1 else f"v{index}_{step}"
        yield helper.make_node(operator, [source, *constants], [output], name=f"{operator}_{index}_{step}", **attributes)
        source = output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--nodes", type=int, default=32000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    blocks = args.nodes // BLOCK
    constants = [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
        numpy_helper.from_array(np.array([2, WIDTH], np.int64), "shape"),
    ]
    nodes, source = [], "x"
    for index in range(blocks):
        bias = rng.standard_normal(WIDTH).astype(np.float32) * np.float32(0.01)
        constants.append(numpy_helper.from_array(bias, f"bias{index}"))
        nodes += block(index, source, f"b{index}")
        source = f"b{index}"
    nodes.append(helper.make_node("Identity", [source], ["y"], name="last"))
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, WIDTH])], constants)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, args.out)
    print(f"{len(nodes)} nodes")


if __name__ == "__main__":
    main()
