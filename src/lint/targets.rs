//! Runtimes that a model is checked for.

use std::fmt;

use super::tables;

/// A runtime, of a version where one was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// The row of the table of versions that holds.
    pub(super) release: &'static tables::Release,
    /// The version as it was written.
    pub(super) version: Option<String>,
    /// Whether it was asked for, so that what does not run there is an error.
    pub(super) asked: bool,
}

/// Runtimes that are looked at where none is named; what they lack is a note then.
pub(super) const DEFAULT: [&str; 2] = ["ort", "tract"];

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(self.name),
        }
    }
}

impl Target {
    /// The names that there are.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = tables::releases().iter().map(|row| row.target).collect();
        names.dedup();
        names
    }

    /// What is looked at where nothing was asked for.
    pub fn defaults() -> Vec<Self> {
        let of = |name: &&str| Self::find(name, None, false);
        DEFAULT.iter().filter_map(of).collect()
    }

    /// `ort`, or `ort@1.16`.
    ///
    /// # Errors
    /// What is wrong with the word.
    pub fn parse(word: &str) -> Result<Self, String> {
        let (name, version) = match word.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (word, None),
        };
        if !Self::names().contains(&name) {
            let known = Self::names().join(", ");
            let meant = crate::schema::nearest(name, Self::names());
            let hint = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            return Err(format!("there is no target {name:?} (there are {known}){hint}"));
        }
        Self::find(name, version, true).ok_or_else(|| {
            let rows = tables::releases().iter().filter(|row| row.target == name);
            let versions: Vec<&str> = rows.map(|row| row.version).collect();
            format!(
                "nothing is known of version {:?} of {name}; versions are {}",
                version.unwrap_or_default(),
                versions.join(", ")
            )
        })
    }

    /// The release that a version names, in full or by its first numbers; later ones than the newest are taken for it. Without a version
    /// the newest.
    fn find(name: &str, version: Option<&str>, asked: bool) -> Option<Self> {
        let mut rows = tables::releases().iter().filter(|row| row.target == name);
        let release = match version {
            None => rows.next_back()?,
            Some(version) => {
                let wanted = numbers(version)?;
                let newest = rows.clone().next_back()?;
                let holds = |row: &&tables::Release| {
                    let known = numbers(row.version).unwrap_or_default();
                    wanted.starts_with(&known) || known.starts_with(&wanted)
                };
                match numbers(newest.version) {
                    Some(last) if wanted > last => newest,
                    _ => rows.rfind(holds)?,
                }
            }
        };
        Some(Self {
            name: release.target,
            release,
            version: version.map(str::to_owned),
            asked,
        })
    }

    /// Whether the facts of [`tables`] on operators are about this release: they are about the newest.
    pub(super) fn is_newest(&self) -> bool {
        let newest = tables::releases().iter().rfind(|row| row.target == self.name);
        newest == Some(self.release)
    }
}

/// A version as numbers, so that 1.9 comes before 1.16.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_find_the_release_that_holds() {
        let of = |word: &str| Target::parse(word).map(|target| target.release.version);
        assert_eq!(of("ort@1.16.3"), Ok("1.16"));
        assert_eq!(of("ort@1.9"), Ok("1.9"));
        assert_eq!(of("tensorrt@8.6.1"), Ok("8.6"));
        assert_eq!(of("tensorrt@8"), Ok("8.6"));
        assert_eq!(of("tensorrt@10.13"), Ok("10.0"));
        assert!(of("ort@1.25").unwrap_err().contains("1.20, 1.32"));
        assert!(Target::parse("ort").unwrap().is_newest());
        assert!(!Target::parse("ort@1.16").unwrap().is_newest());
        assert!(of("ort@0.3").unwrap_err().contains("1.9"));
        assert!(of("tensortr").unwrap_err().ends_with("did you mean tensorrt?"));
    }
}
