//! `pack MODEL -o FILE` and `unpack FILE -o MODEL`: a model in few bytes, and back.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::global::Global;
use super::{Answer, terminal};
use crate::api::{self, Container, Error, Packed, Packing};
use crate::report::sanitise;

/// Pack a model with its external data into one container, which every verb reads like the model
///
/// No bit is lost: `unpack` gives the same files. Weights are coded by type: floats in planes or by adaptive probabilities, integers, zeros and
/// few values by how often and where they occur, the graph by what repeats in it. docs/container.md is the format.
#[derive(Clone, Debug, Args)]
pub(super) struct Pack {
    /// The model; `-` is stdin
    model: PathBuf,
    /// The container, by custom called .sct
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A model that whoever unpacks has, too: what differs from it is stored
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// What counts: `small` tries everything, `fast` what is unpacked at the speed of memory
    #[arg(long, value_enum, default_value = "small")]
    speed: Speed,
}

/// What counts.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Speed {
    /// Few bytes.
    Small,
    /// Little time.
    Fast,
}

/// Unpack a container into the files that were packed, or one tensor of it
///
/// External data go beside the model under the names that it records.
#[derive(Clone, Debug, Args)]
pub(super) struct Unpack {
    /// The container
    container: PathBuf,
    /// The model, or the .npy file of --tensor
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The model by which it was packed; without it, a file of that name beside the container
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// Write this tensor alone; no other one is decoded
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
}

pub(super) fn pack(global: &Global, arguments: &Pack) -> Result<Answer, Error> {
    let mut packing = Packing::new();
    if let Speed::Fast = arguments.speed {
        packing = packing.fast();
    }
    if let Some(base) = &arguments.base {
        packing = packing.base(base);
    }
    let packed = api::pack(&arguments.model, &arguments.output, &packing, &global.options())?;
    if global.json {
        terminal::json(&packed);
    } else if global.quiet == 0 {
        terminal::answer(&said(&packed, global.verbose > 0));
    }
    Ok(Answer::Done)
}

/// What became of the bytes.
fn said(packed: &Packed, all: bool) -> String {
    let share = |packed: u64, bytes: u64| 100.0 * packed as f64 / bytes.max(1) as f64;
    let mut text = String::new();
    if all {
        for part in std::iter::once(&packed.graph).chain(&packed.tensors) {
            let name = if part.name.is_empty() {
                "(no tensor)"
            } else {
                &part.name
            };
            let share = share(part.packed, part.bytes);
            text.push_str(&format!(
                "{} -> {} bytes, {share:.1} %: {}\n",
                part.bytes,
                part.packed,
                sanitise(name)
            ));
        }
    }
    let share = share(packed.bytes, packed.model_bytes);
    text.push_str(&format!(
        "{} -> {} bytes, {share:.1} %: {}",
        packed.model_bytes,
        packed.bytes,
        sanitise(&packed.output)
    ));
    text
}

pub(super) fn unpack(global: &Global, arguments: &Unpack) -> Result<Answer, Error> {
    let options = global.options();
    let (input, output, base) = (&arguments.container, &arguments.output, arguments.base.as_deref());
    let files = match &arguments.tensor {
        Some(tensor) => {
            Container::open_with(input, base)?.extract(tensor, output, &options)?;
            vec![output.display().to_string()]
        }
        None => api::unpack(input, output, base, &options)?.files,
    };
    if global.json {
        terminal::json(&json!({ "files": files }));
    } else if global.quiet == 0 {
        terminal::answer(&format!("written: {}", sanitise(&files.join(", "))));
    }
    Ok(Answer::Done)
}
