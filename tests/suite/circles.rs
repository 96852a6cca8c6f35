//! Files that import each other in a circle: where a thing is recursive in itself, and where nobody has opened the circle yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

use super::architecture::{module, sources_below};
use super::errors::code;

/// Circles of things that are recursive in themselves, by their files below `src`.
const INHERENT: [(&[&str], &str); 3] = [
    (
        &["ir/attribute.rs", "ir/graph.rs", "ir/node.rs", "ir/wires.rs"],
        "a graph has nodes, a node attributes, an attribute graphs",
    ),
    (
        &["format/lift/attribute.rs", "format/lift/graph.rs"],
        "they are read as they are nested",
    ),
    (
        &[
            "analysis/bodies.rs",
            "analysis/functions.rs",
            "analysis/infer.rs",
            "analysis/shapes/control.rs",
        ],
        "a body is inferred as a graph is, with what the graph around knows",
    ),
];

/// The others. A row goes when its circle is opened; none is added.
const OTHERS: &[&[&str]] = &[
    &[
        "api/data.rs",
        "api/files.rs",
        "api/model.rs",
        "api/options.rs",
        "api/save.rs",
    ],
    &["api/evaluate.rs", "api/reports.rs", "api/verify.rs"],
    &["api/sweep.rs", "api/sweep_plan.rs"],
    &["axes/rule.rs", "axes/sizes.rs"],
    &["axes/solve.rs", "axes/units.rs"],
    &["cli/family.rs", "cli/outcome.rs", "cli/run.rs"],
    &[
        "engine/bounded.rs",
        "engine/ort/pool.rs",
        "engine/ort/remote.rs",
        "engine/tract/held.rs",
        "engine/tract/node.rs",
        "engine/tract/remote.rs",
        "engine/tract/session.rs",
        "engine/worker/process.rs",
        "engine/worker/serve.rs",
        "engine/worker/session.rs",
    ],
    &[
        "engine/tract/kernels/blocks.rs",
        "engine/tract/kernels/pointwise.rs",
    ],
    &[
        "format/container/base.rs",
        "format/container/index.rs",
        "format/container/read.rs",
        "format/container/segments.rs",
        "format/container/write.rs",
        "format/decode.rs",
    ],
    &["format/relocate.rs", "format/save.rs"],
    &["ir/functions.rs", "ir/model.rs"],
    &["lint/check.rs", "lint/subject.rs", "lint/weights.rs"],
    &[
        "passes/prune/channels/choose.rs",
        "passes/prune/channels/evidence.rs",
        "passes/prune/channels/measured.rs",
        "passes/prune/channels/reconstruction.rs",
        "passes/prune/channels/score.rs",
    ],
    &[
        "passes/prune/weights/layers.rs",
        "passes/prune/weights/options.rs",
        "passes/prune/weights/update.rs",
    ],
    &[
        "passes/quantize/calibrated/apply.rs",
        "passes/quantize/calibrated/products.rs",
    ],
    &[
        "passes/quantize/calibrated/options.rs",
        "passes/quantize/calibrated/scheme.rs",
        "passes/quantize/calibrated/types.rs",
    ],
    &[
        "passes/quantize/weights/nbits.rs",
        "passes/quantize/weights/options.rs",
        "passes/quantize/weights/rounding.rs",
        "passes/quantize/weights/target.rs",
        "passes/quantize/weights/widths.rs",
    ],
    &[
        "passes/simplify/fold_constants/control_flow.rs",
        "passes/simplify/fold_constants/loops.rs",
    ],
    &[
        "pipeline/done.rs",
        "pipeline/interfaces.rs",
        "pipeline/judge.rs",
        "pipeline/pace.rs",
        "pipeline/reuse.rs",
        "pipeline/run.rs",
    ],
    &[
        "pipeline/figure_gate.rs",
        "pipeline/gates.rs",
        "pipeline/outputs_gate.rs",
        "pipeline/score_gate.rs",
    ],
    &["pipeline/until/climb.rs", "pipeline/until/trials.rs"],
    &["rewrite/compile.rs", "rewrite/load.rs"],
    &[
        "rewrite/prove/build.rs",
        "rewrite/prove/random.rs",
        "rewrite/prove/spec.rs",
    ],
    &[
        "transfer/parameters/state/build.rs",
        "transfer/parameters/state/gates.rs",
        "transfer/parameters/state/places.rs",
    ],
    &[
        "verify/cover.rs",
        "verify/explain.rs",
        "verify/further.rs",
        "verify/judge.rs",
        "verify/overrides.rs",
    ],
    &["verify/interface.rs", "verify/sizes.rs"],
];

