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
# Seeds beyond those of the fuzz itself.
FIRST = 100_000
# Of all pairs.
UNCHECKED = 0.15


def check(report, secateur, count=IN_CI, first=FIRST, keep=None):
    verdicts, reasons = collections.Counter(), collections.Counter()
    eager = fuzz_graphs.Eager()
    classes = {rule["name"]: rule["safety"] for rule in secateur.run("rules", "list", "--json").json()["rules"]}
    seed = first - 1
    with tempfile.TemporaryDirectory(prefix="secateur-equal-") as folder:
        marker = os.path.join(folder, "stage")
        source, target = (os.path.join(folder, name) for name in ("source.onnx", "target.onnx"))
        while sum(verdicts.values()) < count and seed < first + 4 * count:
            seed += 1
            fuzz.stage(marker, "making")
            case = fuzz.Case(seed, eager)
            outcome, _, fired = fuzz.judged(case, secateur, folder, marker, classes)
            if outcome not in ("equal", "rounding") or not fired:
                continue
            document = secateur.run("verify", source, target, "--json").json() or {}
            verdict = document.get("verdict", "no verdict")
            verdicts[verdict] += 1
            name = f"seed {seed}"
            if verdict == "not-checked":
                first_reason = (document.get("not_checked") or [{}])[0]
                reasons[f"{first_reason.get('operator')}: {str(first_reason.get('reason'))[:110]}"] += 1
                report.passed(name, f"not checked: {first_reason.get('what')} {first_reason.get('operator')} {str(first_reason.get('reason'))[:200]}")
            elif verdict in ("equal", "within"):
                report.passed(name, verdict)
            else:
                why = document.get("reason") or [(o["name"], o.get("max_abs"), o.get("reason"), o.get("parts")) for o in document.get("outputs", []) if o["verdict"] == "different"]
                report.failed(name, f"{verdict}: {str(why)[:300]} (rules: {', '.join(rule for rule, _ in fired)})")
                if keep:
                    os.makedirs(keep, exist_ok=True)
                    for path in (source, target):
                        os.replace(path, os.path.join(keep, f"{seed}_{os.path.basename(path)}"))
    total = sum(verdicts.values())
    report.note(", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common()))
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
