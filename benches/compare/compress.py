#!/usr/bin/env python3
"""Bytes of packed models beside other coders, without loss, with little loss and after training, as Markdown tables.

usage: compress.py --secateur BIN --corpus DIR --peers PYTHON [--work DIR] [--parts lossless,lossy,training] [--only TEXT]
                   [-o docs/compress-table.md]

PYTHON is an interpreter with requirements-compress.txt; rows of tools that it lacks are left out. ONNX Runtime judges all models
with the same code. What takes long is kept in the folder of --work and used again while tool, model and setting are the same; the
models that training made stay there until the pipeline changes, whatever becomes of secateur.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 3
CIFAR = ([.4914, .4822, .4465], [.2470, .2435, .2616])
IMAGENET = ([.485, .456, .406], [.229, .224, .225])

# Title, model, type of its weights, how the model is made where the corpus has none.
LOSSLESS = [
    ("MobileNetV2", "pretrained/mobilenet_v2_torchvision_bn.onnx", "float32", None),
    ("EfficientNet-Lite0", "pretrained/efficientnet_lite0.onnx", "float32", None),
    ("LeNet-5", "trained/lenet5_mnist.onnx", "float32", None),
    ("PP-OCRv4 detection", "real/pypi-rapidocr-onnxruntime/ch_PP-OCRv4_det_infer.onnx", "float32", None),
    ("NanoDet-m", "real/github-nanodet/nanodet_m.onnx", "float32", None),
    ("MobileNetV2", "pretrained/mobilenet_v2_torchvision_bn.onnx", "float16", "half"),
    ("LeNet-5", "quantized/lenet5_mnist_fp16.onnx", "float16", None),
    ("MobileNetV2", "pretrained/mobilenet_v2_torchvision_bn.onnx", "bfloat16", "brain"),
    ("EfficientNet-Lite0", "pretrained/efficientnet_lite0.onnx", "int8", "quantize"),
    ("LeNet-5, per channel", "quantized/lenet5_mnist_qdq_pc_s8s8.onnx", "int8", None),
    ("LeNet-5, per tensor", "quantized/lenet5_mnist_qdq_pt_u8s8.onnx", "int8", None),
    ("ResNet-8, per channel", "quantized/resnet8_cifar10_qdq_pc_s8s8.onnx", "int8", None),
    ("ViT d64x4, per tensor", "quantized/vit_d64x4_mnist_qdq_pt_u8s8.onnx", "int8", None),
    ("Text vocaliser", "real/pypi-text2tashkeel/rawi.int8.onnx", "int8", None),
]

# Bits a weight that `compress` is asked for, and settings of nncodec: as it comes, and what made smaller files of the models here. On the LeNets
# steps by the deviation of each tensor and no dependent quantization were worse, and a codebook changed nothing.
LOSSY = {
    "MobileNetV2": {
        "model": "pretrained/mobilenet_v2_torchvision_bn.onnx", "data": "imagenet", "preprocess": "torchvision",
        "bits": [2.5, 2.75, 3, 3.25, 3.5, 4],
        "nncodec": [{"qp": qp} for qp in (-28, -30, -32)]
        + [{"qp": qp, "nonweight_qp": -48, "opt_qp": True, "bnf": True} for qp in (-36, -38)]
        + [{"qp": qp, "nonweight_qp": -48, "opt_qp": True, "bnf": True, "lambda_scale": scale}
           for scale, qps in ((.5, (-33, -34, -35, -36, -37, -38)), (1, (-35, -36, -37, -38))) for qp in qps],
    },
    "EfficientNet-Lite0": {
        "model": "pretrained/efficientnet_lite0.onnx", "data": "imagenet", "preprocess": "efficientnet-lite",
        "bits": [2.5, 2.75, 3, 3.25, 3.5, 4],
        "nncodec": [{"qp": qp} for qp in (-28, -30, -32)]
        + [{"qp": qp, "nonweight_qp": -44, "opt_qp": True} for qp in (-32, -34, -36, -38)]
        + [{"qp": qp, "nonweight_qp": -44, "opt_qp": True, "lambda_scale": scale}
           for scale, qps in ((.5, (-32, -33, -34, -35, -36, -37, -38)), (1, (-34, -36, -38))) for qp in qps],
    },
    "ResNet-8": {
        "model": "trained/resnet8_cifar10.onnx", "data": "cifar10", "preprocess": None,
        "bits": [1.5, 1.75, 2, 2.25, 2.5, 3],
        "nncodec": [{"qp": qp, **more} for qp in (-16, -18, -20, -22, -24, -26, -28, -32) for more in ({}, {"nonweight_qp": -36})]
        + [{"qp": qp, "nonweight_qp": -36, "opt_qp": True, **more} for qp in (-20, -22, -24, -26, -28, -30) for more in ({}, {"lambda_scale": .5})],
    },
    "LeNet-300-100": {
        "model": "trained/lenet_300_100_mnist.onnx", "data": "mnist", "preprocess": "mnist",
        "bits": [.5, .6, .75, 1, 1.25, 1.5, 2, 2.5],
        "nncodec": [{"qp": qp, **more} for qp in (-18, -19, -20, -21, -22, -24, -26, -28) for more in ({}, {"nonweight_qp": -32})]
        + [{"qp": qp, "nonweight_qp": -32, **more} for qp in (-22, -23, -24, -26, -28) for more in ({"opt_qp": True}, {"lambda_scale": .5})],
    },
    "LeNet-5": {
        "model": "trained/lenet5_mnist.onnx", "data": "mnist", "preprocess": "mnist",
        "bits": [.4, .45, .5, .75, 1, 1.25, 1.5, 2],
        "nncodec": [{"qp": qp, **more} for qp in (-17, -18, -19, -20, -22, -24, -26, -28) for more in ({}, {"nonweight_qp": -32})]
        + [{"qp": qp, "nonweight_qp": -32, **more} for qp in (-21, -22, -23, -24, -26) for more in ({"opt_qp": True}, {"lambda_scale": .5})],
    },
}

# Pipeline and bits a weight that is left to try on its result.
TRAINING = {
    "LeNet-300-100": ("lenet300.yaml", [.2, .25, .3, .35, .4]),
    "LeNet-5": ("lenet5.yaml", [.4, .5, .6, .7, .8]),
}


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def processor_time(*words):
    """Seconds of the processor that a command takes, so that a busy machine says the same as an idle one."""
    process = subprocess.Popen(words)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)}: exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def digest(path):
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=8).hexdigest()


class Kept:
    """Answers that were found before, by what was asked."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "found.json")
        self.found = {}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self.found = json.load(file)

    def get(self, question, function):
        key = json.dumps(question)
        if key not in self.found:
            self.found[key] = function()
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                json.dump(self.found, file, indent=0)
            os.replace(self.path + ".new", self.path)
        return self.found[key]


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), options,
                                        providers=["CPUExecutionProvider"])


