"""Rules with a slip in them: what `rules test` says of each.

A replacement that is broken in many ways (rule_text.py) must not get past the examples: for every rule some broken replacement is caught by its
numbers, and none fires everywhere as its examples ask. A clause of `where` that is left out must make an example fail. What is left is listed here
with the reason why it changes nothing.

Each rule has a few of its broken replacements and clauses tried, the same ones each time, and more of them where none of these is caught; with
SECATEUR_MUTANTS=all, or for rules named with --only, all are.
"""

import concurrent.futures
import glob
import os
import random
import re
import tempfile

import rule_text
import tool

RULES = os.path.join(tool.ROOT, "passes", "rules")
# What says that a rule did not do what its example asks, and nothing of the numbers.
NO_NUMBERS = re.compile(r"the rule did not fire|not refused for|the rule fired where|the result cannot run|the result does not run")
FILE = re.compile(r"([a-z0-9-]+)\.yaml")
# Broken replacements and clauses of a rule that are tried where not all are.
FEW = 2
# Mutants are no simplifications of each other: priorities keep them apart.
FIRST_PRIORITY = 1000

DEFAULT = "that is the default"
NO_ATTRIBUTES = "these operators have no attributes"
NO_PADS = "the pattern pads nothing, in either form"
NO_LENGTHS = "tract, which judges here, runs no sequences of different lengths; ONNX Runtime notices"
ONE_BRANCH = "the operator normalizes the last axis then, too"
SUMMANDS = "they are summands"
SKIP = {"y: operands of com.microsoft.SkipLayerNormalization swapped": SUMMANDS}
SKIP_RMS = {"y: operands of com.microsoft.SkipSimplifiedLayerNormalization swapped": SUMMANDS}
# Broken replacements that are right all the same.
EQUIVALENT = {
    "batch-norm-conv": {"y: pads dropped": NO_PADS, "y: auto_pad dropped": NO_PADS},
    "cast-of-cast": {"y: *outer dropped": "they are about float8, which no engine here casts"},
    "conv-conv-pointwise": {"b2: Reshape dropped for (b or filled(0, [dim(W, 0)], W))": "MatMul takes a vector for a column"},
    "expand-before-broadcast": {"y: *op dropped": NO_ATTRIBUTES},
    "expand-before-broadcast-right": {"y: *op dropped": NO_ATTRIBUTES},
    "hard-sigmoid-from-clip": {"y: beta dropped": DEFAULT},
    "lp-norm": {"y: p dropped": DEFAULT},
    "lstm-zero-state": {"y: last operand of LSTM dropped": NO_LENGTHS},
    "lstm-zero-state-with-both": {"y: last operand of LSTM dropped": NO_LENGTHS},
    "lstm-zero-state-with-last": {"y: last operand of LSTM dropped": NO_LENGTHS},
    "ort-rms-norm": {"y: num_branches dropped": ONE_BRANCH, "y: 0 for 1": ONE_BRANCH},
    "ort-skip-layer-norm": SKIP,
    "ort-skip-layer-norm-bias": SKIP,
    "ort-skip-layer-norm-bias-sum": SKIP,
    "ort-skip-layer-norm-sum": SKIP,
    "ort-skip-rms-norm": SKIP_RMS,
    "ort-skip-rms-norm-sum": SKIP_RMS,
    "ort-skip-rms-parts-mul": SKIP_RMS,
    "ort-skip-rms-parts-mul-sum": SKIP_RMS,
    "ort-skip-rms-parts-pow": SKIP_RMS,
    "ort-skip-rms-parts-pow-sum": SKIP_RMS,
    "recurrent-zero-state": {"y: last operand of Cell dropped": NO_LENGTHS},
    "recurrent-zero-state-with-last": {"y: last operand of Cell dropped": NO_LENGTHS},
    "then-unsqueeze": {"y: keepdims dropped": DEFAULT},
}
UNKNOWN_RANK = "an example has no value of unknown rank; the replacement would have no effect"
# Clauses that no example can be refused for.
REDUNDANT = {
    "add-negative-zero": {"floating(x)": "integers have no -0.0"},
    "attention": {"rank(k) == 4": "a permutation of four axes says so"},
    "reshape-of-view-by-place": {"rank_known(x)": UNKNOWN_RANK},
    "reshape-to-computed": {"rank_known(x)": UNKNOWN_RANK},
    "slice-of-slice": {"given(@s1, @e1, @s2, @e2)": "a Slice without starts or ends is invalid, and one whose are no constants does not match"},
    "view-of-view": {"rank_known(x)": UNKNOWN_RANK},
}


