//! Bits a weight for a size of the packed model.

use super::NAME;
use super::options::Goal;
use crate::format::container::packed;
use crate::format::{ExternalFiles, encode_to_bytes, model_to_proto};
use crate::ir::Model;
use crate::passes::PassError;
use crate::passes::encoded_size::file_bytes;

/// Sizes that are tried at most.
const TRIES: usize = 6;
/// Bytes that are kept for what is added when a model is written: where it comes from, and what was done to it.
const RECORD: u64 = 512;
/// How far below the wanted size is near enough.
const NEAR: f64 = 0.005;
/// The fewest bits a weight that are tried.
const FEWEST: f64 = 0.02;

/// Runs `make` for the bits a weight that reach the goal; `given` is the model before, with how many weights are coded.
pub(super) fn reach<T>(
    goal: Goal,
    (given, weights): (&Model, u64),
    make: impl Fn(f64) -> Result<Option<(Model, T, super::LeftAlone)>, PassError>,
) -> Result<(Model, T, super::LeftAlone), PassError> {
    let most = match goal {
        Goal::Bits(bits) => {
            return make(bits)?.ok_or_else(|| PassError::Option {
                pass: NAME,
                message: format!(
                    "{bits} bits a weight cannot be reached: scales and the first codes of {weights} weights take more"
                ),
            });
        }
        Goal::Bytes(bytes) => bytes,
        Goal::Ratio(ratio) => {
            let bytes = file_bytes(given).map_err(|error| PassError::resource(NAME, error))?;
            (bytes as f64 / ratio) as u64
        }
    };
    let wanted = most.saturating_sub(RECORD) as f64;
    // What is not codes: a guess, then what was found.
    let mut beside = 0.03 * wanted;
    let mut best = None;
    let mut least = u64::MAX;
    for _ in 0..TRIES {
        let bits = (8.0 * (wanted - beside) / weights.max(1) as f64).min(8.0);
        if bits < FEWEST {
            break;
        }
        let Some(made) = make(bits)? else {
            break;
        };
        let size = size(&made.0)?;
        least = least.min(size);
        if size as f64 <= wanted {
            let near = size as f64 >= wanted * (1.0 - NEAR) || bits >= 8.0;
            best = Some(made);
            if near {
                break;
            }
        }
        beside += size as f64 - wanted * (1.0 - NEAR / 2.0);
    }
    best.ok_or_else(|| {
        let reached = match least {
            u64::MAX => "names, graph and what stays float take more".to_owned(),
            least => format!("the smallest that was reached has {least}"),
        };
        PassError::Option {
            pass: NAME,
            message: format!("{most} bytes cannot be reached: {reached}"),
        }
    })
}

/// Bytes of the packed model.
fn size(model: &Model) -> Result<u64, PassError> {
    let proto = model_to_proto(model, &ExternalFiles::default());
    let proto = proto.map_err(|error| PassError::resource(NAME, error))?;
    let found =
        packed(encode_to_bytes(&proto)).map_err(|error| PassError::resource(NAME, error.to_string()))?;
    Ok(found.bytes)
}