/// The paths of a `use` tree, each with the name that it has here.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{').and_then(|list| list.strip_suffix('}')) {
        let (mut depth, mut start) = (0, 0);
        for (at, char) in list.char_indices() {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(prefix, &list[start..at], found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return expand(prefix, &list[start..], found);
    }
    if let Some((head, rest)) = tree.split_once("::").filter(|(head, _)| !head.contains('{')) {
        let path: Vec<String> = prefix.iter().cloned().chain([head.trim().to_owned()]).collect();
        return expand(&path, rest, found);
    }
    let (name, alias) = tree.split_once(" as ").unwrap_or((tree, tree));
    let mut path = prefix.to_vec();
    match (name.trim(), prefix.last()) {
        ("", _) => {}
        ("self", Some(last)) => {
            let alias = if alias == "self" { last.as_str() } else { alias };
            found.push((prefix.to_vec(), alias.trim().to_owned()));
        }
        (name, _) => {
            path.push(name.to_owned());
            found.push((path, alias.trim().to_owned()));
        }
    }
}

/// A path from the crate's root; `None` for one of another crate.
fn absolute(path: &[String], module: &Path) -> Option<PathBuf> {
    let mut base = module.to_owned();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base = PathBuf::new();
            rest = &path[1..];
        }
        "self" | "super" => {
            while let Some(step @ ("self" | "super")) = rest.first().map(String::as_str) {
                if step == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    base.extend(rest);
    Some(base)
}

/// What a crate is made of: its files by module, and what modules hand on.
struct House {
    files: BTreeMap<PathBuf, PathBuf>,
    exports: BTreeMap<PathBuf, PathBuf>,
    uses: BTreeMap<PathBuf, Vec<PathBuf>>,
}

impl House {
    fn of(sources: &BTreeMap<PathBuf, String>) -> Self {
        let declared = Regex::new(r"(?m)^\s*(pub(?:\([^)]*\))? )?use ([^;$]+);").unwrap();
        let inline = Regex::new(r"(?m)(?:^|[^\w:.])(\w+(?:::\w+)+)").unwrap();
        let known: BTreeSet<PathBuf> = sources.keys().map(|path| self::module(path)).collect();
        let mut house = Self {
            files: sources.keys().map(|path| (module(path), path.clone())).collect(),
            exports: BTreeMap::new(),
            uses: BTreeMap::new(),
        };
        for (file, source) in sources {
            let own = match file.ends_with("lib.rs") || file.ends_with("main.rs") {
                true => PathBuf::new(),
                false => module(file),
            };
            let code = code(source);
            let (mut reached, mut near) = (Vec::new(), BTreeMap::new());
            for declaration in declared.captures_iter(&code) {
                let mut paths = Vec::new();
                expand(&[], &declaration[2], &mut paths);
                for (path, alias) in paths {
                    let to = match absolute(&path, &own) {
                        Some(to) => to,
                        None if known.contains(&own.join(&path[0])) => {
                            own.join(path.iter().collect::<PathBuf>())
                        }
                        None => continue,
                    };
                    near.insert(alias.clone(), to.clone());
                    if declaration.get(1).is_some() {
                        house.exports.insert(own.join(alias), to.clone());
                    }
                    reached.push(to);
                }
            }
            for path in inline.captures_iter(&declared.replace_all(&code, "")) {
                let path: Vec<String> = path[1].split("::").map(str::to_owned).collect();
                let rest = || path[1..].iter().collect::<PathBuf>();
                let below = own.join(&path[0]);
                reached.extend(match near.get(&path[0]) {
                    Some(to) => Some(to.join(rest())),
                    None if known.contains(&below) => Some(below.join(rest())),
                    None => absolute(&path, &own),
                });
            }
            house.uses.insert(file.clone(), reached);
        }
        house
    }

    /// The file that defines what is at a path.
    fn file(&self, path: &Path, depth: usize) -> Option<&PathBuf> {
        let module = path.ancestors().find(|module| self.files.contains_key(*module))?;
        let mut rest = path.strip_prefix(module).ok()?.components();
        let handed_on = rest.next().and_then(|name| self.exports.get(&module.join(name)));
        match handed_on {
            Some(to) if depth < 12 => self.file(&to.join(rest.as_path()), depth + 1),
            _ => self.files.get(module),
        }
    }

    /// Files by the files that they import. A folder's `mod.rs` wires what is below it and is none of them.
    fn arrows(&self) -> BTreeMap<&PathBuf, BTreeSet<&PathBuf>> {
        let wires = |file: &PathBuf| {
            ["mod.rs", "lib.rs", "main.rs"]
                .iter()
                .any(|name| file.ends_with(name))
        };
        let files = self.uses.iter().filter(|(file, _)| !wires(file));
        files
            .map(|(file, paths)| {
                let reached = paths.iter().filter_map(|path| self.file(path, 0));
                (file, reached.filter(|to| *to != file && !wires(to)).collect())
            })
            .collect()
    }
}

/// Sets of files each of which leads to all others of its set.
fn circles(arrows: &BTreeMap<&PathBuf, BTreeSet<&PathBuf>>) -> BTreeSet<Vec<String>> {
    let reach = |from: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for to in arrows.get(at).into_iter().flatten() {
                if seen.insert(*to) {
                    open.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        arrows.keys().map(|file| (*file, reach(file))).collect();
    let around = reached.iter().filter(|(file, reached)| reached.contains(**file));
    around
        .map(|(file, all)| {
            let back = all
                .iter()
                .filter(|to| reached.get(**to).is_some_and(|back| back.contains(*file)));
            back.map(|to| to.display().to_string()).collect()
        })
        .collect()
}

#[test]
fn circles_are_found_through_what_modules_hand_on() {
    let sources = [
        ("lib.rs", "mod a;\nmod b;"),
        (
            "a/mod.rs",
            "mod one;\nmod two;\npub use one::{One, self as first};\nuse two::Two;",
        ),
        ("a/one.rs", "use super::two::{self, Two};"),
        ("a/two.rs", "fn f() -> crate::b::B {}"),
        (
            "b.rs",
            "use crate::a::One as Uno;\n#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}",
        ),
        ("c.rs", "use crate::b::B;"),
    ];
    let sources = sources.map(|(path, text)| (PathBuf::from(path), text.to_owned()));
    let house = House::of(&BTreeMap::from(sources));
    let expected = ["a/one.rs", "a/two.rs", "b.rs"].map(str::to_owned).to_vec();
    assert_eq!(circles(&house.arrows()), BTreeSet::from([expected]));
}

#[test]
fn files_import_each_other_in_a_circle_only_where_it_is_said() {
    let house = House::of(&sources_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    let arrows = house.arrows();
    assert!(
        arrows.values().map(BTreeSet::len).sum::<usize>() > 2000,
        "too few arrows were found: the test reads the sources wrongly"
    );
    let found = circles(&arrows);
    let said = INHERENT
        .iter()
        .map(|(files, _)| *files)
        .chain(OTHERS.iter().copied());
    let said: BTreeSet<Vec<String>> = said
        .map(|files| files.iter().map(|file| (*file).to_owned()).collect())
        .collect();
    let show = |circles: Vec<&Vec<String>>| {
        let rows = circles.iter().map(|circle| format!("    &{circle:?},"));
        rows.collect::<Vec<_>>().join("\n")
    };
    let (new, gone) = (
        found.difference(&said).collect::<Vec<_>>(),
        said.difference(&found).collect::<Vec<_>>(),
    );
    assert!(
        new.is_empty() && gone.is_empty(),
        "circles that are not said:\n{}\ncircles that are gone, or have other files:\n{}",
        show(new),
        show(gone)
    );
}
