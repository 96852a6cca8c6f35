"""Finds the smallest model with which a bound holds, by halving the range of one variable of a pipeline.

    python search_a_variable.py MODEL.onnx DATA OUTPUT.onnx [--drop 0.02] [--steps 4]

The pipeline prunes channels, makes the weights that stay make up for those that went, and simplifies. Its variable is the share
of the multiply-accumulates that may remain. Every other sample of the data chooses, and the rest confirms: a choice that is
judged by the samples it was made on looks better than it is.
"""

from __future__ import annotations

import argparse
import sys

import secateur

VARIABLE = "prune-channels.target-macs"
PIPELINE = secateur.Pipeline.of(("prune-channels", {"target_macs": 0.5, "refit": True}), "simplify")


def tried(share: float, model: str, samples: secateur.Data, judged: secateur.Data, drop: float) -> secateur.Outcome:
    """The outcome for a share, accepted if the accuracy falls by no more than `drop`."""
    outcome = PIPELINE.set(VARIABLE, share).run(
        model,
        data={"calibration": samples, "evaluation": judged},
        gates=[f"accuracy.drop={drop}"],
        refused="return",
    )
    (gate,) = outcome.report.gates
    print(f"{share:.3f}: {'holds' if outcome.accepted else 'does not hold'}: {gate.message}")
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", help="a file or a description, with labels")
    parser.add_argument("output")
    parser.add_argument("--drop", type=float, default=0.02)
    parser.add_argument("--steps", type=int, default=4)
    asked = parser.parse_args()
    samples = secateur.Data(asked.data)
    choosing, confirming = (samples.shard(part, 2) for part in range(2))
    low, high = 0.0, 1.0
    for _ in range(asked.steps):
        middle = (low + high) / 2
        if tried(middle, asked.model, choosing, choosing, asked.drop).accepted:
            high = middle
        else:
            low = middle
    if high == 1.0:
        print("no share holds")
        return 1
    chosen = tried(high, asked.model, choosing, confirming, asked.drop)
    if not chosen.accepted:
        print("the choice is not confirmed")
        return 1
    chosen.save(asked.output)
    print(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
