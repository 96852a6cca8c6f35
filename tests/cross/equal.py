"""`secateur verify` on pairs of models that ONNX Runtime finds equal: random graphs of the semantic fuzz and what `simplify` makes of
them. None is *different*, and few are *not-checked*; the note says why those are.

usage: equal.py [--secateur BIN] [--count N] [--from SEED] [-v]
"""

import argparse
import collections
import os
import sys
import tempfile

import fuzz
import fuzz_graphs
import tool

IN_CI = 60
BATCH = 20
# Seeds beyond those of the fuzz itself.
FIRST = 100_000
# Of all pairs.
UNCHECKED = 0.15


def batch(job):
    """Seeds in one process: (seed, document of `verify`, rules that fired) for each that gives a pair of equal models."""
    binary, keep, seeds, marker = job
    eager = fuzz_graphs.Eager()
    secateur = tool.Secateur(binary, timeout=120)
    classes = {rule["name"]: rule["safety"] for rule in secateur.run("rules", "list", "--json").json()["rules"]}
    found = []
    with tempfile.TemporaryDirectory(prefix="secateur-equal-") as folder:
        source, target = (os.path.join(folder, name) for name in ("source.onnx", "target.onnx"))
        for seed in seeds:
            fuzz.stage(marker, "making")
            case = fuzz.Case(seed, eager)
            outcome, _, fired = fuzz.judged(case, secateur, folder, marker, classes)
            if outcome not in ("equal", "rounding") or not fired:
                continue
            result = secateur.run("verify", source, target, "--json")
            document = result.json() or {"verdict": result.why()}
            if keep and document["verdict"] not in GOOD:
                os.makedirs(keep, exist_ok=True)
                for path in (source, target):
                    os.replace(path, os.path.join(keep, f"{seed}_{os.path.basename(path)}"))
            found.append((seed, document, [rule for rule, _ in fired]))
    return found


GOOD = ("equal", "within", "not-checked")


def pairs(binary, seeds, keep, died):
    """What `batch` finds, seed by seed; seeds that end ONNX Runtime's process are added to `died`."""
    for found, reached in fuzz.isolated(batch, (binary, keep), seeds, BATCH):
        if reached is None:
            yield from found
        else:
            died.append(found)


def check(report, secateur, count=IN_CI, first=FIRST, keep=None):
    verdicts, reasons, died = collections.Counter(), collections.Counter(), []
    for seed, document, fired in pairs(secateur.binary, range(first, first + 4 * count + 1), keep, died):
        verdict, name = document["verdict"], f"seed {seed}"
        verdicts[verdict] += 1
        if verdict == "not-checked":
            first_reason = (document.get("not_checked") or [{}])[0]
            reasons[f"{first_reason.get('operator')}: {str(first_reason.get('reason'))[:110]}"] += 1
            report.passed(name, f"not checked: {first_reason.get('what')} {first_reason.get('operator')} {str(first_reason.get('reason'))[:200]}")
        elif verdict in GOOD:
            report.passed(name, verdict)
        else:
            why = document.get("reason") or [(o["name"], o.get("max_abs"), o.get("reason"), o.get("parts")) for o in document.get("outputs", []) if o["verdict"] == "different"]
            report.failed(name, f"{verdict}: {str(why)[:300]} (rules: {', '.join(fired)})")
        if sum(verdicts.values()) == count:
            break
    total = sum(verdicts.values())
    for seed in died:
        report.skipped(f"seed {seed}", "ONNX Runtime ended the process")
    report.note(", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common()) + f"; ONNX Runtime ended its process {len(died)} times")
    for reason, number in reasons.most_common(30):
        report.note(f"{number} not checked: {reason}")
    if total < count:
        report.failed("pairs", f"only {total} of {count}")
    if verdicts["not-checked"] > max(UNCHECKED * total, 2):
        report.failed("not-checked", f"{verdicts['not-checked']} of {total} pairs")


def main():
    import run as runner

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur")
    parser.add_argument("--count", type=int, default=IN_CI)
    parser.add_argument("--from", type=int, default=FIRST, dest="first")
    parser.add_argument("--keep", help="a folder for the pairs that are called different")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    report = runner.Report("", args.verbose)
    report.check = "equal"
    check(report, tool.Secateur(tool.find(args.secateur), timeout=120), args.count, args.first, args.keep)
    print(", ".join(f"{count} {word}" for word, count in report.counts.items()))
    return 1 if report.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