def check(report, secateur):
    files = [rule_text.RuleFile(read(path)) for path in sorted(glob.glob(os.path.join(RULES, "*", "*.yaml")))]
    chosen = [rule for rule in files if report.wants(rule.value("rule"))]
    everything = os.environ.get("SECATEUR_MUTANTS") == "all" or len(chosen) < len(files)
    counts = {"mutants": 0, "caught": 0, "clauses": 0, "shown": 0}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for rule, found in zip(chosen, pool.map(lambda rule: examine(secateur, rule, None if everything else FEW), chosen)):
            judge(report, rule.value("rule"), found, counts)
    for rule in chosen:
        check_clauses(report, rule)
    report.note(f"{counts['caught']} of {counts['mutants']} broken replacements give other numbers, the others do not fire or do not run; without "
                f"{counts['shown']} of {counts['clauses']} clauses numbers change, without the others the rule has no effect, does not pay, or is right")


def check_clauses(report, rule):
    """Every clause has an example that is refused for it, which fails where the clause is left out, or a reason why it has none."""
    name = rule.value("rule")
    clauses = [clause for _, clause in rule.clauses()]
    for clause in clauses:
        if not rule.refusals(clause) and clause not in REDUNDANT.get(name, {}):
            report.failed(f"{name} without {clause}", "no example is refused for the clause")
    for clause in REDUNDANT.get(name, {}):
        if clause not in clauses or rule.refusals(clause):
            report.failed(f"{name} without {clause}", "is listed as redundant and is not")


def read(path):
    with open(path) as file:
        return file.read()


def few(name, items, count):
    """So many of the items, numbered and in their order; the name of the rule decides which."""
    items = list(enumerate(items))
    if count is None or len(items) <= count:
        return items
    return sorted(random.Random(name).sample(items, count), key=lambda item: item[0])


def examine(secateur, rule, count):
    """(verdict on the rule itself, [(mutant, verdict, detail)], [(clause, whether it is missed, what the rule does without it)]), by the
    built-in engine, or by ONNX Runtime where that one runs no example."""
    name = rule.value("rule")
    known = [mutant for mutant in rule_text.mutants(rule) if count is None or mutant[0] not in EQUIVALENT.get(name, {})]
    mutants = {f"{name}-m{number}": mutant for number, mutant in few(name, known, count)}
    rules = {name: rule, **{key: mutant for key, (_, mutant, _) in mutants.items()}}
    clauses = few(name, rule.clauses(), count)
    for number, (line, clause) in clauses:
        without = rule.without_clause(line)
        rules[f"{name}-w{number}"] = without
        if examples := rule.refusals(clause):
            rules[f"{name}-x{number}"] = without.with_examples(examples)
    for engine in ("tract", "ort"):
        cases, refused = prove(secateur, engine, rules)
        itself = verdict(cases[name], None, refused.get(name))
        if itself[0] != "idle":
            break
    replaced = [(what, *verdict(cases[key], alternative, refused.get(key))) for key, (what, _, alternative) in mutants.items()]
    if len(mutants) < len(known) and itself[0] == "survives" and not any(word == "caught" for _, word, _ in replaced):
        return examine(secateur, rule, count * 3)
    left_out = []
    for number, (_, clause) in clauses:
        key = f"{name}-w{number}"
        missed = key in refused or any(case["verdict"] == "failed" for case in cases[key])
        left_out.append((clause, missed, verdict(cases.get(f"{name}-x{number}", ()), None, refused.get(key))))
    return itself, replaced, left_out


