"""Quantization against ONNX Runtime.

* Codes: the scales of its quantizer and the codes of its QuantizeLinear are those of `quantize-weights`, bit for bit, over 500
  random weights: types, axes, blocks, ties, saturation, zeros.
* Every model (the smallest by default, all with SECATEUR_CROSS_LARGE=1) with `quantize-weights` (int8, int4), `quantize-dynamic` and
  `convert-float`: valid, loadable, finite where the original is, near it, and no larger.
* Codes that keep what layers put out (GPTQ, AdaRound; as Q/DQ and as MatMulNBits), SmoothQuant, AWQ and a search for precisions on the digits models: nearer
  to the float model in ONNX Runtime than nearest codes, and the same function where only factors move.
* Plans: what `quantize` says runs on integers does so in the optimised model, operator by operator, on transformers, detectors and
  text recognition; node by node, tract and ONNX Runtime are at most one code apart. A transformer with tied weights shrinks with all its constant products covered.
* Static types on the digits CNN: 16 bits for single layers, floats of 8 bits, 4-bit weights under each rounding, beside the float model.
* Static int8 on images: every convolution and every addition runs on integers in the optimised model.
"""

import os
import tempfile
from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.quant_utils import compute_scale_zp, get_qmin_qmax_for_qType

import corpus
import runtime
import tool

CASES = 500
PER_MODEL = 10
TYPES = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
    "int4": TensorProto.INT4,
    "uint4": TensorProto.UINT4,
}
GRANULARITIES = ("tensor", "channel", "block")


def check(report, secateur):
    with tempfile.TemporaryDirectory(prefix="secateur-quantize-") as folder:
        check_codes(report, secateur, folder)
        check_models(report, secateur, folder)
        check_plans(report, secateur, folder)
        check_tied(report, secateur, folder)
        check_fused(report, secateur, folder)
        check_accuracy(report, secateur, folder)
        check_static_types(report, secateur, folder)


