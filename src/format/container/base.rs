//! A model that the reader of a container has: weights are stored by what they differ in from its weights.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::{ContainerError, ContainerProblem};
use super::index::{put_text, text};
use super::is_container;
use super::read::Container;
use super::segments::{Cut, Part, Segment};
use crate::coding::{Damaged, Reader, put_varint};
use crate::format::decode::{Origin, Source, read_path, read_proto};
use crate::format::{FormatError, ReadOptions};

/// Bytes of the base's graph that the model of a container's graph learns from first.
const LEARNED: usize = 1 << 20;

/// A model that containers are written or read by.
#[derive(Clone, Debug)]
pub struct Base {
    path: PathBuf,
    cut: Cut,
    digest: [u8; 32],
}

/// What a container says of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseName {
    /// The name of the file when it was packed.
    pub name: String,
    /// BLAKE3 of the model file and its external data after it, in the order in which the model names them first.
    pub digest: [u8; 32],
    /// Where its external data lie.
    pub(super) locations: Vec<String>,
    /// Where its tensors lie in the model file: from the end of the one before, and how long.
    pub(super) cuts: Vec<(u64, u64)>,
}

pub(super) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Base {
    /// Reads a base: a model, or a container that needs no base itself.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let options = ReadOptions::default();
        let bytes = read_path(path, &options.limits)?;
        let origin = if is_container(&bytes) {
            let container = Container::parse(bytes)?;
            if container.base().is_some() {
                let problem = ContainerProblem::Damaged("a base may not need a base itself");
                return Err(problem.whole().in_file(path).into());
            }
            container.restore(None, Some(path))?
        } else {
            read_proto(Source::Path(path.to_owned()), &options)?.origin
        };
        Ok(Self::of(path, &origin))
    }

    fn of(path: &Path, origin: &Origin) -> Self {
        let cut = Cut::of(origin);
        let mut hasher = blake3::Hasher::new();
        cut.files.iter().for_each(|file| {
            hasher.update(&file.bytes);
        });
        Self {
            path: path.to_owned(),
            digest: *hasher.finalize().as_bytes(),
            cut,
        }
    }

    /// What a container says of it.
    pub(super) fn record(&self) -> BaseName {
        let mut end = 0;
        let own = self.cut.segments.iter().filter(|segment| segment.file == 0);
        let cuts = own.map(|segment| {
            let gap = segment.offset - end;
            end = segment.end();
            (gap, segment.length)
        });
        BaseName {
            name: self
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            digest: self.digest,
            cuts: cuts.collect(),
            locations: self
                .cut
                .files
                .iter()
                .skip(1)
                .map(|file| file.location.clone())
                .collect(),
        }
    }

    /// Where a container at `path` looks for a base; `None` where it needs none, or is no container.
    pub(crate) fn beside(path: &Path) -> Option<PathBuf> {
        use std::io::Read as _;
        // What stands before the payload; a record that is longer names thousands of files.
        let mut start = Vec::new();
        std::fs::File::open(path)
            .ok()?
            .take(1 << 20)
            .read_to_end(&mut start)
            .ok()?;
        let mut reader = Reader(&start);
        if !is_container(&start) || reader.take(10).ok()?.get(9) != Some(&1) {
            return None;
        }
        BaseName::take(&mut reader).ok()?.beside(path)
    }

    /// The base that a container names: at the path that is given, or beside the container under the name that it had.
    pub(super) fn find(
        record: &BaseName,
        given: Option<&Path>,
        container: Option<&Path>,
    ) -> Result<Self, FormatError> {
        let digest = hexadecimal(&record.digest);
        let missing = |reason: String| {
            let problem = ContainerProblem::BaseMissing {
                name: record.name.clone(),
                digest: digest.clone(),
                reason,
            };
            problem.whole().in_source(container)
        };
        let path = match (given, container) {
            (Some(given), _) => given.to_owned(),
            (None, None) => return Err(missing("the container is no file".to_owned()).into()),
            (None, Some(container)) => match record.beside(container) {
                Some(path) => path,
                None => return Err(missing("its name is no file name".to_owned()).into()),
            },
        };
        if given.is_none() && !path.is_file() {
            return Err(missing(format!("there is no {}", path.display())).into());
        }
        let base = Self::open(&path)?;
        if base.digest != record.digest {
            let problem = ContainerProblem::BaseOther {
                name: record.name.clone(),
                digest,
                given: path,
                found: hexadecimal(&base.digest),
            };
            return Err(problem.whole().in_source(container).into());
        }
        Ok(base)
    }

    /// `length` bytes from an offset of a file.
    pub(super) fn slice(&self, file: usize, offset: u64, length: u64) -> Option<Bytes> {
        let bytes = &self.cut.files.get(file)?.bytes;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    }

    /// Where the base has what each segment may be coded by: a tensor of the same name, else the next one of the same shape that no
    /// other took.
    pub(super) fn partners(&self, segments: &[Segment]) -> Vec<Option<(usize, u64)>> {
        let own = &self.cut.segments;
        let mut names: HashMap<_, VecDeque<usize>> = HashMap::new();
        for (at, segment) in own.iter().enumerate() {
            names
                .entry((&segment.name, segment.data_type, segment.length))
                .or_default()
                .push_back(at);
        }
        let mut taken = vec![false; own.len()];
        let mut found: Vec<Option<usize>> = segments
            .iter()
            .map(|segment| {
                let key = (&segment.name, segment.data_type, segment.length);
                let at = names.get_mut(&key)?.pop_front()?;
                taken[at] = true;
                Some(at)
            })
            .collect();
        let mut shapes: HashMap<_, VecDeque<usize>> = HashMap::new();
        for (at, segment) in own.iter().enumerate().filter(|(at, _)| !taken[*at]) {
            shapes
                .entry((&segment.dims, segment.data_type, segment.length))
                .or_default()
                .push_back(at);
        }
        for (found, segment) in found
            .iter_mut()
            .zip(segments)
            .filter(|(found, _)| found.is_none())
        {
            let key = (&segment.dims, segment.data_type, segment.length);
            *found = shapes.get_mut(&key).and_then(VecDeque::pop_front);
        }
        found
            .into_iter()
            .map(|at| own.get(at?).map(|segment| (segment.file, segment.offset)))
            .collect()
    }

    /// What a graph is learned from: the base's model file without its tensors, as the record cuts it.
    pub(super) fn graph(&self, record: &BaseName) -> Result<Vec<u8>, ContainerProblem> {
        let wrong = ContainerProblem::Damaged("the base has not the tensors that the container says");
        let bytes: &[u8] = self.cut.files.first().map_or(&[], |file: &Part| &file.bytes);
        let mut learned = Vec::new();
        let mut reader = Reader(bytes);
        let rest = (u64::MAX, 0);
        for (gap, length) in record.cuts.iter().copied().chain([rest]) {
            let gap = usize::try_from(gap).unwrap_or(usize::MAX);
            let gap = if length == 0 { reader.0.len() } else { gap };
            let kept = reader.take(gap).map_err(|_| wrong.clone())?;
            let room = LEARNED - learned.len();
            learned.extend(kept.iter().take(room));
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            reader.take(length).map_err(|_| wrong.clone())?;
        }
        Ok(learned)
    }
}

