//! Whether a JPEG file is whole: decoders fill what is missing with grey.

/// Whether `bytes` is a JPEG stream that ends before its end-of-image marker.
pub(super) fn is_truncated(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8]) && !ends(bytes.get(2..).unwrap_or_default())
}

/// Whether the segments behind the start-of-image marker go on to the end-of-image marker (ITU-T T.81, annex B).
fn ends(mut rest: &[u8]) -> bool {
    loop {
        let marker = match rest {
            // Markers may have fill bytes before them.
            [0xff, 0xff, ..] => {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            [0xff, marker, ..] => *marker,
            // What stands between segments, entropy-coded data or a stuffed byte.
            [_, behind @ ..] => {
                rest = behind;
                continue;
            }
            [] => return false,
        };
        let behind = rest.get(2..).unwrap_or_default();
        rest = match marker {
            0xd9 => return true,
            // A stuffed byte, a restart, or a marker without parameters.
            0x00 | 0x01 | 0xd0..=0xd8 => behind,
            _ => {
                let [high, low, ..] = behind else { return false };
                match behind.get(usize::from(u16::from_be_bytes([*high, *low]))..) {
                    Some(next) => next,
                    None => return false,
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_is_found() {
        let image = image::RgbImage::from_fn(40, 30, |x, y| {
            image::Rgb([(x * 6) as u8, (y * 8) as u8, (x * y) as u8])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        let whole = bytes.into_inner();
        assert!(!is_truncated(&whole));
        for length in 2..whole.len() {
            assert!(is_truncated(&whole[..length]), "{length} of {}", whole.len());
        }
        let trailing: Vec<u8> = whole.iter().copied().chain([0, 1, 2]).collect();
        assert!(!is_truncated(&trailing));
        assert!(!is_truncated(b"\x89PNG"));
    }
}
