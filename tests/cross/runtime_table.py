"""Writes src/lint/tables/ort.tsv from what the installed ONNX Runtime and onnx answer: the kernels of the CPU and their types, and the
operators that are functions of others.

    python tests/cross/runtime_table.py           writes it
    python tests/cross/runtime_table.py --check   exits with 1 where the file is another
"""

import sys
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

TABLE = Path(__file__).resolve().parents[2] / "src/lint/tables/ort.tsv"
DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
OPEN = 2**31 - 1


def element_types(names: list[str]) -> list[str]:
    """The element types of dense tensors among these types."""
    return sorted({name[7:-1] for name in names if name.startswith("tensor(")})


def merged(rows: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    """Rows that differ in one variable become one, until none do."""
    rows = [dict(row) for row in rows]
    again = True
    while again:
        again = False
        for a in range(len(rows)):
            for b in range(a + 1, len(rows)):
                if rows[a].keys() != rows[b].keys():
                    continue
                apart = [name for name in rows[a] if rows[a][name] != rows[b][name]]
                if len(apart) <= 1:
                    for name in apart:
                        rows[a][name] = sorted({*rows[a][name], *rows[b][name]})
                    del rows[b]
                    again = True
                    break
            if again:
                break
    return rows


def table() -> str:
    kernels: dict[tuple[str, str, int, int], list[dict[str, list[str]]]] = {}
    for kernel in runtime.get_all_opkernel_def():
        if kernel.domain not in DOMAINS or kernel.provider != "CPUExecutionProvider":
            continue
        key = (kernel.domain, kernel.op_name, *kernel.version_range)
        types = {name: element_types(list(names)) for name, names in sorted(kernel.type_constraints.items())}
        kernels.setdefault(key, []).append(types)
    lines = []
    for (domain, name, first, last), rows in kernels.items():
        for row in merged(rows):
            types = ";".join(f"{variable}={' '.join(names)}" for variable, names in row.items())
            end = "-" if last == OPEN else str(last)
            lines.append((domain, name, first, end, types))
    for schema in onnx.defs.get_all_schemas_with_history():
        function = schema.has_function or schema.has_context_dependent_function
        if schema.domain in DOMAINS and function:
            lines.append((schema.domain, schema.name, schema.since_version, "function", ""))
    head = (
        f"# Kernels of ONNX Runtime {onnxruntime.__version__} on the CPU, as get_all_opkernel_def() answers, and the operators that "
        f"onnx {onnx.__version__} defines as functions of others.\n"
        "# Written by tests/cross/runtime_table.py.\n"
        "# domain\toperator\tfirst version\tlast version (-: the first form alone, and what follows it is unknown; function)\ttypes\n"
    )
    unique: dict[tuple[str, str], int] = {}
    kept = []
    for line in sorted(lines, key=lambda line: (line[0], line[1], line[2], line[3], line[4])):
        if line[3] == "function":
            if (line[0], line[1]) in unique:
                continue
            unique[line[0], line[1]] = line[2]
        kept.append("\t".join(str(part) for part in line))
    return head + "\n".join(kept) + "\n"


def main() -> int:
    text = table()
    if "--check" in sys.argv:
        return int(TABLE.read_text() != text)
    TABLE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