impl BaseName {
    /// The file of this name in a container's folder.
    fn beside(&self, container: &Path) -> Option<PathBuf> {
        let plain = Path::new(&self.name).components().count() == 1
            && crate::format::location::check_location(&self.name).is_ok();
        plain.then(|| crate::files::directory_of(container).join(&self.name))
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.digest);
        put_text(out, &self.name);
        put_varint(out, self.locations.len() as u64);
        self.locations.iter().for_each(|location| put_text(out, location));
        put_varint(out, self.cuts.len() as u64);
        for (gap, length) in &self.cuts {
            put_varint(out, *gap);
            put_varint(out, *length);
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let digest = reader.take(32)?.try_into().unwrap_or_default();
        let name = text(reader)?;
        let mut locations = Vec::new();
        for _ in 0..reader.varint()? {
            locations.push(text(reader)?);
        }
        let mut cuts = Vec::new();
        for _ in 0..reader.varint()? {
            let cut = (reader.varint()?, reader.varint()?);
            if cut.1 == 0 {
                return Err(Damaged("a tensor of the base is empty"));
            }
            cuts.push(cut);
        }
        Ok(Self {
            name,
            digest,
            locations,
            cuts,
        })
    }
}

impl ContainerError {
    pub(super) fn in_file(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }

    pub(super) fn in_source(self, path: Option<&Path>) -> Self {
        match path {
            Some(path) => self.in_file(path),
            None => self,
        }
    }
}
