"""What calibration sees, against ONNX Runtime and numpy.

* Every value of every model (the smaller ones by default, all with SECATEUR_CROSS_LARGE=1) that `stats` collects: extremes, numbers of
  elements and histograms are those of ONNX Runtime's values of all samples, sample by sample, in batches whose last one is short,
  and with a batch size that the file fixes, whose last batch is filled up with repeats.
* Static int8 of transformers and recurrent models is within 1 dB of the same plan with ranges from ONNX Runtime and numpy.
* Small random nets of convolution, attention and recurrent layers, batch first and sequence first, with a fixed and a free batch: what
  `quantize` writes is within 1 dB of fake quantization at the same places, ranges, scales and codes computed here from the float
  values of all samples. SECATEUR_CROSS_NETS says how many (default 30) and SECATEUR_CROSS_SEED where they begin.
"""

import json
import os
import tempfile

import numpy as np
import onnx
from onnx import helper
from safetensors import safe_open
from safetensors.numpy import save_file

import corpus
import nets
import runtime

SMALL = 3 << 20
LARGE = os.environ.get("SECATEUR_CROSS_LARGE") == "1"
SAMPLES = 5
NETS = int(os.environ.get("SECATEUR_CROSS_NETS", "30"))
SEED = int(os.environ.get("SECATEUR_CROSS_SEED", "0"))

#: Operators whose results are codes.
CODES = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}

#: Models whose static int8 is compared with a reference calibration.
REFERENCES = (
    "models/trained/digits_vit.onnx", "models/trained/digits_vit_dynamo.onnx", "models/trained/digits_gru.onnx",
    "models/trained/digits_gru_dynamo.onnx", "models/trained/lstm128_mnist.onnx", "models/trained/lstm128_mnist_dynamo.onnx",
    "models/trained/vit_d64x4_mnist.onnx", "arch/ts-swin_t.onnx", "arch/ts-bert_mini.onnx", "arch/dynamo-bert_mini.onnx",
    "arch/ts-gpt2_mini.onnx", "arch/dynamo-gpt2_mini.onnx",
)


def check(report, secateur):
    with tempfile.TemporaryDirectory(prefix="secateur-calibration-") as folder:
        check_values(report, secateur, folder)
        check_references(report, secateur, folder)
        check_nets(report, secateur, folder)


class Values:
    """The float values of a model over samples, by ONNX Runtime; summed up model run by model run, so that memory is bounded."""

    def __init__(self, path, names):
        model = onnx.load(path)
        inputs = {value.name for value in model.graph.input}
        known = {value.name for value in model.graph.output}
        for name in names:
            if name not in known and name not in inputs:
                model.graph.output.append(helper.make_empty_tensor_value_info(name))
        self.names = list(names)
        self.session = runtime.session(model.SerializeToString())

    def run(self, feed):
        found = {**feed, **runtime.run(self.session, feed)}
        return {name: found[name] for name in self.names}


def prepared(secateur, model, folder):
    """The model as `quantize` and `stats` make it ready."""
    path = os.path.join(folder, "prepared.onnx")
    result = secateur.run("simplify", model, "-o", path, "--force", "--json")
    return path if result.code == 0 else None


def read_statistics(path):
    """Fields by value, and the metadata."""
    values = {}
    with safe_open(path, "np") as file:
        for key in file.keys():
            value, field = key.removeprefix("quantize/").rsplit("/", 1)
            values.setdefault(value, {})[field] = file.get_tensor(key)
        return values, file.metadata()


