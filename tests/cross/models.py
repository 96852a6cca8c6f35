"""Facts about a model file, counted with the onnx package alone."""

import math
import os

import onnx


def graphs(model):
    """The main graph, every body in it, and the bodies of local functions (as node lists)."""

    def nested(nodes):
        for node in nodes:
            for attribute in node.attribute:
                bodies = list(attribute.graphs)
                if attribute.HasField("g"):
                    bodies.append(attribute.g)
                for body in bodies:
                    yield body
                    yield from nested(body.node)

    yield model.graph
    yield from nested(model.graph.node)
    for function in model.functions:
        yield from nested(function.node)


def nodes(model):
    """Every node of the model: main graph, bodies and functions."""
    for graph in graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def count_nodes(model):
    """Nodes without Constant nodes, bodies and functions included."""
    return sum(1 for node in nodes(model) if not (node.op_type == "Constant" and node.domain in ("", "ai.onnx")))


def operators(model):
    counts = {}
    for node in nodes(model):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            continue
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def tensors(model):
    """Every constant tensor: initializers, sparse ones' values, and the values of Constant nodes."""
    for graph in graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
    for node in nodes(model):
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield attribute.t


def interface(model, side):
    """The values that a caller gives or gets. Before IR version 4 every initializer is listed as an input, too, and is none."""
    values = list(getattr(model.graph, side))
    if side != "input" or model.ir_version >= 4:
        return values
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in values if value.name not in constants]


def external_files(path, model):
    """Paths of the external data files that a model names."""
    base = os.path.dirname(os.path.abspath(path))
    found = set()
    for tensor in tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            for entry in tensor.external_data:
                if entry.key == "location":
                    found.add(os.path.join(base, entry.value))
    return sorted(found)


def total_bytes(path, model=None):
    """Bytes of the file and of its external data."""
    model = model or onnx.load(path, load_external_data=False)
    return os.path.getsize(path) + sum(os.path.getsize(file) for file in external_files(path, model))


def element_count(dims):
    return math.prod(dims)


def value_shape(value):
    """[("float32"-like name, [int | str | None] or None)] of a ValueInfoProto with a tensor type, else None."""
    if not value.type.HasField("tensor_type"):
        return None
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    dims = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value)
        elif dim.HasField("dim_param"):
            dims.append(dim.dim_param)
        else:
            dims.append(None)
    return tensor.elem_type, dims
