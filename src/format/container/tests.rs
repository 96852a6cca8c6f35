//! Containers that lie: their digests are right, what they say is not.

use std::path::Path;

use bytes::Bytes;

use super::index::{Entry, FileEntry, Index};
use super::read::Container;
use super::segments::Segment;
use super::write::{PackOptions, footer, pack, structure_of};
use super::{MAGIC, VERSION};
use crate::format::decode::{Source, read_proto};
use crate::format::{FormatError, ReadOptions};

/// A container of these parts, with every digest that its writer would give.
fn sealed(payload: &[u8], said: &[u8], between: &[u8], digests: &[u8]) -> Bytes {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([VERSION, 0]);
    bytes.extend(payload);
    let start = bytes.len() as u64;
    let structure = structure_of(&[], said, between);
    bytes.extend(&structure);
    bytes.extend(digests);
    bytes.extend(footer(
        start,
        structure.len(),
        said.len(),
        between.len(),
        &[said, digests],
    ));
    let whole = *blake3::hash(&bytes).as_bytes();
    bytes.extend(whole);
    Bytes::from(bytes)
}

/// A file of 4,096 bytes of which a tensor of 1,024 floats is all.
fn index() -> Index {
    Index {
        files: vec![FileEntry {
            location: String::new(),
            length: 4096,
            digest: *blake3::hash(&[0; 4096]).as_bytes(),
        }],
        entries: vec![Entry {
            segment: Segment {
                file: 0,
                offset: 0,
                length: 4096,
                data_type: 1,
                dims: vec![32, 32],
                name: "w".to_owned(),
            },
            base: None,
            digest: super::write::short_digest(&[&[0; 4096]]),
            blocks: vec![2],
        }],
        aliases: Vec::new(),
    }
}

/// All zeros.
const FILL: [u8; 2] = [1, 0];

fn code(bytes: Bytes) -> Result<usize, String> {
    let restored = Container::parse(bytes).and_then(|container| container.restore(None, None));
    restored
        .map(|origin| origin.bytes.len())
        .map_err(|error| error.code().to_owned())
}

fn of(index: &Index, payload: &[u8], between: &[u8]) -> Result<usize, String> {
    let (said, digests) = index.to_bytes();
    code(sealed(payload, &said, between, &digests))
}

fn refused(code: &str) -> Result<usize, String> {
    Err(code.to_owned())
}

#[test]
fn sizes_that_lie_are_refused_before_anything_is_made_of_that_size() {
    assert_eq!(of(&index(), &FILL, &[]), Ok(4096));
    let with = |change: &dyn Fn(&mut Index)| {
        let mut index = index();
        change(&mut index);
        of(&index, &FILL, &[])
    };
    let huge = with(&|index| index.files[0].length = 1 << 50);
    assert_eq!(huge, refused("container-size"));
    let beyond = with(&|index| index.entries[0].segment.length = 4100);
    assert_eq!(beyond, refused("container-size"));
    let moved = with(&|index| index.entries[0].segment.offset = 8);
    assert_eq!(moved, refused("container-size"));
    let short = with(&|index| index.entries[0].blocks[0] = 3);
    assert_eq!(short, refused("container-truncated"));
    let most = with(&|index| index.entries[0].blocks[0] = u64::MAX);
    assert_eq!(most, refused("container-truncated"));
    let missing = with(&|index| index.entries[0].segment.file = 1);
    assert_eq!(missing, refused("container-size"));
    let other = with(&|index| index.entries[0].digest[0] ^= 1);
    assert_eq!(other, refused("container-damaged"));
    let file = with(&|index| index.files[0].digest[0] ^= 1);
    assert_eq!(file, refused("container-damaged"));
    // A tensor of zeros as large as a disk: one block says two bytes each.
    let bomb = with(&|index| {
        index.files[0].length = 1 << 40;
        index.entries[0].segment.length = 1 << 40;
        index.entries[0].blocks = vec![0; 1 << 18];
    });
    assert_eq!(bomb, refused("container-too-large"));
    let (said, digests) = index().to_bytes();
    let mut long = said.clone();
    long.push(0);
    assert_eq!(
        code(sealed(&FILL, &long, &[], &digests)),
        refused("container-damaged")
    );
    assert_eq!(
        code(sealed(&FILL, &said, &[0], &digests)),
        refused("container-size")
    );
    assert_eq!(
        code(sealed(&FILL, &said, &[], &[&digests[..], &[0]].concat())),
        refused("container-damaged")
    );
}

#[test]
fn a_graph_that_few_bytes_cannot_say_is_refused() {
    let mut bytes = sealed(&FILL, &index().to_bytes().0, &[], &index().to_bytes().1).to_vec();
    let at = bytes.len() - 80 + 24;
    bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert_eq!(code(Bytes::from(bytes)), refused("container-size"));
}

fn packed(model: &str, fast: bool) -> (Vec<u8>, Bytes) {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(model);
    let origin = read_proto(Source::Path(path), &ReadOptions::default())
        .unwrap()
        .origin;
    let target = folder.path().join("m.sct");
    let options = PackOptions {
        fast,
        ..PackOptions::default()
    };
    pack(&origin, &target, &options).unwrap();
    (std::fs::read(target).unwrap(), origin.bytes)
}

/// Every number and every coded byte of containers changed at random, with digests that fit: whatever is said, a reader ends and is not
/// fooled.
#[test]
fn indices_and_blocks_that_were_changed_with_their_digests_give_an_error_or_the_model() {
    let mut state = 11u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let count: usize = std::env::var("SECATEUR_MUTATIONS").map_or(200, |text| text.parse().unwrap());
    let seeds =
        [("digits_mlp.onnx", true), ("digits_mlp.onnx", false)].map(|(name, fast)| packed(name, fast));
    let mut refused = 0;
    for round in 0..count {
        let (bytes, model) = &seeds[round % seeds.len()];
        let container = Container::parse(Bytes::from(bytes.clone())).unwrap();
        let (mut said, digests) = container.index.to_bytes();
        let mut between = container.graph(None).unwrap();
        let start = u64::from_le_bytes(bytes[bytes.len() - 80..][..8].try_into().unwrap()) as usize;
        let mut payload = bytes[10..start].to_vec();
        for _ in 0..=next(3) {
            let part = match next(5) {
                0 | 1 => &mut payload,
                2 => &mut between,
                _ => &mut said,
            };
            let at = next(part.len());
            match next(3) {
                0 => part[at] ^= 1 << next(8),
                1 => part[at] = next(256) as u8,
                _ => {
                    let at = next(part.len());
                    part.truncate(at.max(1));
                }
            }
        }
        let changed = sealed(&payload, &said, &between, &digests);
        match Container::parse(changed).and_then(|container| container.restore(None, None)) {
            Ok(origin) => assert_eq!(origin.bytes, *model, "round {round}"),
            Err(FormatError::Container(_)) => refused += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
    }
    assert!(refused > count / 2, "{refused}");
}