def rows(model, count):
    """`count` samples of a model, stacked along the first axis of each input; None where the recipe has no batch of one."""
    feeds = [model.inputs(11 + number) for number in range(count)]
    if any(value.ndim == 0 or value.shape[0] != 1 for value in feeds[0].values()):
        return None
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def check_values(report, secateur, folder):
    for model in corpus.every_model():
        if not report.wants(model.name):
            continue
        if not report.only and not LARGE and os.path.getsize(model.path) > SMALL:
            report.skipped(model.name, "only with SECATEUR_CROSS_LARGE=1 or when it is named with --only")
            continue
        if CODES & {node.op_type for node in onnx.load(model.path, load_external_data=False).graph.node}:
            report.skipped(model.name, "it computes on codes, which engines round to either side")
            continue
        declared = {value.name: value for value in onnx.load(model.path, load_external_data=False).graph.input}
        stacked = rows(model, SAMPLES)
        first = [declared[name].type.tensor_type.shape.dim[:1] for name in model.recipe if name in declared]
        free = stacked is not None and all(dims and dims[0].dim_param for dims in first)
        whole = {name: value[:, None] for name, value in stacked.items()} if stacked is not None else \
            {name: np.stack([model.inputs(11 + at)[name] for at in range(SAMPLES)]) for name in model.recipe}
        compare_values(report, secateur, folder, model, "samples", model.path, whole, None)
        if not free:
            continue
        compare_values(report, secateur, folder, model, "batches", model.path, stacked, 3)
        symbols = sorted({dims[0].dim_param for dims in first})
        fixed = os.path.join(folder, "fixed.onnx")
        sizes = [word for symbol in symbols for word in ("--bind", f"{symbol}=4")]
        result = secateur.run("bind", model.path, "-o", fixed, "--force", *sizes)
        graph = onnx.load(fixed, load_external_data=False).graph if result.code == 0 else None
        if graph is None or graph.input[0].type.tensor_type.shape.dim[0].dim_value != 4:
            report.skipped(f"{model.name} [fixed]", result.why() if graph is None else "the batch size is not bound")
        else:
            compare_values(report, secateur, folder, model, "fixed", fixed, stacked, 4)


