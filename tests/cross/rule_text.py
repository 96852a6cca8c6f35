"""Rule files as texts: their sections, a parser of replacements, and the mutants of both.

A mutant is a rule with one defect that a slip of the pen could leave: the operands of a quotient the other way round, a factor less, another
literal, an attribute forgotten, a clause forgotten.
"""

import dataclasses
import re

SECTION = re.compile(r"^([a-z]+):")
TOKEN = re.compile(r"""\s+|\#[^\n]*|(?P<text>"[^"\n]*")|(?P<number>\d+(?:\.(?!\.)\d*)?(?:[eE][+-]?\d+)?)|(?P<param>@\w+)"""
                   r"""|(?P<name>[A-Za-z_][\w.]*)|(?P<symbol>==|!=|<=|>=|[=<>()\[\],?*+\-/])""")
# `refuse` and `because` of an example that stands in one line, and of one that has lines of its own for them.
SCALAR = r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^"'].*?)"""
REFUSE = re.compile(rf""", refuse: {SCALAR}(?:, because: {SCALAR})?(?= \}}$)""")
REFUSE_LINES = re.compile(rf"""^    refuse: {SCALAR}$(?:\n    because: .*$)?""", re.MULTILINE)
# What binds how tightly, the loosest first.
LEVELS = (("or",), ("and",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/"))


def unquoted(text):
    """A YAML scalar without its quotes."""
    if text.startswith('"'):
        return text[1:-1].replace('\\"', '"')
    return text[1:-1] if text.startswith("'") else text


class RuleFile:
    """The sections of a rule file in order, each with the lines that follow its key."""

    def __init__(self, text):
        self.sections = {}
        for line in text.splitlines():
            found = SECTION.match(line)
            if found:
                key = found.group(1)
                self.sections[key] = []
            self.sections[key].append(line)

    def text(self):
        return "\n".join(line for lines in self.sections.values() for line in lines) + "\n"

    def value(self, key):
        """What stands behind a key on its own line."""
        return self.sections[key][0].split(":", 1)[1].split(" #")[0].strip()

    def block(self, key):
        """The text of a block scalar, or the texts of a list of them."""
        texts, lines = [], self.sections[key][1:]
        if self.sections[key][0].rstrip().endswith("|"):
            return ["\n".join(line[2:] for line in lines)]
        for line in lines:
            if line.strip() == "- |":
                texts.append([])
            else:
                texts[-1].append(line[4:])
        return ["\n".join(part) for part in texts]

    def clauses(self):
        """(line number in the section, clause) of `where`."""
        found = []
        for number, line in enumerate(self.sections.get("where", [])):
            if line.startswith("  - "):
                clause = line[4:].split(" #")[0].strip()
                found.append((number, clause[1:-1] if clause[0] in "\"'" else clause))
        return found

    def renamed(self, name, priority):
        """A copy under another name. Rules that match the same operators stand side by side with different priorities only."""
        copy = RuleFile(self.text())
        copy.sections["rule"] = [f"rule: {name}"]
        copy.sections["opset"] = [*copy.sections["opset"], f"priority: {priority}"]
        copy.sections.pop("priority", None)
        return copy

    def with_block(self, key, number, text):
        """A copy with another text of a block, or of one of a list of blocks."""
        copy = RuleFile(self.text())
        texts = self.block(key)
        texts[number] = text
        if self.sections[key][0].rstrip().endswith("|"):
            body = ["  " + line for line in text.splitlines()]
        else:
            body = [line for part in texts for line in ["  - |", *("    " + inner for inner in part.splitlines())]]
        copy.sections[key] = [self.sections[key][0], *body]
        return copy

    def refusals(self, clause):
        """The examples that are refused for a clause, as examples that are not refused; each is a list of lines."""
        examples = []
        for line in self.sections["examples"][1:]:
            if line.startswith("  - "):
                examples.append([])
            examples[-1].append(line)
        found = []
        for lines in examples:
            whole = "\n".join(lines)
            refused = (REFUSE if len(lines) == 1 else REFUSE_LINES).search(whole)
            if refused and "".join(unquoted(refused.group(1)).split()) == "".join(clause.split()):
                found.append((whole[:refused.start()] + whole[refused.end():]).rstrip("\n").split("\n"))
        return found

    def with_examples(self, examples):
        """A copy with these examples alone."""
        copy = RuleFile(self.text())
        copy.sections["examples"] = ["examples:", *(line for lines in examples for line in lines)]
        return copy

    def without_clause(self, number):
        """A copy without one line of `where`."""
        copy = RuleFile(self.text())
        lines = copy.sections["where"]
        del lines[number]
        if len(lines) == 1:
            del copy.sections["where"]
        return copy


@dataclasses.dataclass(frozen=True)
class Node:
    """An expression. `parts` are operands, arguments or items; attributes are those of an operator."""

    kind: str
    text: str = ""
    parts: tuple = ()
    attributes: tuple = ()
    rest: str = ""

    def __str__(self):
        inner = [str(part) for part in self.parts]
        if self.kind == "operator":
            named = ([f"*{self.rest}"] if self.rest else []) + [f"{name} = {value}" for name, value in self.attributes]
            return f"{self.text}{' <' + ', '.join(named) + '>' if named else ''} ({', '.join(inner)})"
        if self.kind == "helper":
            return f"{self.text}({', '.join(inner)})"
        if self.kind == "list":
            return f"[{', '.join(inner)}]"
        if self.kind == "binary":
            return f"({inner[0]} {self.text} {inner[1]})"
        if self.kind == "unary":
            return f"({self.text} {inner[0]})"
        return self.text

    def places(self):
        """Every expression in this one, itself first, with a function that puts another in its place."""
        yield self, lambda new: new
        for at, part in enumerate(self.parts):
            for node, inside in part.places():
                yield node, lambda new, at=at, inside=inside: dataclasses.replace(
                    self, parts=(*self.parts[:at], inside(new), *self.parts[at + 1:]))
        for at, (name, value) in enumerate(self.attributes):
            for node, inside in value.places():
                yield node, lambda new, at=at, name=name, inside=inside: dataclasses.replace(
                    self, attributes=(*self.attributes[:at], (name, inside(new)), *self.attributes[at + 1:]))


class Parser:
    """The grammar of docs/rules.md, for texts that the loader has taken."""

    def __init__(self, text):
        self.tokens, at = [], 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"unknown character in rule text: {text[at:at + 20]!r}")
            if found.lastgroup:
                self.tokens.append((found.lastgroup, found.group()))
            at = found.end()
        self.at = 0

    def peek(self, offset=0):
        return self.tokens[self.at + offset] if self.at + offset < len(self.tokens) else ("end", "")

    def take(self, text=None):
        kind, found = self.peek()
        if text is not None and found != text:
            raise ValueError(f"expected {text!r}, found {found!r}")
        self.at += 1
        return found

    def statements(self):
        """[(names of results, expression)]"""
        found = []
        while self.peek()[0] != "end":
            names = [self.take()]
            while self.peek()[1] == ",":
                self.take()
                names.append(self.take())
            self.take("=")
            found.append((names, self.expression()))
        return found

    def expression(self, level=0):
        if level == 2 and self.peek()[1] == "not":
            return Node("unary", self.take(), (self.expression(2),))
        if level == len(LEVELS):
            return self.prefix()
        left = self.expression(level + 1)
        while self.peek()[1] in LEVELS[level]:
            left = Node("binary", self.take(), (left, self.expression(level + 1)))
        return left

    def prefix(self):
        kind, text = self.peek()
        if text == "-":
            self.take()
            inner = self.prefix()
            return Node("number", "-" + inner.text) if inner.kind == "number" else Node("unary", "-", (inner,))
        if text == "(":
            self.take()
            inner = self.expression()
            self.take(")")
            return inner
        if text == "[":
            self.take()
            return Node("list", "", self.items("]"))
        if text == "*":
            self.take()
            return Node("splat", "*" + self.take())
        self.take()
        if kind != "name":
            return Node(kind, text)
        if self.peek()[1] == "?":
            return Node("value", text + self.take())
        if text in ("true", "false"):
            return Node("truth", text)
        # A name of an operator may have a domain before it.
        if text.rsplit(".", 1)[-1][0].isupper() and self.peek()[1] in ("(", "<"):
            return self.operator(text)
        if self.peek()[1] == "(":
            self.take()
            return Node("helper", text, self.items(")"))
        return Node("value", text)

    def operator(self, name):
        attributes, rest = [], ""
        if self.peek()[1] == "<":
            self.take()
            while self.peek()[1] != ">":
                if self.peek()[1] == "*":
                    self.take()
                    rest = self.take()
                else:
                    key = self.take()
                    self.take("=")
                    # A comparison cannot stand in an attribute: `>` ends the list.
                    value = self.expression(3)
                    while self.peek()[1] == "or":
                        value = Node("binary", self.take(), (value, self.expression(3)))
                    attributes.append((key, value))
                if self.peek()[1] == ",":
                    self.take()
            self.take(">")
        self.take("(")
        return Node("operator", name, self.items(")"), tuple(attributes), rest)

    def items(self, close):
        found = []
        while self.peek()[1] != close:
            found.append(self.expression())
            if self.peek()[1] == ",":
                self.take()
        self.take(close)
        return tuple(found)


def statements(text):
    return Parser(text).statements()


def written(parsed):
    return "\n".join(f"{', '.join(names)} = {value}" for names, value in parsed)


# What a slip writes in an operator's or helper's place.
OTHER = {
    "Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "Max": "Min", "Min": "Max", "Softmax": "LogSoftmax", "LogSoftmax": "Softmax",
    "ReduceSum": "ReduceMean", "ReduceL1": "ReduceSum", "ReduceL2": "ReduceSumSquare", "ReduceSumSquare": "ReduceSum",
    "ReduceLogSumExp": "ReduceSum", "Gelu": "Erf", "Mish": "Softplus", "HardSwish": "Relu", "HardSigmoid": "Sigmoid", "Sigmoid": "Tanh",
    "Softplus": "Softsign", "Softsign": "Softplus", "Swish": "Sigmoid", "LayerNormalization": "RMSNormalization", "Sqrt": "Abs",
    "higher": "lower", "lower": "higher", "+": "-", "-": "+", "*": "/",
}
SYMMETRIC = {"Add", "Mul", "And", "Or", "Xor", "Max", "Min", "Equal", "Sum", "Mean", "along_axis", "channels", "view_shape_at", "filled", "higher",
             "lower", "part", "content", "content_known"}


def with_parts(node, *parts):
    return dataclasses.replace(node, parts=tuple(parts))


def with_attributes(node, attributes):
    return dataclasses.replace(node, attributes=tuple(attributes))


def another_literal(node):
    """Another number than this one."""
    if node.kind == "truth":
        return "false" if node.text == "true" else "true"
    if "." in node.text or "e" in node.text.lower():
        return str(float(node.text) * 1.5) if float(node.text) else "0.5"
    number = int(node.text)
    return "1" if number == 0 else "0" if number == 1 else str(number + (1 if number > 0 else -1))


def slips(node):
    """(what was done, what stands there instead) for one expression."""
    kind, parts = node.kind, node.parts
    if kind in ("number", "truth"):
        text = another_literal(node)
        yield f"{text} for {node.text}", dataclasses.replace(node, text=text)
    if kind not in ("operator", "helper", "binary"):
        return
    if node.text in OTHER:
        yield f"{OTHER[node.text]} for {node.text}", dataclasses.replace(node, text=OTHER[node.text])
    if len(parts) >= 2 and kind != "binary" and node.text not in SYMMETRIC and str(parts[0]) != str(parts[1]):
        yield f"operands of {node.text} swapped", with_parts(node, parts[1], parts[0], *parts[2:])
    if len(parts) >= 3 and kind == "operator" and node.text not in SYMMETRIC:
        yield f"last operands of {node.text} swapped", with_parts(node, *parts[:-2], parts[-1], parts[-2])
        yield f"last operand of {node.text} dropped", with_parts(node, *parts[:-1])
    if kind == "binary" or kind == "operator" and len(parts) in (1, 2):
        for part in parts:
            yield f"{node.text} dropped for {part}", part
    if node.text == "value":
        yield "one more than value", Node("binary", "+", (node, Node("number", "1")))
    for at, (name, value) in enumerate(node.attributes):
        yield f"{name} dropped", with_attributes(node, [*node.attributes[:at], *node.attributes[at + 1:]])
        if name in ("axis", "axes") and value.kind != "number":
            less = Node("binary", "-", (value, Node("number", "1"))) if name == "axis" else Node("list", "", (Node("number", "0"),))
            yield f"another {name}", with_attributes(node, [*node.attributes[:at], (name, less), *node.attributes[at + 1:]])
    if node.rest:
        yield f"*{node.rest} dropped", dataclasses.replace(node, rest="")


def with_value(parsed, at, value):
    """Statements with another expression in one of them."""
    return [*parsed[:at], (parsed[at][0], value), *parsed[at + 1:]]


def mutants(rule):
    """(what was done, rule, alternative or None) for each broken replacement, and for each pattern with another literal, which makes the
    replacement wrong."""
    parsed = statements(rule.block("replace")[0])
    for at, (names, value) in enumerate(parsed):
        for node, place in value.places():
            for what, new in slips(node):
                if str(place(new)) != str(value):
                    yield f"{names[0]}: {what}", rule.with_block("replace", 0, written(with_value(parsed, at, place(new)))), None
    for what, value in other_results(rule, parsed):
        yield what, rule.with_block("replace", 0, written(with_value(parsed, len(parsed) - 1, value))), None
    texts = rule.block("match")
    for number, text in enumerate(texts):
        pattern = statements(text)
        for at, (_, value) in enumerate(pattern):
            for node, place in value.places():
                if node.kind in ("number", "truth"):
                    other = another_literal(node)
                    changed = with_value(pattern, at, place(dataclasses.replace(node, text=other)))
                    alternative = number + 1 if len(texts) > 1 else None
                    what = f"{other} for {node.text} in match{f' {alternative}' if alternative else ''}"
                    yield what, rule.with_block("match", number, written(changed)), alternative


def other_results(rule, parsed):
    """(what was done, result) with another value of the pattern as result, the right one turned round, or zeros."""
    names, value = parsed[-1]
    bound, lists = set(), set()
    for text in rule.block("match"):
        for _, pattern in statements(text):
            bound |= {node.text.rstrip("?") for node, _ in pattern.places() if node.kind == "value"}
            lists |= {node.text[1:] for node, _ in pattern.places() if node.kind == "splat"}
    others = [Node("value", name) for name in sorted(bound - {"_", *names})]
    others += [Node("helper", "element", (Node("value", name), Node("number", at))) for name in sorted(lists) for at in ("0", "-1")]
    if value.kind != "operator":
        others += [Node("operator", "Neg", (value,)), Node("operator", "Not", (value,))]
    shape = Node("helper", "shape", (Node("value", names[0]),))
    others.append(Node("helper", "filled", (Node("number", "0"), shape, Node("value", names[0]))))
    for other in others:
        if str(other) != str(value):
            yield f"the result is {other}", other
