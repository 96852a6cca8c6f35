//! The text of a pipeline and those that it includes, each with the folder that its paths start from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::super::presets;
use super::conditions;
use super::variables::{Declared, declarations, use_of, uses};
use crate::yaml::{ConfigError, Document, Located, Location, Yaml};

/// A text, and what it includes.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) document: Document,
    pub(super) tree: Located,
    /// The folder of the file, as seen from that of the pipeline that includes it all; empty for that one itself.
    pub(super) folder: PathBuf,
    /// The file, where the text is that of an included one.
    pub(super) file: Option<PathBuf>,
    /// What stands under `include`, in order.
    pub(super) before: Vec<Part>,
    /// What is included among the steps, by the first byte of its name.
    pub(super) among: BTreeMap<usize, Part>,
}

/// The key that includes.
pub(super) const INCLUDE: &str = "include";

/// What a file has to be to stand among steps.
const STEPS_ALONE: [&str; 4] = ["version", "vars", "steps", INCLUDE];

/// The texts around one that is read, each with its file or preset and its name.
type Chain = Vec<(PathBuf, String)>;

impl Part {
    /// A whole pipeline.
    pub(super) fn top(document: Document, tree: Located, base: &Path) -> Result<Self, ConfigError> {
        let file = Path::new(&document.file);
        let own = base.join(file.file_name().unwrap_or_default());
        let mut chain = vec![(identity(&own), document.file.clone())];
        let mut part = Self {
            document,
            tree,
            folder: PathBuf::new(),
            file: None,
            before: Vec::new(),
            among: BTreeMap::new(),
        };
        part.include(base, &mut chain)?;
        Ok(part)
    }

    /// Reads what the text includes.
    fn include(&mut self, base: &Path, chain: &mut Chain) -> Result<(), ConfigError> {
        let document = self.document.clone();
        if let Some((_, tree)) = self.tree.get(INCLUDE) {
            let items: Vec<&Located> = match &tree.value {
                Yaml::List(items) => items.iter().collect(),
                _ => vec![tree],
            };
            for item in items {
                self.before
                    .push(read(&document, item, &self.folder, base, chain)?);
            }
        }
        let Some((_, steps)) = self.tree.get("steps") else {
            return Ok(());
        };
        let Yaml::List(items) = &steps.value else {
            return Ok(());
        };
        for (_, name) in items.iter().filter_map(|item| item.get(INCLUDE)) {
            let part = read(&document, name, &self.folder, base, chain)?;
            let other = part
                .tree
                .entries()
                .unwrap_or_default()
                .iter()
                .find(|(key, _)| !STEPS_ALONE.contains(&key.name.as_str()));
            if let Some((key, _)) = other {
                let message = format!("a file among steps has steps and no `{}`", key.name);
                let hint = "`include: FILE` beside `steps` takes all of a file".to_owned();
                return Err(part.document.error("include", key.spot, message, Some(hint)));
            }
            self.among.insert(name.spot.offset, part);
        }
        Ok(())
    }

    /// Calls `of` with every included part.
    pub(super) fn each(&self, of: &mut dyn FnMut(&Part)) {
        for part in self.before.iter().chain(self.among.values()) {
            of(part);
            part.each(of);
        }
    }

    /// Adds the variables that it declares, after those of the files that it includes.
    pub(super) fn declarations(&self, found: &mut IndexMap<String, Declared>) -> Result<(), ConfigError> {
        for part in self.before.iter().chain(self.among.values()) {
            part.declarations(found)?;
        }
        match self.tree.get("vars") {
            Some((_, tree)) => declarations(&self.document, tree, found),
            None => Ok(()),
        }
    }

    /// Adds the variables that it uses.
    pub(super) fn uses(&self, found: &mut BTreeMap<String, Location>) -> Result<(), ConfigError> {
        for (key, value) in self.tree.entries().unwrap_or_default() {
            if ["vars", "matrix", "version", INCLUDE].contains(&key.name.as_str()) {
                continue;
            }
            uses(&self.document, value, found)?;
            if let ("steps", Yaml::List(items)) = (key.name.as_str(), &value.value) {
                for (key, _) in items.iter().flat_map(conditions::compared) {
                    use_of(&self.document, key.spot, &key.name, found);
                }
            }
        }
        for part in self.before.iter().chain(self.among.values()) {
            part.uses(found)?;
        }
        Ok(())
    }
}

/// What tells files apart, however they are named.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The file or preset that `item` names, as seen from the text that includes it.
fn read(
    document: &Document,
    item: &Located,
    folder: &Path,
    base: &Path,
    chain: &mut Chain,
) -> Result<Part, ConfigError> {
    let refuse = |message: String, hint: &str| {
        Err(document.error("include", item.spot, message, Some(hint.to_owned())))
    };
    let name = match &item.value {
        Yaml::Text(name) if !name.contains("${") => name,
        Yaml::Text(_) => {
            return refuse(
                "what is included does not depend on variables".to_owned(),
                "`when` on the steps chooses among them",
            );
        }
        _ => {
            return refuse(
                format!("`include` names files, and this is {}", item.kind()),
                "write include: FILE, or a list of files",
            );
        }
    };
    let path = Path::new(name);
    let is_preset = path.components().count() == 1 && path.extension().is_none();
    let (own, text, inside, file) = match presets::text(name).filter(|_| is_preset) {
        Some(text) => (
            PathBuf::from(format!("preset {name}")),
            text.to_owned(),
            PathBuf::new(),
            None,
        ),
        None => {
            let relative = folder.join(path);
            let whole = base.join(&relative);
            let text = match crate::files::read_text(&whole) {
                Ok(text) => text,
                Err(error) => {
                    return refuse(
                        format!("cannot read {}: {error}", whole.display()),
                        "paths start from the folder of the file that names them",
                    );
                }
            };
            let inside = relative.parent().unwrap_or(Path::new("")).to_owned();
            (whole.clone(), text, inside, Some(whole))
        }
    };
    let same = identity(&own);
    if let Some(first) = chain.iter().position(|(known, _)| *known == same) {
        let names = chain.iter().skip(first).map(|(_, name)| name.as_str());
        let around: Vec<&str> = names.chain([name.as_str()]).collect();
        return refuse(
            format!("a file includes itself: {}", around.join(" -> ")),
            "take one of these names away",
        );
    }
    let document = Document {
        file: own.display().to_string(),
        text: text.into(),
    };
    let tree = document.parse()?;
    if let Some((key, _)) = tree.get("matrix") {
        let message = "a family stands in the file that is run, not in one that it includes";
        return Err(document.error("include", key.spot, message, None));
    }
    chain.push((same, own.display().to_string()));
    let mut part = Part {
        document,
        tree,
        folder: inside,
        file,
        before: Vec::new(),
        among: BTreeMap::new(),
    };
    part.include(base, chain)?;
    chain.pop();
    Ok(part)
}
