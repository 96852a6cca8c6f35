//! How statistics lie in a file.

/// Version of the file format.
pub(super) const FORMAT: u32 = 1;
/// The metadata entry that holds everything, so that its order is fixed.
pub(super) const ENTRY: &str = "secateur";

/// Value and field of a tensor named `<kind>/<value>/<field>`; names of values may have slashes of their own.
pub(super) fn value_and_field<'n>(name: &'n str, kind: &str) -> Option<(&'n str, &'n str)> {
    name.strip_prefix(kind)?.strip_prefix('/')?.rsplit_once('/')
}

/// The words of 64 bits that a tensor is stored as.
pub(super) fn words(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.as_chunks::<8>().0.iter();
    words.map(|word| u64::from_le_bytes(*word)).collect()
}
