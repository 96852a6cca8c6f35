"""Writes `secateur/steps.py` and `secateur/reports.py` from the schemas that the compiled half of the package answers.

    python generate.py           writes them
    python generate.py --check   says whether they are as they would be written, and exits with 1 if not
"""

from __future__ import annotations

import json
import keyword
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from secateur import _native
from secateur._outcome import RUNNING

HERE = Path(__file__).parent / "secateur"
WIDTH = 130
#: Options that name other models, which may be in memory.
MODELS = {
    ("chain", "with"),
    ("correct-bias", "reference"),
    ("finetune", "teacher"),
    ("transfer-features", "head"),
    ("transfer-merge", "base"),
    ("transfer-merge", "with"),
    ("transfer-parameters", "from"),
    ("transfer-structure", "from"),
}
#: Options that name files of statistics, which may be in memory.
STATISTICS = {"stats", "gram-stats", "gradient-stats"}
#: Options that may be given by position.
POSITIONAL = {
    ("bind", "sizes"),
    ("chain", "with"),
    ("correct-bias", "reference"),
    ("merge-lora", "adapter"),
    ("transfer-merge", "with"),
    ("transfer-parameters", "from"),
    ("transfer-structure", "from"),
}
#: Options whose names say nothing in a call, and what they are called there.
NAMES = {"with": "others", "from": "source"}
#: What a run takes beside the options in `RUNNING`.
TAKEN = {*RUNNING, "data", "progress", "refused", "model", "state_dict"}
#: The schemas of answers, and how their classes are called.
ANSWERS = {
    "run": "RunReport",
    "sweep": "SweepReport",
    "verify": "Verification",
    "evaluate": "EvaluationReport",
    "inspect": "ModelFacts",
    "diff": "Difference",
    "check": "Findings",
    "bisect": "Bisection",
}

#: Properties of answers that are not in their JSON.
MEMBERS = {
    "Verification": '''
    @property
    def holds(self) -> bool:
        """Whether the models compute the same, or within the tolerance; what was not checked does not."""
        return (self.per_node.verdict if self.per_node else self.verdict) in ("equal", "within")
''',
    "EvaluationReport": '''
    @property
    def accepted(self) -> bool:
        """Whether every gate holds."""
        return all(gate.passed for gate in self.gates)
''',
}


def parameter(option: str) -> str:
    """The keyword of an option of a step."""
    name = NAMES.get(option, option.replace("-", "_"))
    if name in TAKEN:
        return f"step_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def words(text: str, indent: int, first: str = "") -> str:
    """Text in lines of the file's width."""
    text = " ".join(text.replace("\\", "\\\\").split())
    return textwrap.fill(
        first + text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + (4 if first else 0)),
        break_long_words=False,
        break_on_hyphens=False,
    )


def union(kinds: list[str]) -> str:
    """Types beside each other, each once, `None` last."""
    found = list(dict.fromkeys(kinds))
    if "None" in found:
        found.remove("None")
        found.append("None")
    return " | ".join(found)


def literal(words: list[Any]) -> str:
    """The type of these words."""
    return f"Literal[{', '.join(map(json.dumps, words))}]"


def code(text: str, indent: int) -> str:
    """Code in brackets, in lines of the file's width."""
    # A key and its value stay together.
    return textwrap.fill(
        text.replace('": ', '":\0'),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 4),
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\0", " ")


class Types:
    """Python's types for a JSON Schema."""

    def __init__(self, root: dict[str, Any], records: bool) -> None:
        self.root = root
        self.records = records

    def of(self, schema: Any) -> str:
        if schema is True or not schema:
            return "Any"
        if "$ref" in schema:
            name = str(schema["$ref"]).rsplit("/", 1)[1]
            target = self.root["$defs"][name]
            if self.records and "properties" in target:
                return name
            return self.of(target)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.alternatives(schema[key])
        if "const" in schema:
            return literal([schema["const"]])
        if "enum" in schema:
            return literal(schema["enum"])
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return union([self.plain(kind, schema) for kind in kinds])

    def alternatives(self, schemas: list[Any]) -> str:
        constants = [one["const"] for one in schemas if "const" in one]
        constants += [word for one in schemas if "enum" in one for word in one["enum"]]
        rest = [self.of(one) for one in schemas if "const" not in one and "enum" not in one]
        if constants:
            rest.insert(0, literal(constants))
        return union(rest)

    def plain(self, kind: str | None, schema: dict[str, Any]) -> str:
        plain = {"string": "str", "boolean": "bool", "integer": "int", "number": "float", "null": "None"}
        if kind in plain:
            return plain[kind]
        if kind == "array":
            if "prefixItems" in schema:
                return f"tuple[{', '.join(self.of(one) for one in schema['prefixItems'])}]"
            items = self.of(schema.get("items"))
            return f"tuple[{items}, ...]" if self.records else f"Sequence[{items}]"
        if kind == "object":
            values = schema.get("additionalProperties")
            return f"Mapping[str, {self.of(values) if isinstance(values, dict) else 'Any'}]"
        return "Any"