def prove(secateur, engine, rules):
    """The cases by rule, and what the loader says of rules that it refuses."""
    refused = {}
    library = tool.onnxruntime_library() if engine == "ort" else None
    environment = {"ORT_DYLIB_PATH": library} if library else None
    with tempfile.TemporaryDirectory(prefix="secateur-mutants-") as folder:
        for priority, (name, rule) in enumerate(rules.items(), FIRST_PRIORITY):
            with open(os.path.join(folder, name + ".yaml"), "w") as file:
                file.write(rule.renamed(name, priority).text())
        # In one process it takes a third of the time; an engine that ends on a mutant ends this one, and then runs in a process of its own.
        flags = ["--engine-inside"]
        while len(refused) < len(rules):
            result = secateur.run("rules", "test", folder, "--json", "--engine", engine, *flags, env=environment)
            document = result.json()
            if isinstance(document, dict) and "cases" in document:
                cases = {name: [] for name in rules}
                for case in document["cases"]:
                    cases[case["rule"]].append(case)
                return cases, refused
            place = FILE.search(result.why())
            if (place is None or place.group(1) not in rules) and flags:
                flags = []
                continue
            if place is None or place.group(1) not in rules:
                raise RuntimeError(result.why())
            refused[place.group(1)] = result.why()
            os.remove(os.path.join(folder, place.group(1) + ".yaml"))
    return {name: [] for name in rules}, refused


def verdict(cases, alternative, refusal):
    """(word, detail): `caught` by numbers, `noticed` otherwise, `refused` before it ran, `idle` where it never fires, or `survives`."""
    if refusal:
        return "refused", refusal
    if alternative:
        cases = [case for case in cases if case["variant"].startswith(f"alternative {alternative} ")]
    failed = [case["detail"] for case in cases if case["verdict"] == "failed"]
    by_numbers = [detail for detail in failed if not NO_NUMBERS.search(detail)]
    if by_numbers:
        return "caught", by_numbers[0]
    if failed:
        return "noticed", failed[0]
    if any(case["verdict"] in ("equal", "within") for case in cases):
        return "survives", ""
    return "idle", ""


def judge(report, name, found, counts):
    (word, detail), replaced, left_out = found
    if word == "idle":
        report.skipped(name, "no engine runs an example")
        return
    if word != "survives":
        report.failed(name, f"the rule itself is {word}: {detail}")
        return
    equivalent = dict(EQUIVALENT.get(name, {}))
    for what, word, detail in replaced:
        counts["mutants"] += 1
        counts["caught"] += word == "caught"
        if word == "survives" and what not in equivalent:
            report.failed(f"{name}: {what}", "no example notices")
        elif word == "survives":
            report.skipped(f"{name}: {what}", equivalent[what])
        else:
            report.passed(f"{name}: {what}", f"{word}: {detail}")
    for what in equivalent:
        if any(what == known and word != "survives" for known, word, _ in replaced):
            report.failed(f"{name}: {what}", "is listed as equivalent and is none")
    if not any(word == "caught" for _, word, _ in replaced):
        report.failed(name, "no broken replacement is caught by its numbers")
    redundant = REDUNDANT.get(name, {})
    for clause, missed, (word, detail) in left_out:
        counts["clauses"] += 1
        counts["shown"] += word == "caught"
        if clause in redundant and missed:
            report.failed(f"{name} without {clause}", "is listed as redundant and is not")
        elif clause in redundant:
            report.skipped(f"{name} without {clause}", redundant[clause])
        elif missed:
            report.passed(f"{name} without {clause}", f"{word} {detail}".strip())
        else:
            report.failed(f"{name} without {clause}", "no example misses the clause")