def classes(model, samples):
    """The class that the model finds in each sample."""
    run = session(model)
    entry = run.get_inputs()[0]
    batch = 1 if isinstance(entry.shape[0], int) else 100
    parts = [run.run(None, {entry.name: samples[at:at + batch]})[0].reshape(min(batch, len(samples) - at), -1).argmax(1)
             for at in range(0, len(samples), batch)]
    return np.concatenate(parts)


def pixels(values, mean, deviation):
    mean, deviation = (np.array(row, np.float32).reshape(1, -1, 1, 1) for row in (mean, deviation))
    return ((values.astype(np.float32) / 255 - mean) / deviation).astype(np.float32)


def photos(folder, preprocess):
    with open(os.path.join(folder, "labels.tsv"), encoding="utf-8") as file:
        rows = [line.split("\t") for line in file.read().split("\n")[1:] if line]
    values = np.stack([np.asarray(Image.open(os.path.join(folder, name)).convert("RGB")).transpose(2, 0, 1) for name, _ in rows])
    if preprocess == "efficientnet-lite":
        return (values.astype(np.float32) - 127) / 128, np.array([int(label) for _, label in rows])
    return pixels(values, *IMAGENET), np.array([int(label) for _, label in rows])


def evaluation(corpus, data, preprocess):
    """Samples with labels: those of the figures, and for MNIST the last 5,000 training images, which training does not see."""
    if data == "imagenet":
        return photos(os.path.join(corpus, "data", "imagenet", "evaluation"), preprocess), None
    if data == "cifar10":
        with np.load(os.path.join(corpus, "data", "cifar10_test2000_u8.npz")) as file:
            return (pixels(file["x"], *CIFAR), file["y"]), None
    with np.load(os.path.join(corpus, "data", "mnist_u8.npz")) as file:
        images = lambda array: pixels(array.reshape(-1, 1, 28, 28), .1307, .3081)
        return (images(file["x_test"]), file["y_test"]), (images(file["x_train"][-5000:]), file["y_train"][-5000:])


