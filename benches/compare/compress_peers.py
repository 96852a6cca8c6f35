#!/usr/bin/env python3
"""What other tools make of weights, for compress.py: run by it in an interpreter that has requirements-compress.txt.

usage: compress_peers.py versions
       compress_peers.py zstd FILE                        bytes and seconds, at level 19
       compress_peers.py zipnn FILE DTYPE
       compress_peers.py nncodec IN.npz OUT.npz OPTIONS   bytes and seconds; the decoded arrays go to OUT.npz

Answers with one JSON document. nncodec wants an older NumPy than the rest of the comparison has, hence a process of its own.
"""

import contextlib
import importlib.metadata
import io
import json
import sys
import time

import numpy as np

ROUNDS = 3
PACKAGES = ("nncodec", "zipnn", "zstandard")


def fastest(function):
    """The least seconds of the processor of some calls, and what the last one answered."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        answer = function()
        times.append(time.process_time() - start)
    return min(times), answer


def zstd(path):
    import zstandard

    with open(path, "rb") as file:
        data = file.read()
    packed = zstandard.ZstdCompressor(level=19).compress(data)
    seconds, again = fastest(lambda: zstandard.ZstdDecompressor().decompress(packed))
    assert again == data
    return {"bytes": len(packed), "seconds": seconds}


def zipnn(path, kind):
    from zipnn import ZipNN

    with open(path, "rb") as file:
        data = file.read()
    coder = lambda: ZipNN(bytearray_dtype=kind, input_format="byte", threads=1)
    packed = coder().compress(bytearray(data))
    # Its decoder writes into what it is given, so each call gets its own.
    copies = [bytearray(packed) for _ in range(ROUNDS)]
    seconds, again = fastest(lambda: coder().decompress(copies.pop()))
    assert bytes(again) == data
    return {"bytes": len(packed), "seconds": seconds}


def nncodec(source, target, options):
    from nncodec import nnc

    with np.load(source) as file:
        arrays = {name: np.ascontiguousarray(file[name], np.float32) for name in file}
    # Names stand in the bit-stream, so they are made short.
    short = {name: f"{at:x}" for at, name in enumerate(arrays)}
    blocks = options.pop("blocks", [])
    if options.get("bnf"):
        kinds, numbers = {}, {}
        for number, block in enumerate(blocks):
            for kind, name in block.items():
                kinds[short[name]], numbers[short[name]] = kind, str(number)
        options["block_id_and_param_type"] = {"parameter_type": kinds, "block_identifier": numbers}
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        stream = nnc.compress({short[name]: array for name, array in arrays.items()}, bitstream_path=None, return_bitstream=True,
                              row_skipping=True, **options)
    encoded = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        decoded = nnc.decompress(bytearray(stream))
    seconds = time.perf_counter() - encoded
    found = {name: decoded[short[name]] for name in arrays if short[name] in decoded}
    # Where it folded a batch normalization, it answers a factor and an offset for each channel. 2.1.3 does not put them back by itself
    # for models that are no modules of PyTorch.
    for block in blocks if options.get("bnf") else []:
        weight = short[block["weight"]]
        gamma = decoded[weight + "_scaling"].reshape(-1)
        found[block["bn.gamma"]], found[block["bn.beta"]] = gamma, decoded[weight + ".bias"].reshape(-1)
        found[block["bn.mean"]], found[block["bn.var"]] = np.zeros_like(gamma), np.full_like(gamma, 1 - 1e-5)
    np.savez(target, **{name: found[name].reshape(array.shape) for name, array in arrays.items()})
    return {"bytes": len(stream), "encoding": encoded - start, "decoding": seconds}


def main():
    what, *words = sys.argv[1:]
    if what == "versions":
        answer = {}
        for name in PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                answer[name] = importlib.metadata.version(name)
    elif what == "nncodec":
        answer = nncodec(words[0], words[1], json.loads(words[2]))
    else:
        answer = {"zstd": zstd, "zipnn": zipnn}[what](*words)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