def summary(text: str) -> str:
    """The first paragraph."""
    return text.split("\n\n")[0]


def taken(name: str, option: str, about: dict[str, Any], types: Types) -> str:
    """The type of an option of a step."""
    if name == "bind":
        return "Mapping[str, int | str]"
    several = about.get("type") == "array"
    if (name, option) in MODELS:
        return "ModelLike | Sequence[ModelLike]" if several else "ModelLike"
    if "x-file" not in about:
        return types.of(about)
    if several:
        return "Sequence[PathLike]"
    return "PathLike | Stats" if option in STATISTICS and about["x-file"] == "read" else "PathLike"


def step(name: str) -> str:
    """The function of a step."""
    schema: dict[str, Any] = json.loads(_native.schema(name))
    document: dict[str, Any] = json.loads(_native.explain(name, _native.Options("{}"))[0])
    types = Types(schema, records=False)
    properties: dict[str, Any] = schema.get("properties", {})
    state_dict = name == "transfer-parameters"
    positional = [option for option in properties if (name, option) in POSITIONAL]
    named = [option for option in properties if option not in positional]
    lines = [f"def {name.replace('-', '_')}(", "    model: ModelLike,"]
    arguments = [words("the model.", 8, "model: ")]
    for option in (*positional, None, *named):
        if option is None:
            lines += ["    *,"] if named or state_dict else []
            if state_dict:
                lines.append("    state_dict: Mapping[str, Any] | None = None,")
                about = "the weights of the source by name, as arrays or tensors of a framework, in the place of `source`."
                arguments.append(words(about, 8, "state_dict: "))
            continue
        kind = taken(name, option, properties[option], types)
        required = option == "with"
        if not required and not kind.endswith("None") and kind != "Any":
            kind += " | None"
        lines.append(code(f"{parameter(option)}: {kind}{'' if required else ' = None'},", 4))
        about = in_python(about_of(option, properties[option]), properties)
        arguments.append(words(about, 8, f"{parameter(option)}: "))
    lines += ["    **run: Unpack[RunOptions],", ") -> Outcome:"]
    arguments.append(words("see :class:`RunOptions`.", 8, "run: "))
    text = in_python(document["documentation"], properties)
    first, *further = text.replace("\\", "\\\\").split("\n\n")
    body = [words(first, 4, '"""').replace("\n        ", "\n    ")]
    body += [paragraph_of(paragraph) for paragraph in further]
    body.append("    Args:\n" + "\n".join(arguments))
    lines.append("\n\n".join(body) + '\n    """')
    given: dict[bool, list[str]] = {False: [], True: []}
    for option, about in properties.items():
        value = parameter(option)
        is_file = about.get("x-file") == "read"
        if is_file and about.get("type") == "array":
            value = f"several({value})"
        if is_file and state_dict and option == "from":
            value = "weights"
        given[is_file].append(f'"{option if is_file else parameter(option)}": {value}')
    call = f'return step("{name}", model, {{{", ".join(given[False])}}}, run'
    call += f", {{{', '.join(given[True])}}})" if given[True] else ")"
    if state_dict:
        lines.append("    with given_weights(source, state_dict) as weights:")
    lines.append(code(call, 8 if state_dict else 4))
    return "\n".join(lines)


def paragraph_of(paragraph: str) -> str:
    """A paragraph of documentation; lists and code stay as they are."""
    if any(line.lstrip().startswith(("- ", "```", "|")) for line in paragraph.splitlines()):
        return textwrap.indent(paragraph, "    ")
    return words(paragraph, 4)


def about_of(option: str, about: dict[str, Any]) -> str:
    text = about.get("description", option)
    default = about.get("default")
    if default not in (None, [], {}, "") or default is False:
        text += f" Default: `{default!r}`."
    return str(text)