def calibration(corpus, data, preprocess, entry):
    """A description of 64 samples without labels."""
    path = os.path.join(corpus, "data")
    if data == "imagenet":
        return {"images": {"folder": os.path.join(path, "imagenet", "calibration"), "preprocess": preprocess}}
    if data == "cifar10":
        fields = {"scale": 1 / 255, "mean": CIFAR[0], "std": CIFAR[1], "layout": "nchw"}
        return {"npz": os.path.join(path, "cifar10_train10000_u8.npz"), "inputs": {entry: "x"}, "preprocess": fields, "samples": 64, "seed": 1}
    return {"npz": os.path.join(path, "mnist_u8.npz"), "inputs": {entry: "x_train"}, "preprocess": "mnist", "samples": 64, "seed": 1}


def weights(model):
    """The float32 constants of a model that other tools code; scalars stay in the graph."""
    return [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > 1]


def hollow(model, tensors):
    """The bytes of a model without the values of some constants."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    names = {tensor.name for tensor in tensors}
    for tensor in bare.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.ClearField("int32_data")
    return bare.SerializeToString()


def normalizations(model):
    """For each batch normalization behind a convolution the names of its constants and of the convolution's weight."""
    makers = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type == "BatchNormalization" and before is not None and before.op_type == "Conv":
            found.append({"weight": before.input[1], **dict(zip(("bn.gamma", "bn.beta", "bn.mean", "bn.var"), node.input[1:5]))})
    return found


