//! SHA-1, the digest that the ONNX specification names for the `checksum` of external data. It tells a wrong file from the right one;
//! it is no protection against a deliberate collision.

use sha1::{Digest as _, Sha1};

/// The digest of `data` in lower-case hexadecimal digits.
pub(super) fn hex_digest(data: &[u8]) -> String {
    let digest = Sha1::digest(data);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::hex_digest;

    #[test]
    fn digests_agree_with_the_standard_and_with_another_implementation() {
        // The first three are the standard's examples, the last was computed with Python's hashlib.
        assert_eq!(hex_digest(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex_digest(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex_digest(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        );
        assert_eq!(
            hex_digest(&[b'a'; 1000]),
            "291e9a6c66994949b57ba5e650361e98fc36b1ba"
        );
    }
}
