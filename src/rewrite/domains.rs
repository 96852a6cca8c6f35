//! Domains beside ONNX's own that replacements take operators from: a model that does not import one does so once it has such an operator.

use crate::ir::{GraphPath, Imports, Model, OpsetImport, opset_version};

/// Domains and the versions in which rules know their operators.
const FOREIGN: [(&str, i64); 1] = [("com.microsoft", 1)];

/// The imports of a graph with those that a rewrite of it may add.
pub(crate) fn with_foreign(imports: &Imports) -> Imports {
    let mut all = imports.clone();
    add(&mut all, FOREIGN.iter().map(|(domain, _)| *domain));
    all
}

/// The domain of an operator that a rewrite may have to import, as the table writes it.
pub(crate) fn foreign(domain: &str) -> Option<&'static str> {
    FOREIGN
        .iter()
        .map(|(known, _)| *known)
        .find(|known| *known == domain)
}

/// Imports those of these domains that rules know and that are not imported.
pub(crate) fn add<'a>(imports: &mut Imports, domains: impl IntoIterator<Item = &'a str>) {
    for domain in domains {
        let known = FOREIGN.iter().find(|(known, _)| *known == domain);
        if let Some((domain, version)) = known
            && opset_version(imports, domain).is_none()
        {
            imports.push(OpsetImport {
                domain: Some((*domain).into()),
                version: Some(*version),
            });
        }
    }
}

/// Imports the domains of new operators where the graph at `path` has its imports: in its function or in the model.
pub(crate) fn add_at<'a>(model: &mut Model, path: &GraphPath, domains: impl IntoIterator<Item = &'a str>) {
    let function = path.function.and_then(|index| model.functions.get_mut(index));
    match function {
        Some(function) => add(&mut function.opset_imports, domains),
        None => add(&mut model.opset_imports, domains),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(domain: &str, version: i64) -> OpsetImport {
        OpsetImport {
            domain: Some(domain.into()),
            version: Some(version),
        }
    }

    #[test]
    fn a_domain_is_imported_once_and_only_if_rules_know_it() {
        let mut imports: Imports = [import("", 17)].into_iter().collect();
        add(&mut imports, ["", "acme", "com.microsoft", "com.microsoft"]);
        assert_eq!(imports.len(), 2);
        assert_eq!(opset_version(&imports, "com.microsoft"), Some(1));
    }

    #[test]
    fn an_import_that_is_there_keeps_its_version() {
        let imports: Imports = [import("", 17), import("com.microsoft", 2)].into_iter().collect();
        assert_eq!(with_foreign(&imports), imports);
        assert_eq!(foreign("com.microsoft"), Some("com.microsoft"));
        assert_eq!(foreign(""), None);
    }
}