def saving(ours, theirs):
    """How much smaller ours are in the mean at equal agreement, where the agreements of both overlap: between the settings that no other
    one of the tool beats, the logarithm of the bytes runs straight over that of the share of disagreements."""
    curves = []
    for settings in (ours, theirs):
        best, places, sizes = -1.0, [], []
        for found in sorted(settings, key=lambda one: one["bytes"]):
            if found["agree"] > best:
                best = found["agree"]
                places.append(-np.log(100.02 - best))
                sizes.append(np.log(found["bytes"]))
        curves.append((places, sizes))
    if not all(places for places, _ in curves):
        return None
    low, high = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    if low >= high:
        return None
    at = np.linspace(low, high, 101)
    return 100 * (1 - float(np.exp((np.interp(at, *curves[0]) - np.interp(at, *curves[1])).mean())))


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.kept = arguments, folder, Kept(folder)
        self.secateur, self.corpus = arguments.secateur, os.path.abspath(arguments.corpus)
        self.binary = digest(self.secateur)
        self.versions = json.loads(self.peer("versions")) if arguments.peers else {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def model(self, name):
        return os.path.join(self.corpus, "models", name)

    def described(self, name, document):
        with open(self.path(name), "w", encoding="utf-8") as file:
            json.dump(document, file)
        return self.path(name)

    def peer(self, *words):
        return run(self.arguments.peers, os.path.join(HERE, "compress_peers.py"), *words).strip().split("\n")[-1]

    def wanted(self, title):
        return re.search(r"\b" + re.escape(self.arguments.only), title, re.I) is not None

    # Without loss

    def made(self, source, how):
        """A model that the corpus does not have."""
        target = self.path("made.onnx")
        if how == "half":
            run(self.secateur, "convert-float", source, "-o", target, "--to", "float16", "--no-verify", "--force", "-qq")
        elif how == "quantize":
            data = self.described("data.yaml", calibration(self.corpus, "imagenet", "efficientnet-lite", "input"))
            run(self.secateur, "quantize", source, "-o", target, "--data", f"calibration={data}", "--no-verify", "--force", "-qq")
        else:
            tensors = []
            for tensor in weights(onnx.load(source)):
                bits = numpy_helper.to_array(tensor).view(np.uint32)
                # To the nearest, and of two as near to the even one.
                halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
                tensors.append(helper.make_tensor(tensor.name, TensorProto.BFLOAT16, tensor.dims, halves.tobytes(), raw=True))
            outputs = [helper.make_tensor_value_info(f"y{at}", TensorProto.BFLOAT16, list(tensor.dims)) for at, tensor in enumerate(tensors)]
            nodes = [helper.make_node("Identity", [tensor.name], [f"y{at}"]) for at, tensor in enumerate(tensors)]
            onnx.save(helper.make_model(helper.make_graph(nodes, "weights", [], outputs, tensors)), target)
        return target

    def packed(self, source, speed):
        target, again = self.path("model.sct"), self.path("again.onnx")
        run(self.secateur, "pack", source, "-o", target, "--speed", speed, "--force", "-qq")
        seconds = min(processor_time(self.secateur, "unpack", target, "-o", again, "--jobs", "1", "--force", "-qq") for _ in range(ROUNDS))
        if digest(source) != digest(again):
            sys.exit(f"{source} is not what it was after unpack")
        return {"bytes": os.path.getsize(target), "seconds": seconds}

    def zipnn(self, path, kind):
        """Its best answer, or none: on some files without floats it ends with a damaged heap."""
        found = []
        for dtype in [kind] if "float" in kind else ["float32", "float16", "bfloat16"]:
            done = subprocess.run([self.arguments.peers, os.path.join(HERE, "compress_peers.py"), "zipnn", path, dtype],
                                  capture_output=True, text=True, check=False)
            found += [json.loads(done.stdout.strip().split("\n")[-1])] if done.returncode == 0 else []
        return min(found, key=lambda one: one["bytes"], default=None)

    def others(self, source, kind):
        """zipnn, on the file or on the constants one behind the other, whichever is smaller, and zstd."""
        model = onnx.load(source)
        tensors = [tensor for tensor in model.graph.initializer if tensor.raw_data]
        with open(self.path("constants.bin"), "wb") as file:
            file.writelines(tensor.raw_data for tensor in tensors)
        with open(self.path("graph.bin"), "wb") as file:
            file.write(hollow(model, tensors))
        whole, apart = self.zipnn(source, kind), self.zipnn(self.path("constants.bin"), kind)
        if apart:
            graph = json.loads(self.peer("zstd", self.path("graph.bin")))
            apart = {key: apart[key] + graph[key] for key in apart}
        found = [one for one in (whole, apart) if one]
        return {"zipnn": min(found, key=lambda one: one["bytes"], default=None), "zstd": json.loads(self.peer("zstd", source))}

    def lossless(self):
        sizes = ["| model | weights | bytes | secateur, small | secateur, fast | zipnn | zstd -19 |", "|---|---|---:|---:|---:|---:|---:|"]
        times = ["| model | weights | secateur, small | secateur, fast | zipnn | zstd -19 |", "|---|---|---:|---:|---:|---:|"]
        for title, name, kind, how in LOSSLESS:
            if not self.wanted(title):
                continue
            source = self.model(name)
            source = self.made(source, how) if how else source
            found = {f"secateur, {speed}": self.kept.get(["pack", self.binary, digest(source), speed], lambda: self.packed(source, speed))
                     for speed in ("small", "fast")}
            if "zipnn" in self.versions:
                found |= self.kept.get(["others", self.versions, digest(source), kind], lambda: self.others(source, kind))
            size = os.path.getsize(source)
            order = [found.get(tool) for tool in ("secateur, small", "secateur, fast", "zipnn", "zstd")]
            least = min(one["bytes"] for one in order if one)
            share = [f"{one['bytes']:,} ({100 * one['bytes'] / size:.1f} %)" if one else "" for one in order]
            share = [f"**{text}**" if one and one["bytes"] == least else text for text, one in zip(share, order)]
            speed = [f"{one['seconds']:.4f} s, {size / 1e6 / one['seconds']:,.0f} MB/s" if one else "" for one in order]
            sizes.append(f"| {title} | {kind} | {size:,} | " + " | ".join(share) + " |")
            times.append(f"| {title} | {kind} | " + " | ".join(speed) + " |")
            print(sizes[-1], flush=True)
        return ["## Without loss", "",
                "Bytes of the whole file packed, and what share that is. zipnn gets the file or its constants one behind the other with the rest",
                "by zstd -19, whichever is smaller, and the type of the weights where it has that.", "", *sizes, "",
                f"Decoding, the fastest of {ROUNDS} runs on one thread: seconds of the processor, and MB of the model a second. secateur's are those of the",
                "whole process, with start, checks of all digests and the written file; the others' those of one call from memory to memory.", "",
                *times, ""]

    # With loss

    def judged(self, model, samples, labels, reference):
        found = classes(model, samples)
        return {"top": 100 * float((found == labels).mean()), "agree": 100 * float((found == reference).mean())}

    def nncodec(self, source, options, judge):
        model = onnx.load(source)
        tensors = weights(model)
        np.savez(self.path("weights.npz"), **{tensor.name: numpy_helper.to_array(tensor) for tensor in tensors})
        asked = {**options, "blocks": normalizations(model)}
        answer = json.loads(self.peer("nncodec", self.path("weights.npz"), self.path("decoded.npz"), json.dumps(asked)))
        with open(self.path("graph.bin"), "wb") as file:
            file.write(hollow(model, tensors))
        graph = json.loads(self.peer("zstd", self.path("graph.bin")))["bytes"]
        with np.load(self.path("decoded.npz")) as decoded:
            for tensor in tensors:
                tensor.CopyFrom(numpy_helper.from_array(decoded[tensor.name].astype(np.float32), tensor.name))
        return {**answer, "bytes": answer["bytes"] + graph, "graph": graph, **judge(model)}

    def compressed(self, source, bits, data, judges):
        """A model compressed to so many bits a weight and packed, or none where scales alone take more."""
        target, packed = self.path("compressed.onnx"), self.path("compressed.sct")
        words = [word.replace("BITS", f"{bits:g}") for word in shlex.split(self.arguments.verb)]
        start = time.perf_counter()
        done = subprocess.run([self.secateur, words[0], source, "-o", target, *words[1:], "--data", f"calibration={data}",
                               "--no-verify", "--force", "-qq"], capture_output=True, text=True, check=False)
        if "cannot be reached" in done.stderr:
            return None
        if done.returncode != 0:
            sys.exit(f"{' '.join(words)}: {done.stderr}")
        seconds = time.perf_counter() - start
        run(self.secateur, "pack", target, "-o", packed, "--force", "-qq")
        found = {"bytes": os.path.getsize(packed), "seconds": seconds}
        for judge in judges:
            found |= judge(target)
        return found

    def lossy(self):
        lines = ["## With loss, without training", "",
                 "64 unlabelled images for calibration. nncodec's bytes are its bit-stream and the model without its weights by zstd -19; secateur's the",
                 "container. Ratio to the float file; top-1 and agreement with the float model in per cent. Settings that another one of the same tool beats in",
                 "bytes and in top-1 are left out.", "",
                 "| model | tool | setting | bytes | ratio | top-1 | agreement |", "|---|---|---|---:|---:|---:|---:|"]
        summary = ["| model | float top-1 | secateur, loss <= 1 | nncodec, loss <= 1 | smaller by | at equal accuracy | smaller by | "
                   "at equal agreement |",
                   "|---|---:|---:|---:|---:|---:|---:|---:|"]
        for title, row in LOSSY.items():
            if not self.wanted(title):
                continue
            source = self.model(row["model"])
            size, name = os.path.getsize(source), digest(source)
            (samples, labels), _ = evaluation(self.corpus, row["data"], row["preprocess"])
            reference = classes(source, samples)
            top = 100 * float((reference == labels).mean())
            judge = lambda model: self.judged(model, samples, labels, reference)
            data = self.described("data.yaml", calibration(self.corpus, row["data"], row["preprocess"], session(source).get_inputs()[0].name))
            tools = {"secateur": [], "nncodec": []}
            for bits in self.arguments.bits or row["bits"]:
                found = self.kept.get(["compress", self.binary, name, self.arguments.verb, bits],
                                      lambda: self.compressed(source, bits, data, [judge]))
                tools["secateur"] += [(f"{bits:g} bits", found)] if found else []
                print(title, "secateur", bits, found, flush=True)
            for options in row["nncodec"] if "nncodec" in self.versions else []:
                found = self.kept.get(["nncodec", self.versions["nncodec"], name, options], lambda: self.nncodec(source, options, judge))
                setting = ", ".join(key if value is True else f"{key} {value}" for key, value in options.items())
                tools["nncodec"].append((setting, found))
                print(title, "nncodec", options, found, flush=True)
            lines.append(f"| {title} | | float | {size:,} | 1 | {top:.2f} | 100 |")
            mean = saving(*([found for _, found in settings] for settings in tools.values()))
            for tool, settings in tools.items():
                best = -1.0
                front = []
                for setting, found in sorted(settings, key=lambda one: (one[1]["bytes"], -one[1]["top"])):
                    if found["top"] > best:
                        best = found["top"]
                        front.append((setting, found))
                lines += [f"| {title} | {tool} | {setting} | {found['bytes']:,} | {size / found['bytes']:.2f} | "
                          f"{found['top']:.2f} | {found['agree']:.2f} |" for setting, found in front]
                tools[tool] = front
            least = lambda tool, bound: min((found["bytes"] for _, found in tools[tool] if found["top"] >= bound - 1e-6), default=None)
            cell = lambda count: f"{count:,} ({size / count:.1f}x)" if count else "none"
            smaller = lambda ours, theirs: f"{100 * (1 - ours / theirs):.1f} %" if ours and theirs else ""
            near = [least(tool, top - 1) for tool in tools]
            # The highest accuracy that both reach; what is above the float model's is luck.
            common = min([top] + [max((found["top"] for _, found in front), default=0) for front in tools.values()])
            equal = [least(tool, common) for tool in tools]
            summary.append(f"| {title} | {top:.2f} | {cell(near[0])} | {cell(near[1])} | {smaller(*near)} | "
                           f"{common:.2f}: {cell(equal[0])}, {cell(equal[1])} | {smaller(*equal)} | "
                           + (f"{mean:.1f} % |" if mean is not None else "|"))
            print(summary[-1], flush=True)
        return [*lines, "", "The smallest of each tool that loses at most one point, and the smallest of each that reach the highest accuracy that both reach (at most",
                "the float model's), which one image more or less decides where a model is robust. *At equal agreement*: by how much secateur's are smaller",
                "in the mean over the agreements with the float model that both reach.", "", *summary, ""]

    # After training

    def training(self):
        lines = ["## After training", "",
                 "Pruned and trained by secateur on the first 55,000 training images of MNIST (`benches/compare/lenet300.yaml`, `lenet5.yaml`), compressed and packed.",
                 "*Held out* is the accuracy on the other 5,000: the smallest container that is within 0.1 points there of the trained model is the one that",
                 "counts (in bold), top-1 is that on the 10,000 test images. Seconds: of the processor, for training.", "",
                 "| model | setting | bytes | ratio | held out | top-1 | seconds |", "|---|---|---:|---:|---:|---:|---:|"]
        for title, (pipeline, sizes) in TRAINING.items():
            if not self.wanted(title):
                continue
            source = self.model(LOSSY[title]["model"])
            size = os.path.getsize(source)
            test, held = evaluation(self.corpus, "mnist", "mnist")
            top = lambda model, part: 100 * float((classes(model, part[0]) == part[1]).mean())
            trained = self.path(pipeline.replace(".yaml", ".onnx"))
            name = digest(os.path.join(HERE, pipeline)) + digest(source)

            def train():
                words = ["--var", f"mnist={self.corpus}/data/mnist_u8.npz", "--jobs", "1", "--engine-inside", "--no-verify", "--force", "-qq"]
                words += ["--var", f"teacher={self.model(LOSSY['LeNet-5']['model'])}"]
                engine = ["--engine", "ort"] if os.environ.get("ORT_DYLIB_PATH") else []
                seconds = processor_time(self.secateur, "run", os.path.join(HERE, pipeline), source, "-o", trained, *words, *engine)
                return {"seconds": seconds, "digest": digest(trained)}

            made = self.kept.get(["train", name], train)
            if not os.path.exists(trained) or digest(trained) != made["digest"]:
                sys.exit(f"{trained} is not what training made: remove {self.kept.path}")
            data = self.described("data.yaml", {"npz": os.path.join(self.corpus, "data", "mnist_u8.npz"), "inputs": {"input": "x_train"},
                                                "preprocess": "mnist", "samples": 512, "seed": 1})
            judge = lambda model: {"held": top(model, held), "top": top(model, test)}
            whole = self.kept.get(["judge", made["digest"]], lambda: judge(trained))
            lines.append(f"| {title} | float | {size:,} | 1 | {top(source, held):.2f} | {top(source, test):.2f} | |")
            lines.append(f"| {title} | pruned and trained | {os.path.getsize(trained):,} | | {whole['held']:.2f} | {whole['top']:.2f} | {made['seconds']:.0f} |")
            rows = []
            for bits in self.arguments.bits or sizes:
                found = self.kept.get(["trained", self.binary, made["digest"], self.arguments.verb, bits],
                                      lambda: self.compressed(trained, bits, data, [judge]))
                rows += [(bits, found)] if found else []
                print(title, "trained", bits, found, flush=True)
            chosen = min((found["bytes"] for _, found in rows if found["held"] >= whole["held"] - .1 - 1e-6), default=None)
            for bits, found in rows:
                ratio = f"{size / found['bytes']:.1f}"
                cells = [title, f"{bits:g} bits", f"{found['bytes']:,}", ratio, f"{found['held']:.2f}", f"{found['top']:.2f}"]
                cells = [f"**{text}**" if found["bytes"] == chosen else text for text in cells]
                lines.append("| " + " | ".join(cells) + " | |")
        return [*lines, ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--secateur", default=os.environ.get("SECATEUR_BIN", "target/release/secateur"))
    parser.add_argument("--corpus", default=os.environ.get("SECATEUR_CORPUS"))
    parser.add_argument("--peers", default=os.environ.get("SECATEUR_PEERS"), help="a Python with requirements-compress.txt")
    parser.add_argument("--parts", default="lossless,lossy,training")
    parser.add_argument("--only", default="", help="models with a word in the title that begins so")
    parser.add_argument("--verb", default="compress --minimum-elements 0 --bits BITS", help="what takes a model to BITS a weight")
    parser.add_argument("--bits", type=lambda text: [float(part) for part in text.split(",")], help="bits a weight to try, for all models")
    parser.add_argument("--work", help="a folder for what takes long; used again")
    parser.add_argument("-o", "--output")
    arguments = parser.parse_args()
    if not arguments.corpus:
        parser.error("--corpus or SECATEUR_CORPUS is missing")
    with tempfile.TemporaryDirectory(prefix="secateur-compress-") as scratch:
        folder = os.path.abspath(arguments.work or scratch)
        os.makedirs(folder, exist_ok=True)
        bench = Bench(arguments, folder)
        peers = ", ".join(f"{name} {version}" for name, version in bench.versions.items()) or "none"
        lines = ["# Packed models, side by side", "",
                 f"Made by `benches/compare/compress.py`; other tools: {peers}; ONNX Runtime {onnxruntime.__version__}.", ""]
        for part in arguments.parts.split(","):
            lines += {"lossless": bench.lossless, "lossy": bench.lossy, "training": bench.training}[part]()
    text = "\n".join(lines)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
