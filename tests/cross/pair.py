"""Judges a rewritten model against its original in a process of its own, so that a crash of a runtime is a result.

usage: pair.py REFERENCE MODEL RECIPE.json [SEED ...]    prints one JSON document
"""

import json
import sys

import onnx

import corpus
import models
import runtime


def judge_numbers(reference, model, recipe, seeds):
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        return {"valid": False, "reason": "checker: " + str(error).strip().splitlines()[0][:200]}
    try:
        right = runtime.session(model)
    except Exception as error:
        return {"valid": False, "reason": "load: " + str(error).strip().splitlines()[0][:200]}
    left = runtime.session(reference)
    worst, equal, within, reason = 0.0, True, True, None
    for seed in seeds:
        feeds = corpus.draw(recipe, seed)
        expected = runtime.run(left, feeds)
        try:
            found = runtime.run(right, feeds)
        except Exception as error:
            return {"valid": False, "reason": "run: " + str(error).strip().splitlines()[0][:200]}
        difference = runtime.compare(expected, found)
        equal &= difference.equal
        if difference.relative > runtime.TOLERANCE:
            within &= difference.relative <= runtime.rounding_allowed(reference, feeds, expected)
        if difference.relative > worst:
            worst, reason = difference.relative, difference.reason
    return {"valid": True, "equal": equal, "within": within, "relative": worst if worst != float("inf") else None, "reason": reason}


def judge(reference, model, recipe, seeds):
    verdict = judge_numbers(reference, model, recipe, seeds)
    verdict["nodes"] = models.count_nodes(onnx.load(model, load_external_data=False))
    return verdict


if __name__ == "__main__":
    with open(sys.argv[3]) as file:
        recipe = json.load(file)
    seeds = [int(argument) for argument in sys.argv[4:]] or [1, 2]
    print(json.dumps(judge(sys.argv[1], sys.argv[2], recipe, seeds)))
