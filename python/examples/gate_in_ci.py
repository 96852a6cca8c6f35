"""Holds a model up to a reference, for a step of a continuous integration.

    python gate_in_ci.py REFERENCE.onnx CANDIDATE.onnx DATA [--report REPORT.xml]

The candidate may lose one point of accuracy on the labelled data and may have half of the reference's bytes. The exit status is
0 if it is good enough, 1 if it is not, and 2 if that could not be found out. The report is JUnit XML, which such systems show.
"""

from __future__ import annotations

import argparse
import sys

import secateur

GATES = ["accuracy.drop=0.01", "size.at-most=0.5"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("candidate")
    parser.add_argument("data", help="a file or a description, with labels")
    parser.add_argument("--report")
    asked = parser.parse_args()
    try:
        found = secateur.evaluate(
            asked.candidate, asked.data, against=asked.reference, gates=GATES, report=asked.report, force=True
        )
    except secateur.GateError as error:
        print(error, file=sys.stderr)
        return 1
    except secateur.SecateurError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 2
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
