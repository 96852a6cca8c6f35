"""`secateur print` against onnx.parser: the printed text must read back to the same model.

Both sides are brought to one form first: tensors as raw bytes, absent and empty strings alike, and without what the syntax has
no place for (doc strings and metadata of nodes and values, quantization annotations, the names of attribute tensors). A model whose text uses one of the
documented additions (quoted names where onnx wants identifiers, bytes that are not UTF-8, sparse tensors, lists of graphs) is
counted as skipped, with its reason, and must be refused or read back to the same model all the same.
"""

import os
import sys
import tarfile

import onnx
import onnx.numpy_helper
import onnx.parser

import corpus

# Text of larger models is read by onnx.parser at a few MB a second.
LARGEST = 4 << 20

ABSENT_IN_TEXT = {"doc_string", "metadata_props", "quantization_annotation", "denotation", "training_info",
                  "configuration", "device_configurations"}
KEPT_ON = {("ModelProto", "doc_string"), ("ModelProto", "metadata_props"), ("FunctionProto", "doc_string")}
IDENTIFIER = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


def is_identifier(name):
    return bool(name) and all(c in IDENTIFIER for c in name) and not name[0].isdigit()


def normal(message):
    """Brings a message and all inside it to the compared form, in place."""
    kind = message.DESCRIPTOR.name
    if kind == "TensorProto":
        normal_tensor(message)
    if kind == "AttributeProto" and message.HasField("t") and not is_identifier(message.t.name):
        message.t.ClearField("name")
    if kind == "AttributeProto" and message.type == 0 and not message.ref_attr_name:
        message.type = next((t for name, t in (("f", 1), ("i", 2), ("s", 3), ("t", 4), ("g", 5)) if message.HasField(name)),
                            next((t for name, t in (("floats", 6), ("ints", 7), ("strings", 8)) if getattr(message, name)), 0))
    for field, value in list(message.ListFields()):
        if field.name in ABSENT_IN_TEXT and (kind, field.name) not in KEPT_ON:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for item in value if hasattr(value, "__len__") else [value]:
                normal(item)
            if kind == "ValueInfoProto" and field.name == "type" and not value.WhichOneof("value"):
                message.ClearField("type")
        elif isinstance(value, str) and value == "" and field.containing_oneof is None:
            message.ClearField(field.name)
    return message


def normal_tensor(tensor):
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type == onnx.TensorProto.STRING:
        return
    has_data = tensor.HasField("raw_data") or any(
        getattr(tensor, name) for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"))
    if not has_data:
        return
    raw = onnx.numpy_helper.to_array(tensor).tobytes()
    for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(name)
    tensor.ClearField("data_location")
    tensor.ClearField("raw_data")
    if raw:
        tensor.raw_data = raw


def addition(message):
    """Why onnx cannot read the text of this message, or None."""
    kind = message.DESCRIPTOR.name
    if kind == "NodeProto":
        for name in [message.op_type, *message.domain.split(".")] + ([message.overload] if message.overload else []):
            if name and not is_identifier(name):
                return "an operator name or domain that is not an identifier"
    if kind == "AttributeProto":
        if not is_identifier(message.name):
            return "an attribute name that is not an identifier"
        if message.HasField("g") and not is_identifier(message.g.name):
            return "a body whose name is not an identifier"
        if message.graphs or message.tensors or message.type_protos:
            return "a list of graphs, tensors or types, which onnx reads as empty"
        for value in [message.s, *message.strings]:
            try:
                value.decode()
            except UnicodeDecodeError:
                return "a string that is not UTF-8"
    if kind == "SparseTensorProto":
        return "a sparse tensor"
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if hasattr(value, "__len__") else [value]:
                reason = addition(item)
                if reason:
                    return reason
    return None


def first_difference(left, right, where=""):
    """The path of the first field that differs, or None."""
    if left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True):
        return None
    for field in left.DESCRIPTOR.fields:
        a, b = getattr(left, field.name), getattr(right, field.name)
        path = f"{where}.{field.name}"
        if field.message_type is None:
            repeated = hasattr(a, "__len__") and not isinstance(a, (str, bytes))
            if (list(a) != list(b)) if repeated else (a != b):
                return f"{path}: {str(a)[:80]!r} and {str(b)[:80]!r}"
            if not repeated and left.HasField(field.name) != right.HasField(field.name):
                return f"{path}: present in one"
        elif hasattr(a, "__len__"):
            if len(a) != len(b):
                return f"{path}: {len(a)} and {len(b)} items"
            for index, (x, y) in enumerate(zip(a, b)):
                found = first_difference(x, y, f"{path}[{index}]")
                if found:
                    return found
        else:
            if left.HasField(field.name) != right.HasField(field.name):
                return f"{path}: present in one"
            found = first_difference(a, b, path)
            if found:
                return found
    return f"{where}: differs in its bits"


def compare(model, text):
    """('passed' | 'failed' | 'skipped', why) for a model and its printed text."""
    reason = addition(model)
    try:
        back = onnx.parser.parse_model(text)
    except Exception as error:
        message = str(error).replace("\\n", " ")[:300]
        return ("skipped", f"onnx refuses {reason}") if reason else ("failed", f"onnx.parser: {message}")
    found = first_difference(normal(model), normal(back))
    if found and reason:
        return "skipped", reason
    return ("failed", found) if found else ("passed", "")


def node_tests():
    """(name, bytes) of the ONNX node tests in the corpus."""
    base = corpus.folder()
    archive = os.path.join(base, "onnx-node-tests.tgz") if base else ""
    if os.path.exists(archive):
        with tarfile.open(archive) as files:
            for member in files:
                if member.name.endswith("/model.onnx"):
                    yield "node/" + member.name.split("/")[-2], files.extractfile(member).read()


def check(report, secateur):
    import tempfile

    sys.setrecursionlimit(10_000)
    cases = [(model.name, open(model.path, "rb").read()) for model in corpus.corpus_models() or corpus.fixture_models()]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        for name, data in [*cases, *node_tests()]:
            if not report.wants(name):
                continue
            if len(data) > LARGEST:
                report.skipped(name, "too large to print whole")
                continue
            model = onnx.load_model_from_string(data)
            if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
                report.skipped(name, "its data is in another file, the text has it inside")
                continue
            with open(path, "wb") as file:
                file.write(data)
            printed = secateur.run("print", "--all", path)
            if printed.code != 0:
                report.failed(name, printed.why())
                continue
            outcome, why = compare(model, printed.stdout)
            if outcome == "passed":
                report.passed(name)
            elif outcome == "skipped":
                report.skipped(name, why)
            else:
                report.failed(name, why)
