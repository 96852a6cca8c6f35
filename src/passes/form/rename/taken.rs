//! Which names there are after a renaming, and who has them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::ir::{GraphPath, Name};

/// Names by the graph, or function, that they have to be distinct in: bodies belong to the graph around them.
#[derive(Default)]
pub(super) struct Taken {
    owners: HashMap<(Option<usize>, Name), Owner>,
    clash: Option<(Name, Owner, Owner)>,
}

/// What has a name.
#[derive(Clone)]
struct Owner {
    old: Name,
    renamed: bool,
}

impl Taken {
    /// Adds what is called `old`, and `new` afterwards where it is renamed. What had one name before may have one afterwards.
    pub(super) fn add(&mut self, path: &GraphPath, old: &Name, new: Option<&Name>) {
        let name = new.unwrap_or(old).clone();
        let owner = Owner {
            old: old.clone(),
            renamed: new.is_some(),
        };
        match self.owners.entry((path.function, name.clone())) {
            Entry::Vacant(place) => {
                place.insert(owner);
            }
            Entry::Occupied(other) => {
                let other = other.get();
                if other.old != owner.old && (other.renamed || owner.renamed) && self.clash.is_none() {
                    self.clash = Some((name, other.clone(), owner));
                }
            }
        }
    }

    /// What is wrong with the first name that two have.
    pub(super) fn clash(&self, kind: &str) -> Option<String> {
        let (name, first, second) = self.clash.as_ref()?;
        if first.renamed && second.renamed {
            return Some(format!(
                "{:?} and {:?} cannot both become {name:?}",
                first.old, second.old
            ));
        }
        let renamed = if first.renamed { first } else { second };
        Some(format!(
            "{:?} cannot become {name:?}: another {kind} has that name",
            renamed.old
        ))
    }
}
