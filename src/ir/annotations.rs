//! Quantization annotations: what a file says about values by their names.

use std::collections::HashMap;
use std::ops::Deref;

use super::name::Name;
use crate::proto::TensorAnnotation;

/// The annotations of a graph in file order, found by the value that they are about.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    list: Vec<TensorAnnotation>,
    places: HashMap<String, Vec<u32>>,
}

impl From<Vec<TensorAnnotation>> for Annotations {
    fn from(list: Vec<TensorAnnotation>) -> Self {
        let mut made = Self::default();
        list.into_iter().for_each(|annotation| made.push(annotation));
        made
    }
}

impl Deref for Annotations {
    type Target = [TensorAnnotation];

    fn deref(&self) -> &[TensorAnnotation] {
        &self.list
    }
}

impl Annotations {
    /// Adds one.
    pub fn push(&mut self, annotation: TensorAnnotation) {
        if let Some(name) = &annotation.tensor_name {
            let place = self.list.len() as u32;
            self.places.entry(name.clone()).or_default().push(place);
        }
        self.list.push(annotation);
    }

    /// Keeps those that `keep` accepts.
    pub fn retain(&mut self, keep: impl FnMut(&TensorAnnotation) -> bool) {
        let mut list = std::mem::take(&mut self.list);
        list.retain(keep);
        *self = list.into();
    }

    /// Changes each of them.
    pub fn for_each_mut(&mut self, change: impl FnMut(&mut TensorAnnotation)) {
        let mut list = std::mem::take(&mut self.list);
        list.iter_mut().for_each(change);
        *self = list.into();
    }

    /// Lets those about the value `old` be about `new`.
    pub(super) fn rename_value(&mut self, old: &Name, new: &Name) {
        let Some(mut moved) = self.places.remove(old.as_str()) else {
            return;
        };
        for place in &moved {
            if let Some(annotation) = self.list.get_mut(*place as usize) {
                annotation.tensor_name = Some(new.to_string());
            }
        }
        self.places.entry(new.to_string()).or_default().append(&mut moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str) -> TensorAnnotation {
        TensorAnnotation {
            tensor_name: Some(name.to_owned()),
            ..TensorAnnotation::default()
        }
    }

    fn names(annotations: &Annotations) -> Vec<&str> {
        annotations
            .iter()
            .map(|one| one.tensor_name.as_deref().unwrap_or(""))
            .collect()
    }

    #[test]
    fn values_are_renamed_wherever_they_are_named_and_keep_their_places() {
        let mut found: Annotations = vec![about("a"), about("b"), about("a")].into();
        found.rename_value(&"a".into(), &"b".into());
        assert_eq!(names(&found), ["b", "b", "b"]);
        found.rename_value(&"b".into(), &"c".into());
        assert_eq!(names(&found), ["c", "c", "c"]);
        found.rename_value(&"a".into(), &"d".into());
        assert_eq!(names(&found), ["c", "c", "c"]);
    }

    #[test]
    fn what_is_left_after_a_change_is_found() {
        let mut found: Annotations = vec![about("a"), about("b")].into();
        found.retain(|one| one.tensor_name.as_deref() == Some("b"));
        found.for_each_mut(|one| one.tensor_name = Some("x".to_owned()));
        found.push(about("y"));
        found.rename_value(&"x".into(), &"z".into());
        assert_eq!(names(&found), ["z", "y"]);
    }
}