def check_codes(report, secateur, folder):
    rng = np.random.default_rng(7)
    for number in range(CASES // PER_MODEL):
        kind = list(TYPES)[number % len(TYPES)]
        granularity = GRANULARITIES[number // len(TYPES) % len(GRANULARITIES)]
        symmetric = bool(rng.integers(2))
        block = int(rng.choice([2, 3, 16, 32]))
        name = f"codes {number} {kind} {granularity} {'symmetric' if symmetric else 'asymmetric'}"
        if not report.wants(name):
            continue
        weights = {f"w{i}": random_weight(rng, i) for i in range(PER_MODEL)}
        transposed = {weight: bool(rng.integers(2)) for weight in weights}
        source, target = os.path.join(folder, "one.onnx"), os.path.join(folder, "one_q.onnx")
        onnx.save(products(weights, transposed), source)
        options = ["--type", kind, f"--symmetric={str(symmetric).lower()}", "--minimum-elements", "1",
                   f"--per-channel={str(granularity == 'channel').lower()}", "--prepare=false", "--force"]
        if granularity == "block":
            options += ["--block", str(block)]
        result = secateur.run("quantize-weights", source, "-o", target, *options)
        if result.code != 0:
            report.failed(name, result.why())
            continue
        onnx.checker.check_model(target, full_check=True)
        problem = compare_codes(onnx.load(target), weights, kind, granularity, symmetric, block)
        if problem:
            report.failed(name, problem)
        else:
            report.passed(name)


def random_weight(rng, index):
    """Weights [K, N] of many kinds: ties, constant columns, tiny and huge values."""
    k, n = int(rng.integers(1, 40)), int(rng.integers(1, 12))
    kind = index % 5
    if kind == 0:
        return rng.normal(0, float(rng.choice([1e-3, 1, 50])), (k, n)).astype(np.float32)
    if kind == 1:  # with a largest value of 127, half steps are ties
        values = rng.integers(-254, 255, (k, n)).astype(np.float32) / 2
        values[0] = 127
        return values
    if kind == 2:
        return np.abs(rng.normal(0, 1, (k, n))).astype(np.float32)
    if kind == 3:
        values = rng.normal(0, 1, (k, n)).astype(np.float32)
        values[:, :: 2] = 0
        return values
    return (rng.standard_cauchy((k, n)) * 1e-2).astype(np.float32)


def products(weights, transposed):
    """A model with one product for each weight."""
    nodes, inputs, outputs, initializers = [], [], [], []
    for name, weight in weights.items():
        k, n = weight.shape
        stored = np.ascontiguousarray(weight.T) if transposed[name] else weight
        initializers.append(numpy_helper.from_array(stored, name))
        inputs.append(helper.make_tensor_value_info(f"x_{name}", TensorProto.FLOAT, [2, k]))
        outputs.append(helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, [2, n]))
        nodes.append(helper.make_node("Gemm", [f"x_{name}", name], [f"y_{name}"], transB=int(transposed[name])))
    graph = helper.make_graph(nodes, "products", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def compare_codes(model, weights, kind, granularity, symmetric, block):
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, stored in weights.items():
        # A weight that Gemm transposes is stored as it multiplies: ONNX Runtime has kernels on codes for that form alone.
        channel_axis, sum_axis = 1, 0
        node = next((node for node in model.graph.node
                     if node.op_type == "DequantizeLinear" and node.input[0] == f"{name}_quantized"), None)
        if node is None:
            return f"{name}: no DequantizeLinear"
        codes, scale, zero = (constants[value] for value in node.input)
        groups = split(stored, granularity, channel_axis, sum_axis, block)
        scales = numpy_helper.to_array(scale)
        zeros = numpy_helper.to_array(zero).astype(np.int64)
        expected = reference_parameters(groups, TYPES[kind], symmetric)
        if not np.array_equal(scales.ravel(), expected[0]) or not np.array_equal(zeros.ravel(), expected[1]):
            return f"{name}: other scales or zero points than ONNX Runtime's quantizer"
        attributes = {}
        if granularity != "tensor":
            attributes["axis"] = channel_axis if granularity == "channel" else sum_axis
        if granularity == "block":
            attributes["block_size"] = block
        reference = quantize_in_runtime(stored, scale, zero, TYPES[kind], attributes)
        if not np.array_equal(numpy_helper.to_array(codes).astype(np.int64), reference):
            return f"{name}: other codes than ONNX Runtime's QuantizeLinear"
    return None


def split(stored, granularity, channel_axis, sum_axis, block):
    """The groups that share a scale, in the order of the scales."""
    if granularity == "tensor":
        return [stored]
    if granularity == "channel":
        return list(np.moveaxis(stored, channel_axis, 0))
    groups = []
    rows = -(-stored.shape[sum_axis] // block)
    shape = [rows if axis == sum_axis else stored.shape[axis] for axis in range(2)]
    for at in np.ndindex(*shape):
        index = [slice(i, i + 1) for i in at]
        index[sum_axis] = slice(at[sum_axis] * block, (at[sum_axis] + 1) * block)
        groups.append(stored[tuple(index)])
    return groups


def reference_parameters(groups, kind, symmetric):
    lowest, highest = get_qmin_qmax_for_qType(kind, reduce_range=False, symmetric=symmetric)
    scales, zeros = [], []
    for group in groups:
        zero, scale = compute_scale_zp(np.array(group.min()), np.array(group.max()), lowest, highest, symmetric)
        scales.append(np.float32(scale))
        zeros.append(int(zero))
    return np.array(scales, np.float32), np.array(zeros, np.int64)


def quantize_in_runtime(x, scale, zero, dtype, attributes):
    scale.name, zero.name = "scale", "zero"
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes),
         helper.make_node("Cast", ["q"], ["y"], to=TensorProto.INT32)], "quantize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, x.shape)], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return runtime.run(runtime.session(model.SerializeToString()), {"x": x})["y"].astype(np.int64)


# Largest relative error of a form; a form without one is only looked at for being finite.
FORMS = {
    "weights-int8": 0.2,
    "weights-int4": 1.0,
    "dynamic": 0.3,
    "float16": 0.05,
    "bfloat16": None,
}

#: Bytes up to which every model is checked by default.
SMALL = 1 << 20
LARGE = os.environ.get("SECATEUR_CROSS_LARGE") == "1"


def check_models(report, secateur, folder):
    if not corpus.folder():
        report.skipped("models", "SECATEUR_CORPUS is not set")
        return
    for model in corpus.every_model():
        if not report.wants(model.name):
            continue
        if not report.only and not LARGE and not model.name.startswith("models/trained/") and size(model.path) > SMALL:
            report.skipped(model.name, "only with SECATEUR_CROSS_LARGE=1 or when it is named with --only")
            continue
        try:
            feed = model.inputs(3)
            expected = runtime.run(runtime.session(model.path), feed)
        except Exception as error:  # noqa: BLE001 - a model that ONNX Runtime refuses says nothing about ours
            report.skipped(model.name, f"does not run: {str(error)[:100]}")
            continue
        for form in FORMS:
            name = f"{model.name} [{form}]"
            target = os.path.join(folder, "form.onnx")
            result = secateur.run("quantize", model.path, "-o", target, "--scheme", form, "--force", "--json", "--allow-unchanged", "--no-verify")
            if result.code != 0:
                report.failed(name, result.why())
                continue
            if form == "bfloat16":
                # ONNX Runtime's processor kernels have no bfloat16: the file is what can be judged.
                problem = valid(model, target)
            else:
                # A value next to the border between two codes may get the other one.
                tolerance = FORMS[form] + (0.2 if "quantized" in model.name else 0)
                problem = examine(model, target, feed, expected, tolerance)
            (report.failed if problem else report.passed)(name, problem or "")


def valid(model, target):
    try:
        onnx.checker.check_model(target)
    except Exception as error:  # noqa: BLE001 - any failure is the finding
        return str(error).splitlines()[0][:200]
    before, after = size(model.path), size(target)
    return f"grew from {before} to {after} bytes" if after > before + 65536 else None


def examine(model, target, feed, expected, tolerance):
    try:
        onnx.checker.check_model(target)
        found = runtime.run(runtime.session(target), feed)
    except Exception as error:  # noqa: BLE001 - any failure is the finding
        return str(error).splitlines()[0][:200]
    before, after = size(model.path), size(target)
    if after > before + 65536:
        return f"grew from {before} to {after} bytes"
    for name, value in expected.items():
        if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.size == 0:
            continue
        other = found[name]
        if other.shape != value.shape:
            return f"{name}: shape {other.shape} instead of {value.shape}"
        if np.isfinite(value).all() and not np.isfinite(other).all():
            return f"{name} is not finite"
        error = np.sqrt(np.mean((other - value) ** 2)) / (np.sqrt(np.mean(value ** 2)) + 1e-12)
        if error > tolerance:
            return f"{name}: relative error {error:.3f}"
    return None


def size(path):
    """Bytes of a model with its external data."""
    model = onnx.load(path, load_external_data=False)
    files = {entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"}
    folder = os.path.dirname(path)
    return os.path.getsize(path) + sum(os.path.getsize(os.path.join(folder, file)) for file in files)


PLANNED = {
    "arch/ts-bert_mini.onnx": ["--set", "calibrate={percentile: 99.99}"],
    "arch/dynamo-bert_mini.onnx": [],
    "arch/real-yolov8n_320.onnx": [],
    "arch/ts-squeezenet1_1.onnx": [],
    "arch/real-rxnmap.onnx": [],
    "models/real/pypi-rapidocr-onnxruntime/ch_PP-OCRv4_det_infer.onnx": [],
}
#: Operators of ONNX by what ONNX Runtime runs them as on integers.
INTEGER = {
    "QLinearConv": "Conv", "QLinearMatMul": "MatMul", "MatMulIntegerToFloat": "MatMul", "QGemm": "Gemm", "QLinearAdd": "Add",
    "QLinearMul": "Mul", "QLinearConcat": "Concat", "QLinearSigmoid": "Sigmoid", "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool", "QLinearGlobalAveragePool": "GlobalAveragePool", "QLinearLeakyRelu": "LeakyRelu",
}
#: These move codes as they are; ONNX Runtime may let more of them do so than the plan says, and merges some.
MOVING = ("MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "GatherElements", "Split",
          "Expand", "Tile", "Resize")


def check_plans(report, secateur, folder):
    known = {model.name: model for model in corpus.every_model()}
    for name, options in PLANNED.items():
        label = f"{name} [plan]"
        if not report.wants(label):
            continue
        model = known.get(name)
        if model is None:
            report.skipped(label, "SECATEUR_CORPUS or SECATEUR_ARCHITECTURES is not set")
            continue
        feeds = [model.inputs(3 + number) for number in range(4)]
        data, target = os.path.join(folder, "plan.npz"), os.path.join(folder, "plan.onnx")
        np.savez(data, **{key: np.stack([feed[key] for feed in feeds]) for key in feeds[0]})
        result = secateur.run("quantize", model.path, "-o", target, "--data", data, "--force", "--json", *options)
        if result.code != 0:
            report.failed(label, result.why())
            continue
        # Noise has no text in it: every probability that PP-OCR gives is next to 0, and no error is small beside it.
        tolerance = np.inf if "PP-OCR" in name else 0.6
        problem = examine(model, target, feeds[0], runtime.run(runtime.session(model.path), feeds[0]), tolerance)
        if problem:
            report.failed(label, problem)
            continue
        nodes = [node for step in result.json()["steps"] for node in step.get("nodes", [])]
        planned = Counter(node["operator"] for node in nodes if node["runs"] == "integer")
        found = integers(optimised(target, folder))
        wrong = [f"{operator}: {planned[operator]} planned, {found[operator]} run" for operator in sorted({*planned, *found})
                 if (planned[operator] > found[operator] if operator in MOVING else planned[operator] != found[operator])]
        np.savez(data, **{key: np.stack([feeds[0][key]]) for key in feeds[0]})
        nodes = secateur.run("verify", model.path, target, "--data", data, "--per-node", "--json",
                             env={"ORT_DYLIB_PATH": tool.onnxruntime_library() or ""}).json()["per_node"]
        agreement = nodes["agreement"]
        if nodes["verdict"] != "within" or not agreement["nodes"] >= sum(planned.values()):
            wrong.append(f"in tract and ONNX Runtime, node by node: {nodes['verdict']} {nodes['reasons'][:2]} "
                         f"{agreement['nodes']} results, {nodes['not_checked'][:2]}")
        if wrong or not planned:
            report.failed(label, "; ".join(wrong) or "nothing is planned")
        else:
            report.passed(label, f"{sum(planned.values())} nodes on integers, {len(planned)} operators; {agreement['nodes']} results of "
                                 f"{' and '.join(agreement['engines'])} at most {agreement['most_codes']:.2f} codes apart")


def optimised(path, folder):
    """What ONNX Runtime makes of a model."""
    saved = os.path.join(folder, "optimised.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = saved
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(saved).graph


def integers(graph):
    """How many nodes run on integers, by the ONNX operator that they stand for."""
    codes, found = set(), Counter()
    for node in graph.node:
        if node.op_type in INTEGER:
            found[INTEGER[node.op_type]] += 1
            if node.op_type != "MatMulIntegerToFloat" and not (node.op_type == "QGemm" and len(node.input) < 8):
                codes.update(node.output)
        elif node.op_type == "QuantizeLinear":
            codes.update(node.output)
        elif node.op_type in MOVING and node.input[0] in codes:
            found[node.op_type] += 1
            codes.update(node.output)
    return found


def check_tied(report, secateur, folder):
    """Products share a weight here through Identity: each must read codes, and each code be stored once."""
    name = "arch/real-rxnmap.onnx [tied]"
    if not report.wants(name):
        return
    model = next((model for model in corpus.every_model() if f"{model.name} [tied]" == name), None)
    if model is None:
        report.skipped(name, "SECATEUR_ARCHITECTURES is not set")
        return
    target = os.path.join(folder, "tied.onnx")
    result = secateur.run("quantize-weights", model.path, "-o", target, "--force", "--json")
    if result.code != 0:
        report.failed(name, result.why())
        return
    after = onnx.load(target).graph
    producers = {output: node for node in after.node for output in node.output}
    products = [node for node in after.node if node.op_type == "MatMul"]
    coded = [node for node in products if node.input[1] in producers and producers[node.input[1]].op_type == "DequantizeLinear"]
    left = [node for node in products if node not in coded and any(constant(after, producers, value) for value in node.input)]
    share = size(target) / size(model.path)
    if left or len(coded) != 61 or share > 0.27:
        report.failed(name, f"{len(coded)} of {len(products)} products read codes, {len(left)} constants are left, {share:.3f} of the size")
    else:
        report.passed(name, f"{len(coded)} of {len(products)} products have a constant and read codes, {share:.3f} of the size")


def constant(graph, producers, value):
    """Whether a value depends on no input of the model."""
    pending, seen, inputs = [value], set(), {entry.name for entry in graph.input}
    while pending:
        value = pending.pop()
        if value in inputs:
            return False
        if value in producers and value not in seen:
            seen.add(value)
            pending.extend(entry for entry in producers[value].input if entry)
    return True


IMAGES = {
    "efficientnet_lite0": ("efficientnet-lite", {"QLinearConv": 49, "QLinearAdd": 9}),
    "mobilenet_v2_torchvision_bn": ("torchvision", {"QLinearConv": 52, "QLinearAdd": 10}),
}


def check_fused(report, secateur, folder):
    root = corpus.folder()
    if not root:
        return
    for name, (preprocess, wanted) in IMAGES.items():
        if not report.wants(name):
            continue
        source = os.path.join(root, "models", "pretrained", f"{name}.onnx")
        images = os.path.join(root, "data", "imagenet", "calibration")
        data = os.path.join(folder, "images.yaml")
        with open(data, "w", encoding="utf-8") as file:
            file.write(f"images: {{ folder: {images}, labels: labels.tsv, preprocess: {preprocess} }}\nsamples: 8\n")
        target, optimised = os.path.join(folder, "static.onnx"), os.path.join(folder, "optimised.onnx")
        result = secateur.run("quantize", source, "-o", target, "--data", data, "--force", "--json")
        if result.code != 0:
            report.failed(f"{name} [int8]", result.why())
            continue
        onnx.checker.check_model(target, full_check=True)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = optimised
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(target, options, providers=["CPUExecutionProvider"])
        counts = Counter(node.op_type for node in onnx.load(optimised).graph.node)
        missing = {kind: counts[kind] for kind, count in wanted.items() if counts[kind] != count}
        left = {kind: counts[kind] for kind in ("Conv", "Add", "Clip", "DequantizeLinear") if counts[kind]}
        # What the plan says of each node is what ONNX Runtime makes of it.
        nodes = result.json()["steps"][0]["nodes"]
        planned = Counter(node["operator"] for node in nodes if node["runs"] == "integer")
        wrong = {kind: planned[kind] for kind in ("Conv", "Add") if planned[kind] != counts[f"QLinear{kind}"]}
        if missing or left or wrong:
            report.failed(f"{name} [int8]", f"fused {missing}, left float {left}, planned {wrong}")
        else:
            report.passed(f"{name} [int8]", str(dict(counts)))


FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "fixtures")
OPERATORS = "operators=[Conv,Gemm,MatMul]"


def check_accuracy(report, secateur, folder):
    calibration = os.path.join(FIXTURES, "data", "digits_calib.npz")
    test = np.load(os.path.join(FIXTURES, "data", "digits_test.npz"))["x"][:300].astype(np.float32)
    for model in ("digits_cnn", "digits_vit"):
        if not report.wants(f"{model} [accuracy]"):
            continue
        source = os.path.join(FIXTURES, f"{model}.onnx")
        expected = answers(source, test)
        power = float((expected ** 2).sum())

        def step(verb, origin, *options, name="step"):
            target = os.path.join(folder, f"{name}.onnx")
            result = secateur.run(verb, origin, "-o", target, "--force", "--json", "--data", calibration, *options)
            if result.code != 0:
                raise RuntimeError(f"{verb}: {result.why()}")
            onnx.checker.check_model(target, full_check=True)
            return target

        def noise(path):
            return float(((answers(path, test) - expected) ** 2).sum()) / power

        def rounded(origin, rounding, *options):
            return noise(step("quantize-weights", origin, "--type", "int4", "--set", OPERATORS, "--minimum-elements", "0",
                              "--rounding", rounding, *options, name="rounded"))

        problems = []
        try:
            nearest = rounded(source, "nearest")
            for rounding in ("gptq", "adaround"):
                found = rounded(source, rounding)
                if found > 0.9 * nearest:
                    problems.append(f"{rounding}: {found:.4f} against {nearest:.4f} of nearest codes")
            pipeline = os.path.join(folder, "found.yaml")
            budget = ["--types", "int4", "--types", "int8", "--bits", "5", "--minimum-elements", "0", "--samples", "100"]
            mixed = step("search-precision", source, *budget, "--pipeline", pipeline, "--no-provenance", name="mixed")
            again = os.path.join(folder, "again.onnx")
            result = secateur.run("run", pipeline, source, "-o", again, "--force", "--data",
                                  f"calibration={calibration}", "--no-provenance")
            if result.code != 0:
                raise RuntimeError(f"replay: {result.why()}")
            if open(mixed, "rb").read() != open(again, "rb").read():
                problems.append("the replayed pipeline gives another file")
            bits, elements = stored_bits(mixed)
            if bits > 5 * elements or not noise(mixed) < rounded(source, "gptq"):
                problems.append(f"mixed: {bits / elements:.2f} bits, {noise(mixed):.4f}")
            if model == "digits_cnn":
                statistics = os.path.join(folder, "gram.safetensors")
                result = secateur.run("stats", source, "--for", "gram", "--data", calibration, "-o", statistics, "--force")
                if result.code != 0:
                    problems.append(f"stats: {result.why()}")
                four = ["--type", "int4", "--set", OPERATORS, "--rounding", "gptq", "--no-provenance"]
                data = step("quantize-weights", source, *four, name="data")
                file = step("quantize-weights", source, *four, "--stats", statistics, name="file")
                if open(data, "rb").read() != open(file, "rb").read():
                    problems.append("a statistics file gives other codes than the data it is of")
            if model == "digits_vit":
                blocks = ["--form", "mat-mul-n-bits", "--block", "16"]
                plain, better = rounded(source, "nearest", *blocks), rounded(source, "gptq", *blocks)
                if better > 0.9 * plain:
                    problems.append(f"MatMulNBits: {better:.4f} against {plain:.4f}")
                for verb in ("smooth-quant", "awq"):
                    moved = noise(step(verb, source, name=verb))
                    if moved > 1e-9:
                        problems.append(f"{verb} changes the function by {moved:.2e}")
        except Exception as error:  # noqa: BLE001 - any failure is the finding
            problems.append(str(error)[:300])
        (report.failed if problems else report.passed)(f"{model} [accuracy]", "; ".join(problems))


def check_static_types(report, secateur, folder):
    name = "digits_cnn [static types]"
    if not report.wants(name):
        return
    source = os.path.join(FIXTURES, "digits_cnn.onnx")
    calibration = os.path.join(FIXTURES, "data", "digits_calib.npz")
    test = np.load(os.path.join(FIXTURES, "data", "digits_test.npz"))["x"][:300].astype(np.float32)
    expected = answers(source, test)
    power = float((expected ** 2).sum())
    nodes = onnx.load(source).graph.node
    last = next(node for node in reversed(nodes) if node.op_type in ("Gemm", "MatMul"))
    wide = "layers=[{match: %s, activations: uint16}]" % f"^{last.output[0]}$"

    def noise(*options):
        """Types of the codes of activations and weights, and the share of noise in ONNX Runtime."""
        target = os.path.join(folder, "types.onnx")
        result = secateur.run("quantize", source, "-o", target, "--force", "--json", "--data", calibration,
                              "--profile", "generic", *options)
        if result.code != 0:
            raise RuntimeError(f"{options}: {result.why()}")
        onnx.checker.check_model(target, full_check=True)
        model = onnx.load(target)
        constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        codes = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
        weights = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        found = float(((answers(target, test) - expected) ** 2).sum()) / power
        # What tract computes is what ONNX Runtime computes, but for steps between two codes.
        verdict = secateur.run("verify", source, target, "--json", "--data", calibration).json()["verdict"]
        if verdict == "not-checked":
            raise RuntimeError(f"{options}: tract does not run it")
        return ({constants[name] for name in codes}, {constants[name] for name in weights if name in constants}, found)

    problems = []

    def expect(what, holds):
        if not holds:
            problems.append(what)

    try:
        byte, word, four, eight = TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT4, TensorProto.FLOAT8E4M3FN
        plain = noise()
        expect(f"int8: {plain}", plain[0] == {byte} and plain[2] < 0.01)
        mixed = noise("--set", wide)
        expect(f"mixed: {mixed}", mixed[0] == {byte, word} and mixed[2] < 0.01)
        all_wide = noise("--scheme", "int16")
        expect(f"int16: {all_wide}", all_wide[0] == {word} and all_wide[2] < plain[2])
        floats = noise("--scheme", "float8", "--set", "calibrate=min-max")
        expect(f"float8: {floats}", floats[0] == {eight} and floats[1] == {eight} and floats[2] < 0.02)
        nearest = noise("--weights", "int4")
        expect(f"int4: {nearest}", four in nearest[1] and nearest[0] == {byte})
        found = {rounding: noise("--weights", "int4", "--rounding", rounding)[2] for rounding in ("gptq", "adaround")}
        expect(f"int4: {found} against {nearest[2]:.4f}", max(found.values()) < 0.9 * nearest[2])
    except Exception as error:  # noqa: BLE001 - any failure is the finding
        problems.append(str(error)[:300])
    note = "" if problems else (f"int8 {plain[2]:.5f}, one layer uint16 {mixed[2]:.5f}, int16 {all_wide[2]:.5f}, float8 {floats[2]:.5f}, "
                                f"int4 {nearest[2]:.4f}, " + ", ".join(f"{key} {value:.4f}" for key, value in found.items()))
    (report.failed if problems else report.passed)(name, "; ".join(problems) or note)


def answers(path, x):
    run = runtime.session(path)
    name = run.get_inputs()[0].name
    shape = run.get_inputs()[0].shape
    if isinstance(shape[0], int):
        return np.concatenate([run.run(None, {name: row.reshape(shape)})[0] for row in x])
    return run.run(None, {name: x.reshape([len(x)] + shape[1:])})[0]


def stored_bits(path):
    """Bits of the codes of weights, and how many there are."""
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    bits = elements = 0
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            tensor = constants[node.input[0]]
            count = int(np.prod(tensor.dims))
            bits += count * (4 if tensor.data_type == TensorProto.INT4 else 8)
            elements += count
    return bits, elements
