"""Writes `secateur/steps.py` and `secateur/reports.py` from the schemas that the compiled half of the package answers.

    python generate.py           writes them
    python generate.py --check   says whether they are as they would be written, and exits with 1 if not
"""

from __future__ import annotations

import json
import keyword
import sys
import textwrap
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from secateur import _native  # noqa: E402
from secateur._outcome import RUNNING  # noqa: E402

HERE = Path(__file__).parent / "secateur"
WIDTH = 130
#: Options that are given by position and name other models: the pass, the option, the parameter, whether there are several.
MODELS = {
    "chain": ("with", "others", True),
    "transfer-merge": ("with", "others", True),
    "transfer-parameters": ("from", "source", False),
    "transfer-structure": ("from", "source", False),
}
#: What a run takes beside the options in `RUNNING`.
TAKEN = {*RUNNING, "data", "progress", "refused", "model", "state_dict"}
#: The schemas of answers, and how their classes are called.
ANSWERS = {
    "run": "RunReport",
    "verify": "Verification",
    "evaluate": "EvaluationReport",
    "inspect": "ModelFacts",
    "diff": "Difference",
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
    name = option.replace("-", "_")
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


class Types:
    """Python's types for a JSON Schema."""

    def __init__(self, root: dict[str, Any], records: bool) -> None:
        self.root = root
        self.records = records

    def of(self, schema: Any) -> str:
        if schema is True or not schema:
            return "Any"
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            target = self.root["$defs"][name]
            if self.records and "properties" in target:
                return name
            return self.of(target)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.alternatives(schema[key])
        if "const" in schema:
            return f"Literal[{schema['const']!r}]"
        if "enum" in schema:
            return f"Literal[{', '.join(map(repr, schema['enum']))}]"
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return union([self.plain(kind, schema) for kind in kinds])

    def alternatives(self, schemas: list[Any]) -> str:
        constants = [one["const"] for one in schemas if "const" in one]
        constants += [word for one in schemas if "enum" in one for word in one["enum"]]
        rest = [self.of(one) for one in schemas if "const" not in one and "enum" not in one]
        if constants:
            rest.insert(0, f"Literal[{', '.join(map(repr, constants))}]")
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


def step(name: str) -> str:
    """The function of a step."""
    schema = json.loads(_native.schema(name))
    document = json.loads(_native.explain(name, _native.Options("{}"))[0])
    types = Types(schema, records=False)
    properties = schema.get("properties", {})
    model = MODELS.get(name)
    state_dict = name == "transfer-parameters"
    lines = [f"def {name.replace('-', '_')}("]
    takes: list[tuple[str, str, str]] = []
    lines.append("    model: ModelLike,")
    if model:
        _, named, several = model
        lines.append(f"    {named}: {'ModelLike | Sequence[ModelLike]' if several else 'ModelLike | None = None'},")
    if properties or state_dict:
        lines.append("    *,")
    if state_dict:
        lines.append("    state_dict: Mapping[str, Any] | None = None,")
    for option, about in properties.items():
        if model and option == model[0]:
            continue
        keyword_ = parameter(option)
        takes.append((option, keyword_, about_of(option, about)))
        if option == "bind" or name == "bind":
            kind = "Mapping[str, int | str]" if name == "bind" else types.of(about)
        else:
            kind = types.of(about)
        kind = kind if kind.endswith("None") or kind == "Any" else f"{kind} | None"
        lines.append(f"    {keyword_}: {kind} = None,")
    lines.append("    **run: Unpack[RunOptions],")
    lines.append(") -> Outcome:")
    text = document["documentation"].replace("\\", "\\\\")
    paragraphs = text.split("\n\n")
    body = [words(paragraphs[0], 4, '"""')] if len(paragraphs[0]) < 4000 else []
    body[0] = body[0].replace("\n        ", "\n    ")
    for paragraph in paragraphs[1:]:
        body.append(paragraph_of(paragraph))
    arguments = [words("the model.", 8, "model: ")]
    if model:
        about = properties.get(model[0], {}).get("description", "the other model")
        arguments.append(words(about, 8, f"{model[1]}: "))
    if state_dict:
        about = "the weights of the source by name, as arrays or tensors of a framework, in the place of `source`."
        arguments.append(words(about, 8, "state_dict: "))
    arguments += [words(about, 8, f"{keyword_}: ") for _, keyword_, about in takes]
    arguments.append(words("see :class:`RunOptions`.", 8, "run: "))
    body.append("    Args:\n" + "\n".join(arguments))
    lines.append("\n\n".join(body) + '\n    """')
    options = ", ".join(f'"{keyword_}": {keyword_}' for _, keyword_, _ in takes)
    call = f'    return step("{name}", model, {{{options}}}, run'
    if state_dict:
        lines.append("    with given_weights(source, state_dict) as weights:")
        lines.append(f'        return step("{name}", model, {{{options}}}, run, {{"from": weights}})')
    elif model:
        lines.append(f'{call}, {{"{model[0]}": {"several(" + model[1] + ")" if model[2] else model[1]}}})')
    else:
        lines.append(f"{call})")
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
        text += f" Default: `{json.dumps(default)}`."
    return text


def steps() -> str:
    """The module of steps."""
    names = _native.step_names()
    head = '''"""A function for each step, with the options that the step has. Written by `generate.py` from the schemas of the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._outcome import given_weights, several, step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from typing_extensions import Unpack

    from ._model import ModelLike
    from ._outcome import Outcome, RunOptions

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
        return f"many({inner})" if inner else "frozen"
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
        lines.append(f"    {attribute}: {kind}{default}")
        if text := about.get("description"):
            lines.append(words(text, 4, '"""').replace("\n        ", "\n    ") + '"""')
        made = reader(types, about)
        if made or attribute != field:
            readers.append(f'"{field}": ("{attribute}", lambda value: {made or "frozen"}(value))')
    lines += MEMBERS.get(name, "").rstrip().splitlines()
    lines.append("")
    lines.append("    @classmethod")
    lines.append("    def _readers(cls) -> Readers:")
    lines.append(f"        return {{{', '.join(readers)}}}")
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
