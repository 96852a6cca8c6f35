#!/usr/bin/env python3
"""Write a transformer encoder with seeded weights: 12 layers, 768 wide, 12 heads, as exporters write one.

usage: make_encoder.py OUT.onnx [LAYERS] [WIDTH]
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def main():
    out = sys.argv[1]
    layers = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    width = int(sys.argv[3]) if len(sys.argv) > 3 else 768
    heads = width // 64
    rng = np.random.default_rng(7)
    nodes, weights = [], []

    def weight(name, *shape, scale=0.02):
        values = np.ones(shape, np.float32) if scale is None else rng.normal(0, scale, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(name, values):
        weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(operator, inputs, output, **attributes):
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def dense(x, name, inputs, outputs):
        product = node("MatMul", [x, weight(f"{name}.weight", inputs, outputs)], f"{name}.product")
        return node("Add", [product, weight(f"{name}.bias", outputs)], f"{name}.out")

    split = constant("split", np.array([0, 0, heads, 64], np.int64))
    join = constant("join", np.array([0, 0, width], np.int64))
    root = constant("root", np.float32(8))
    x = "x"
    for layer in range(layers):
        name = lambda part: f"layer{layer}.{part}"
        q, k, v = (node("Reshape", [dense(x, name(part), width, width), split], name(f"{part}.heads")) for part in "qkv")
        q = node("Transpose", [q], name("q.t"), perm=[0, 2, 1, 3])
        k = node("Transpose", [k], name("k.t"), perm=[0, 2, 3, 1])
        v = node("Transpose", [v], name("v.t"), perm=[0, 2, 1, 3])
        scores = node("Div", [node("MatMul", [q, k], name("scores")), root], name("scaled"))
        mixed = node("MatMul", [node("Softmax", [scores], name("softmax"), axis=-1), v], name("mixed"))
        mixed = node("Reshape", [node("Transpose", [mixed], name("mixed.t"), perm=[0, 2, 1, 3]), join], name("joined"))
        x = node("Add", [x, dense(mixed, name("o"), width, width)], name("attended"))
        x = node("LayerNormalization", [x, weight(name("n1.scale"), width, scale=None), weight(name("n1.bias"), width)], name("n1"))
        hidden = node("Gelu", [dense(x, name("up"), width, 4 * width)], name("gelu"))
        x = node("Add", [x, dense(hidden, name("down"), 4 * width, width)], name("fed"))
        x = node("LayerNormalization", [x, weight(name("n2.scale"), width, scale=None), weight(name("n2.bias"), width)], name("n2"))
    x = dense(x, "head", width, 16)
    graph = helper.make_graph(nodes, "encoder",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16, width])],
                              [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", 16, 16])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, out)


if __name__ == "__main__":
    main()
