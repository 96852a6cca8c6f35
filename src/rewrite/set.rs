//! Sets of rules: those embedded in the binary, and those of a folder.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use include_dir::{Dir, include_dir};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::error::{Place, RuleError};
use super::load;
use super::rule::Rule;
use super::tree::tree;

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/passes/rules");

/// Rules in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Whether their order decides among rules of one priority; else larger patterns come first.
    shuffled: bool,
}

impl RuleSet {
    /// The rules that come with secateur, read once.
    pub fn embedded() -> Result<&'static RuleSet, RuleError> {
        static SET: LazyLock<Result<RuleSet, RuleError>> = LazyLock::new(|| {
            let mut files = Vec::new();
            collect(&EMBEDDED, &mut files);
            RuleSet::read(files, load::embedded)
        });
        SET.as_ref().map_err(Clone::clone)
    }

    /// The rules of a folder: every `*.yaml` in it and in its folders, whose names are the families.
    pub fn load_dir(folder: &Path) -> Result<RuleSet, RuleError> {
        let mut files = Vec::new();
        read_folder(folder, &mut files, 0)?;
        Self::from_files(files)
    }

    /// Rules from file names (`family/name.yaml`) and contents.
    pub fn from_files(files: Vec<(String, String)>) -> Result<RuleSet, RuleError> {
        Self::read(files, |file, family, content: String| {
            load::rule(file, family, &content)
        })
    }

    fn read<T: Ord + Send>(
        mut files: Vec<(String, T)>,
        rule: impl Fn(&str, &str, T) -> Result<Rule, RuleError> + Sync,
    ) -> Result<RuleSet, RuleError> {
        files.sort();
        let family = |file: &str| {
            let folder = Path::new(file).parent().and_then(Path::file_name);
            folder.and_then(|f| f.to_str()).unwrap_or_default().to_owned()
        };
        let rules: Vec<Result<Rule, RuleError>> = files
            .into_par_iter()
            .map(|(file, content)| rule(&file, &family(&file), content))
            .collect();
        // Of several faults the first file's is told, at any number of threads.
        Self::default().and(rules.into_iter().collect::<Result<_, _>>()?)
    }

    /// This set with another's rules added; names and patterns must not collide.
    pub fn with(&self, other: &RuleSet) -> Result<RuleSet, RuleError> {
        self.clone().and(other.rules.clone())
    }

    fn and(mut self, rules: Vec<Rule>) -> Result<RuleSet, RuleError> {
        self.rules.extend(rules);
        self.shuffled = false;
        self.rules
            .sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.file.cmp(&b.file)));
        for pair in self.rules.windows(2) {
            if let [first, second] = pair
                && first.name == second.name
            {
                return Err(RuleError::Duplicate {
                    place: place(second),
                    name: second.name.clone(),
                    other: first.file.to_string(),
                });
            }
        }
        check_overlap(&self.rules)?;
        Ok(self)
    }

    /// One rule by itself.
    pub fn only(rule: &Rule) -> RuleSet {
        RuleSet {
            rules: vec![rule.clone()],
            shuffled: false,
        }
    }

    /// The same rules in another order, which decides among those of one priority: what comes out must not depend on it.
    #[doc(hidden)]
    pub fn shuffled(&self, seed: u64) -> RuleSet {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut rules = self.rules.clone();
        for last in (1..rules.len()).rev() {
            rules.swap(last, random.next_u32() as usize % (last + 1));
        }
        RuleSet {
            rules,
            shuffled: true,
        }
    }

    pub(super) fn is_shuffled(&self) -> bool {
        self.shuffled
    }

    /// Every rule, by name.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule with this name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }
}

fn place(rule: &Rule) -> Place {
    Place {
        file: rule.file.clone(),
        line: 1,
        column: 1,
    }
}

/// Two rules of equal priority must not have the same operator tree in a common opset.
fn check_overlap(rules: &[Rule]) -> Result<(), RuleError> {
    let mut seen: std::collections::BTreeMap<(String, i64), Vec<&Rule>> = std::collections::BTreeMap::new();
    for rule in rules {
        let mut own: Vec<String> = rule
            .instances
            .iter()
            .map(|instance| tree(&instance.pattern))
            .collect();
        own.sort();
        own.dedup();
        for key in own {
            let others = seen.entry((key, rule.priority)).or_default();
            if let Some(other) = others.iter().find(|other| ranges_meet(rule.opset, other.opset)) {
                return Err(RuleError::Overlap {
                    place: place(rule),
                    other: other.name.clone(),
                });
            }
            others.push(rule);
        }
    }
    Ok(())
}

fn ranges_meet(a: (i64, Option<i64>), b: (i64, Option<i64>)) -> bool {
    a.1.is_none_or(|last| last >= b.0) && b.1.is_none_or(|last| last >= a.0)
}

fn collect(folder: &Dir<'static>, files: &mut Vec<(String, &'static str)>) {
    for file in folder.files() {
        let name = file.path().to_string_lossy().into_owned();
        if let Some(content) = file.contents_utf8().filter(|_| name.ends_with(".yaml")) {
            files.push((name, content));
        }
    }
    folder.dirs().for_each(|inner| collect(inner, files));
}

fn read_folder(folder: &Path, files: &mut Vec<(String, String)>, depth: usize) -> Result<(), RuleError> {
    /// Folders in folders that are looked into.
    const DEEPEST: usize = 8;
    /// Bytes of one rule file.
    const MOST: u64 = 1 << 20;
    let failed = |path: &Path, reason: String| RuleError::Read {
        place: Place {
            file: Arc::from(path.to_string_lossy().as_ref()),
            line: 0,
            column: 0,
        },
        reason,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| failed(folder, error.to_string()))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| failed(folder, error.to_string()))?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth < DEEPEST {
                read_folder(&path, files, depth + 1)?;
            }
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let size = std::fs::metadata(&path)
            .map_err(|error| failed(&path, error.to_string()))?
            .len();
        if size > MOST {
            return Err(failed(&path, format!("a rule file of {size} bytes")));
        }
        let content = crate::files::read_text(&path).map_err(|error| failed(&path, error.to_string()))?;
        files.push((path.to_string_lossy().into_owned(), content));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_embedded_rules_are_those_of_their_files() {
        let mut files = Vec::new();
        collect(&EMBEDDED, &mut files);
        let read = files.into_iter().map(|(name, text)| (name, text.to_owned()));
        let whole = RuleSet::from_files(read.collect()).unwrap();
        let embedded = RuleSet::embedded().unwrap();
        assert_eq!(embedded.rules().len(), whole.rules().len());
        for (lazy, whole) in embedded.rules().iter().zip(whole.rules()) {
            assert!(!lazy.examples().is_empty(), "{}", lazy.name);
            assert_eq!(
                format!("{:?}", lazy.examples()),
                format!("{:?}", whole.examples()),
                "{}",
                lazy.name
            );
        }
    }
}