def compare_values(report, secateur, folder, model, mode, path, arrays, batch):
    """`batch`: samples of a run, or None where each entry of the arrays is a whole input."""
    name = f"{model.name} [{mode}]"
    data, spec, target = (os.path.join(folder, file) for file in ("d.npz", "d.yaml", "s.safetensors"))
    np.savez(data, **arrays)
    with open(spec, "w", encoding="utf-8") as file:
        file.write("npz: d.npz\n" + (f"batch: {batch}\n" if batch and mode == "batches" else ""))
    result = secateur.run("stats", path, "--data", spec, "-o", target, "--force", "--json")
    if result.code != 0:
        report.skipped(name, result.why())
        return
    found, _ = read_statistics(target)
    if not found:
        report.skipped(name, "nothing to quantize")
        return
    # The model with a free batch gives each sample's values alone.
    source = prepared(secateur, model.path, folder)
    graph = onnx.load(source).graph if source else None
    there = {output for node in graph.node for output in node.output} | {value.name for value in graph.input} if graph else set()
    names = sorted(set(found) & there)
    if not names:
        report.skipped(name, "no value has a name that stays")
        return
    try:
        reference = Values(source, names)
        single = [{key: (value[at] if batch is None else value[at:at + 1]) for key, value in arrays.items()}
                  for at in range(SAMPLES)]
        ran = [reference.run(feed) for feed in single]
        pair = reference.run({key: value[:2] for key, value in arrays.items()}) if batch else None
    except Exception as error:  # noqa: BLE001 - a model that ONNX Runtime refuses says nothing about ours
        report.skipped(name, f"does not run: {str(error)[:100]}")
        return
    wrong = []
    moving = depending(graph)
    for value in names:
        elements = [sample[value] for sample in ran]
        runs = SAMPLES
        if batch and pair[value].size == elements[0].size:
            runs = -(-SAMPLES // batch)  # It has no samples: each run has it once.
        wrong += differences(value, found[value], elements, runs if value in moving else None)
    if wrong:
        report.failed(name, f"{len(wrong)} of {len(names)}: " + "; ".join(wrong[:4]))
    else:
        report.passed(name, f"{len(names)} values")


def depending(graph):
    """Values that depend on the elements of the inputs, and not on their sizes alone."""
    found = {value.name for value in graph.input}
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and found & set(node.input):
            found.update(node.output)
    return found


def differences(name, fields, elements, runs):
    """`runs`: how often the value was seen; None where that does not matter."""
    low, high = min(float(part.min()) for part in elements), max(float(part.max()) for part in elements)
    size = max(high - low, abs(low), abs(high), 1e-30)
    if max(abs(fields["extremes"][0] - low), abs(fields["extremes"][1] - high)) > 2e-3 * size + 1e-6:
        return [f"{name}: extremes {fields['extremes'].tolist()} instead of {[low, high]}"]
    if runs is None:
        return []
    total = sum(part.size for part in elements) * runs // len(elements)
    if int(fields["count"][0]) != total or int(fields["counts"].sum()) != total:
        return [f"{name}: {int(fields['count'][0])} elements instead of {total}"]
    # Codes are near each other if the distribution functions are: bins may differ where rounding moves a value over an edge.
    bound = 2.0 ** int(fields["exponent"][0])
    counts, edges = fields["counts"].reshape(-1), np.linspace(-bound, bound, fields["counts"].size + 1)
    every = np.sort(np.concatenate([part.reshape(-1) for part in elements])).astype(np.float64)
    share = np.cumsum(counts) / total
    slack = 2e-3 * size
    below = np.searchsorted(every, edges[1:] - slack, side="left") / every.size
    above = np.searchsorted(every, edges[1:] + slack, side="right") / every.size
    if (share < below - 1e-9).any() or (share > above + 1e-9).any():
        return [f"{name}: another histogram"]
    return []


def check_references(report, secateur, folder):
    known = {model.name: model for model in corpus.every_model()}
    for wanted in REFERENCES:
        name = f"{wanted} [reference]"
        if not report.wants(name):
            continue
        if wanted not in known:
            report.skipped(name, "not in the corpus")
            continue
        if "swin" in wanted and not LARGE and not report.only:
            report.skipped(name, "only with SECATEUR_CROSS_LARGE=1 or when it is named with --only")
            continue
        problem = compare_with_reference(secateur, folder, known[wanted])
        (report.failed if problem.startswith("!") else report.passed)(name, problem.lstrip("!"))


def compare_with_reference(secateur, folder, model):
    samples = model.inputs
    inputs = real_data(model) or [samples(100 + at) for at in range(16)]
    calibration, held_out = inputs[:8], inputs[8:]
    data, statistics, ours, theirs, altered = (
        os.path.join(folder, file) for file in ("r.npz", "r.safetensors", "ours.onnx", "theirs.onnx", "altered.safetensors"))
    np.savez(data, **{key: np.stack([feed[key] for feed in calibration]) for key in calibration[0]})
    options = ["--set", "calibrate=min-max", "--force", "--json"]
    result = secateur.run("quantize", model.path, "-o", ours, "--data", data, *options)
    if result.code != 0:
        return "!" + result.why()
    result = secateur.run("stats", model.path, "--data", data, "-o", statistics, "--force", "--json")
    if result.code != 0:
        return "!" + result.why()
    values, metadata = read_statistics(statistics)
    source = prepared(secateur, model.path, folder)
    graph = onnx.load(source).graph
    there = {output for node in graph.node for output in node.output} | {value.name for value in graph.input}
    reference = Values(source, [name for name in values if name in there])
    low, high = {}, {}
    for feed in calibration:
        for name, value in reference.run(feed).items():
            low[name] = min(low.get(name, np.inf), float(value.min()))
            high[name] = max(high.get(name, -np.inf), float(value.max()))
    replaced = 0
    for name in low:
        values[name]["extremes"] = np.array([low[name], high[name]], np.float32)
        replaced += 1
    save_file({f"quantize/{name}/{field}": array for name, fields in values.items() for field, array in fields.items()},
              altered, metadata)
    result = secateur.run("quantize", model.path, "-o", theirs, "--stats", altered, *options)
    if result.code != 0:
        return "!" + result.why()
    float_session, sessions = runtime.session(model.path), [runtime.session(path) for path in (ours, theirs)]
    found = [signal_to_noise(float_session, session, held_out) for session in sessions]
    words = f"{found[0]:.2f} dB, with the ranges of ONNX Runtime {found[1]:.2f} dB ({replaced} of {len(values)} values)"
    return ("" if found[0] > found[1] - 1 and replaced >= 0.8 * len(values) else "!") + words


def real_data(model):
    """Samples that a model was trained for, where the corpus has them."""
    root = corpus.folder()
    if "digits" in model.name:
        x = np.load(os.path.join(root, "data", "digits_calib.npz"))["x"]
    elif "mnist" in model.name:
        x = np.load(os.path.join(root, "data", "mnist_u8.npz"))["x_train"][:64].astype(np.float32) / 255
        x = ((x - 0.1307) / 0.3081).reshape(-1, 1, 28, 28).astype(np.float32)
    else:
        return None
    (name,) = model.recipe
    return [{name: x[at:at + 1].reshape(model.recipe[name]["shape"])} for at in range(64)]


def signal_to_noise(reference, other, feeds):
    """SQNR in dB over the float outputs."""
    signal = noise = 0.0
    for feed in feeds:
        expected, found = runtime.run(reference, feed), runtime.run(other, feed)
        for name, value in expected.items():
            if isinstance(value, np.ndarray) and value.dtype == np.float32:
                signal += float((value.astype(np.float64) ** 2).sum())
                noise += float(((value.astype(np.float64) - found[name]) ** 2).sum())
    return decibels(signal, noise)


def decibels(signal, noise):
    return 10 * np.log10(signal / max(noise, 1e-30 * signal, 1e-300)) if signal > 0 else 200.0


def check_nets(report, secateur, folder):
    for number in range(SEED, SEED + NETS):
        net = nets.random_net(number)
        name = f"net {number} {net.kind}"
        if not report.wants(name):
            continue
        problem = compare_net(secateur, folder, net)
        (report.failed if problem.startswith("!") else report.passed)(name, problem.lstrip("!"))


def compare_net(secateur, folder, net):
    source, data, spec, target = (os.path.join(folder, file) for file in ("n.onnx", "n.npz", "n.yaml", "n_q.onnx"))
    onnx.checker.check_model(net.model, full_check=True)
    onnx.save(net.model, source)
    np.savez(data, **{net.input: net.calibration})
    with open(spec, "w", encoding="utf-8") as file:
        file.write("npz: n.npz\n" + (f"batch: {net.batch}\n" if not net.fixed else ""))
    result = secateur.run("quantize", source, "-o", target, "--data", spec, "--set", "calibrate=min-max", "--force", "--json",
                          *net.options)
    if result.code != 0:
        return "!" + result.why()
    onnx.save(net.free, os.path.join(folder, "free.onnx"))
    ready = prepared(secateur, os.path.join(folder, "free.onnx"), folder)
    simple, result = onnx.load(ready), onnx.load(target)
    onnx.checker.check_model(result, full_check=True)
    reference, pairs = nets.reference(net, simple, result)
    if pairs == 0:
        return "!nothing was quantized: " + json.dumps(net.options)
    float_session = runtime.session(source)
    ours = nets.noise(float_session, runtime.session(target), net)
    theirs = nets.noise(float_session, runtime.session(reference.SerializeToString()), net)
    words = f"{decibels(*ours):.2f} dB, the reference {decibels(*theirs):.2f} dB, {pairs} pairs"
    return ("" if decibels(*ours) > decibels(*theirs) - 1 else "!") + words
