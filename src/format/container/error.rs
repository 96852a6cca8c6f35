//! What can be wrong with a container.

use std::path::PathBuf;

/// Why a container could not be read, or a model not be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", at(tensor.as_deref()))]
pub struct ContainerError {
    /// The container, where it is a file.
    pub path: Option<PathBuf>,
    /// The tensor at fault.
    pub tensor: Option<String>,
    /// What is wrong.
    pub problem: ContainerProblem,
}

fn at(tensor: Option<&str>) -> String {
    tensor.map_or_else(String::new, |tensor| format!("tensor `{tensor}`: "))
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerProblem {
    /// It does not begin as a container does.
    #[error("it is no container of secateur")]
    NoContainer,
    /// A version that this program does not know.
    #[error("it is a container of version {0}, and this secateur reads version 1")]
    Version(u8),
    /// It ends before it should.
    #[error("the container is not whole: {0}")]
    Truncated(&'static str),
    /// Bytes are not what the writer wrote.
    #[error("the container is damaged: {0}")]
    Damaged(&'static str),
    /// A size that the container cannot have.
    #[error("the container says a size that it cannot have: {0}")]
    Size(&'static str),
    /// The contents need more room than a container of this size may ask for.
    #[error(
        "the container of {container} bytes says that it holds {contents}, more than any that secateur writes"
    )]
    TooLarge {
        /// Bytes of the container.
        container: u64,
        /// Bytes of its contents.
        contents: u64,
    },
    /// The base is not there.
    #[error("it was packed with a base, `{name}` (BLAKE3 {digest}…), which is not there: {reason}")]
    BaseMissing {
        /// The name of the base's file when it was packed.
        name: String,
        /// The beginning of its digest.
        digest: String,
        /// Why it could not be used.
        reason: String,
    },
    /// The base is another one.
    #[error("it was packed with `{name}` (BLAKE3 {digest}…) as its base; {} is another model (BLAKE3 {found}…)", given.display())]
    BaseOther {
        /// The name of the base's file when it was packed.
        name: String,
        /// The beginning of its digest.
        digest: String,
        /// The file that was given.
        given: PathBuf,
        /// The beginning of that file's digest.
        found: String,
    },
    /// A base was given to a container that needs none.
    #[error("it was packed without a base, so {} has nothing to do with it", .0.display())]
    BaseUnused(PathBuf),
    /// There is no such tensor.
    #[error("it holds no tensor of this name, or one of less than 256 bytes, which is stored with the graph")]
    NoTensor,
}

impl ContainerProblem {
    /// A stable name for this kind of problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoContainer => "container-magic",
            Self::Version(_) => "container-version",
            Self::Truncated(_) => "container-truncated",
            Self::Damaged(_) => "container-damaged",
            Self::Size(_) => "container-size",
            Self::TooLarge { .. } => "container-too-large",
            Self::BaseMissing { .. } => "container-base-missing",
            Self::BaseOther { .. } | Self::BaseUnused(_) => "container-base-other",
            Self::NoTensor => "container-no-tensor",
        }
    }

    /// This problem of the container itself.
    pub(super) fn whole(self) -> ContainerError {
        ContainerError {
            path: None,
            tensor: None,
            problem: self,
        }
    }

    /// This problem of a tensor.
    pub(super) fn of(self, tensor: &str) -> ContainerError {
        ContainerError {
            path: None,
            tensor: Some(tensor.to_owned()),
            problem: self,
        }
    }
}

impl ContainerError {
    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.problem {
            ContainerProblem::BaseMissing { .. } => {
                "put the base beside the container under that name, or name it: unpack --base FILE"
            }
            ContainerProblem::BaseOther { .. } => {
                "name the model that it was packed with: unpack --base FILE"
            }
            ContainerProblem::BaseUnused(_) => "leave --base out",
            ContainerProblem::Version(_) => "use a newer secateur",
            ContainerProblem::Truncated(_) | ContainerProblem::Damaged(_) | ContainerProblem::Size(_) => {
                "copy the container again from where it was packed"
            }
            _ => return None,
        })
    }
}
