//! Removing the data file that an in-place save has replaced.

use std::path::{Component, Path, PathBuf};

use super::decode::Origin;
use super::external;
use super::fs::Fs;
use super::location::{directory_of, has_other_names, same_file};
use super::map::file_bytes;

/// Removes the data files of the replaced model that secateur wrote for it and that nothing else needs: named
/// `<stem>.<16 digits of the content's BLAKE3>.data`, in the model's own directory, not named by the new model (`kept`),
/// without a second name, and not recorded by any other model there. Returns what is gone.
pub(super) fn remove_replaced(
    fs: &dyn Fs,
    model: &Path,
    stem: &str,
    origin: &Origin,
    kept: &[String],
) -> Vec<PathBuf> {
    let directory = directory_of(model);
    let mut removed = Vec::new();
    for (location, file) in origin.external.iter() {
        let path = directory.join(location);
        let ours = wrote(stem, location, &file.bytes)
            && !kept.iter().any(|name| name == location)
            && path
                .symlink_metadata()
                .is_ok_and(|found| found.is_file() && !has_other_names(&found))
            && same_file(&path, &file.path);
        // A failure leaves a file that nobody needs, which is no failure of the save.
        if ours && no_other_reader(&directory, model, location) && fs.remove_file(&path).is_ok() {
            removed.push(path);
        }
    }
    removed
}

/// Whether the name is what this library gives to this content for a model with this stem.
fn wrote(stem: &str, location: &str, content: &[u8]) -> bool {
    let digits = location
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(".data"));
    digits.is_some_and(|digits| digits.len() == 16 && blake3::hash(content).to_hex().starts_with(digits))
}

/// Whether no other model in the directory records the location. A file that cannot be read as a model counts as a reader.
fn no_other_reader(directory: &Path, model: &Path, location: &str) -> bool {
    let Ok(entries) = directory.read_dir() else {
        return false;
    };
    entries.into_iter().all(|entry| {
        let Ok(entry) = entry else { return false };
        let path = entry.path();
        let is_model = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        if !is_model || same_file(&path, model) {
            return true;
        }
        let content = std::fs::File::open(&path).and_then(|file| {
            let size = file.metadata()?.len();
            file_bytes(file, size)
        });
        let Some(locations) = content.ok().and_then(external::recorded_locations) else {
            return false;
        };
        !locations.iter().any(|other| steps(other).eq(steps(location)))
    })
}

/// The steps of a relative path, without those that stay in place.
fn steps(location: &str) -> impl Iterator<Item = Component<'_>> {
    Path::new(location)
        .components()
        .filter(|step| *step != Component::CurDir)
}