def in_python(text: str, options: Iterable[str]) -> str:
    """Names of steps and options as a call has them."""
    for name in (*_native.step_names(), *options):
        if "-" in name:
            text = text.replace(f"`{name}`", f"`{parameter(name)}`")
    return text


def steps() -> str:
    """The module of steps."""
    names = _native.step_names()
    head = '''"""A function for each step, with its options. Written by `generate.py` from the schemas of the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._outcome import given_weights, several, step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from typing_extensions import Unpack

    from ._calls import Stats
    from ._model import ModelLike
    from ._outcome import Outcome, PathLike, RunOptions

__all__ = ['''
    listed = "".join(f'\n    "{name.replace("-", "_")}",' for name in names)
    return head + listed + "\n]\n\n\n" + "\n\n\n".join(map(step, names)) + "\n"


def reader(types: Types, schema: Any) -> str | None:
    """What makes records of a value; `None` where nothing is to be done."""
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        target = types.root["$defs"][name]
        return f"{name}.from_dict" if "properties" in target else reader(types, target)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            found = [reader(types, one) for one in schema[key]]
            made = [one for one in found if one]
            return made[0] if len(made) == 1 else None
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds:
        inner = reader(types, schema.get("items"))
        return f"many({inner})" if inner not in (None, "frozen") else "frozen"
    if "object" in kinds and isinstance(schema.get("additionalProperties"), dict):
        inner = reader(types, schema["additionalProperties"])
        return f"by_name({inner})" if inner else None
    return None


def record(name: str, schema: dict[str, Any], types: Types) -> str:
    """The class of an object."""
    lines = ["@dataclass(frozen=True, kw_only=True)", f"class {name}(Record):"]
    about = schema.get("description", f"{name}.")
    lines.append(words(summary(about), 4, '"""').replace("\n        ", "\n    ") + '"""')
    lines.append("")
    required = set(schema.get("required", []))
    readers = []
    for field, about in schema["properties"].items():
        attribute = f"{field}_" if keyword.iskeyword(field) else field.replace("-", "_")
        kind = types.of(about)
        default = ""
        if field not in required:
            absent = {"array": "()", "object": "field(default_factory=dict)", "boolean": "False"}
            given = about.get("type")
            default = absent.get(given, "None") if isinstance(given, str) else "None"
            if default == "None" and not kind.endswith("None") and kind != "Any":
                kind += " | None"
            default = f" = {default}"
        line = f"    {attribute}: {kind}{default}"
        if len(line) > WIDTH:
            line = line.replace("Literal[", "Literal[\n        ").replace("]", "\n    ]")
        lines.append(line)
        if text := about.get("description"):
            lines.append(words(text, 4, '"""').replace("\n        ", "\n    ") + '"""')
        made = reader(types, about)
        if made not in (None, "frozen") or attribute != field.replace("-", "_"):
            readers.append(f'"{field}": ("{attribute}",\0{made or "frozen"})')
    lines += MEMBERS.get(name, "").rstrip().splitlines()
    lines.append("")
    lines.append("    @classmethod")
    lines.append("    def _readers(cls) -> Readers:")
    lines.append(code(f"return {{{', '.join(readers)}}}", 8))
    return "\n".join(lines)


def reports() -> str:
    """The module of reports."""
    found: dict[str, str] = {}
    for document, name in ANSWERS.items():
        schema = json.loads(_native.schema(document))
        types = Types(schema, records=True)
        for inner, about in schema.get("$defs", {}).items():
            if "properties" in about:
                text = record(inner, about, types)
                if found.setdefault(inner, text) != text:
                    raise SystemExit(f"two classes are called {inner}")
        found[name] = record(name, schema, types)
    head = '''"""Answers as frozen data classes. Written by `generate.py` from the schemas of the answers.

`to_dict()` of each is what the command line prints under ``--json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._record import Record, by_name, frozen, many

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from ._record import Readers

__all__ = ['''
    listed = "".join(f'\n    "{name}",' for name in sorted(found))
    return head + listed + "\n]\n\n\n" + "\n\n\n".join(found[name] for name in sorted(found)) + "\n"


def main() -> int:
    stale = 0
    for name, text in (("steps.py", steps()), ("reports.py", reports())):
        path = HERE / name
        if path.is_file() and path.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path} is not what generate.py writes")
            stale = 1
        else:
            path.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())
