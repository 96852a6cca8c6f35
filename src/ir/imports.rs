//! Opset imports of a model or a function.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use super::name::Name;

/// One opset import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsetImport {
    /// Domain as written.
    pub domain: Option<Name>,
    /// Version as written.
    pub version: Option<i64>,
}

impl OpsetImport {
    /// The domain; ONNX's own is the empty text however it is written.
    pub fn domain(&self) -> &str {
        match self.domain.as_deref() {
            None | Some("ai.onnx") => "",
            Some(domain) => domain,
        }
    }
}

/// Imports beyond which a version is looked up in an index: every operator asks for one, and a file may import a domain for each.
const SCANNED: usize = 8;

/// Opset imports in file order, repeats included.
#[derive(Clone, Debug, Default)]
pub struct Imports {
    list: Vec<OpsetImport>,
    /// The highest version by domain; made when it is asked for.
    index: OnceLock<HashMap<String, i64>>,
}

impl Imports {
    /// Adds an import at the end.
    pub fn push(&mut self, import: OpsetImport) {
        self.extend([import]);
    }

    fn version(&self, domain: &str) -> Option<i64> {
        let versions = |import: &OpsetImport| (import.domain() == domain).then_some(import.version?);
        if self.list.len() <= SCANNED {
            return self.list.iter().filter_map(versions).max();
        }
        let index = self.index.get_or_init(|| {
            let mut index = HashMap::with_capacity(self.list.len());
            self.list.iter().for_each(|import| note(&mut index, import));
            index
        });
        index.get(domain).copied()
    }
}

fn note(index: &mut HashMap<String, i64>, import: &OpsetImport) {
    let Some(version) = import.version else { return };
    match index.get_mut(import.domain()) {
        Some(known) => *known = version.max(*known),
        None => {
            index.insert(import.domain().to_owned(), version);
        }
    }
}

/// The imported version of a domain: the highest, if it is imported more than once.
pub fn opset_version(imports: &Imports, domain: &str) -> Option<i64> {
    imports.version(if domain == "ai.onnx" { "" } else { domain })
}

impl Deref for Imports {
    type Target = [OpsetImport];

    fn deref(&self) -> &[OpsetImport] {
        &self.list
    }
}

impl DerefMut for Imports {
    fn deref_mut(&mut self) -> &mut [OpsetImport] {
        self.index = OnceLock::new();
        &mut self.list
    }
}

impl Extend<OpsetImport> for Imports {
    fn extend<I: IntoIterator<Item = OpsetImport>>(&mut self, imports: I) {
        for import in imports {
            if let Some(index) = self.index.get_mut() {
                note(index, &import);
            }
            self.list.push(import);
        }
    }
}

impl From<Vec<OpsetImport>> for Imports {
    fn from(list: Vec<OpsetImport>) -> Self {
        Self {
            list,
            index: OnceLock::new(),
        }
    }
}

impl FromIterator<OpsetImport> for Imports {
    fn from_iter<I: IntoIterator<Item = OpsetImport>>(imports: I) -> Self {
        Self::from(Vec::from_iter(imports))
    }
}

impl PartialEq for Imports {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Imports {}

impl<'i> IntoIterator for &'i Imports {
    type Item = &'i OpsetImport;
    type IntoIter = std::slice::Iter<'i, OpsetImport>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl<'i> IntoIterator for &'i mut Imports {
    type Item = &'i mut OpsetImport;
    type IntoIter = std::slice::IterMut<'i, OpsetImport>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl IntoIterator for Imports {
    type Item = OpsetImport;
    type IntoIter = std::vec::IntoIter<OpsetImport>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(domain: &str, version: i64) -> OpsetImport {
        OpsetImport {
            domain: Some(Name::from(domain)),
            version: Some(version),
        }
    }

    #[test]
    fn few_and_many_imports_give_the_highest_version_of_a_domain() {
        for others in [0, 100] {
            let mut imports: Imports = (0..others).map(|at| import(&format!("d{at}"), at)).collect();
            imports.push(import("ai.onnx", 17));
            imports.push(import("", 13));
            imports.push(OpsetImport {
                domain: Some(Name::from("bare")),
                version: None,
            });
            let known = |imports: &Imports, domain| opset_version(imports, domain);
            assert_eq!(known(&imports, ""), Some(17));
            assert_eq!(known(&imports, "ai.onnx"), Some(17));
            assert_eq!((known(&imports, "bare"), known(&imports, "other")), (None, None));
            // What was asked for before a change is not what holds after it.
            imports.push(import("other", 2));
            assert_eq!(known(&imports, "other"), Some(2));
            for import in imports.iter_mut().filter(|import| import.domain() == "other") {
                import.version = Some(3);
            }
            assert_eq!(known(&imports, "other"), Some(3));
        }
    }
}
