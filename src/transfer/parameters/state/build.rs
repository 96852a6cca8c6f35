//! A layer of a state dict as a unit, so that it is adapted like one of a model.

use std::collections::BTreeSet;

use super::gates::{self, Form};
use super::layers::{Item, Layer, Layers, is_batch_norm};
use super::places::Found;
use crate::ir::{Graph, Tensor, TensorError, ValueId};
use crate::transfer::modules;
use crate::transfer::units::{Kind, Layout, Part, Role, Unit};

/// Why a unit does not get weights of the file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Reason {
    /// A weight is not in the file.
    #[error("{0:?} of the same operator has no counterpart")]
    Counterpart(String),
    /// A tensor of a recurrent layer is missing or of another form than that of the other direction.
    #[error("the source has no {0} that fits")]
    Lacking(String),
    /// The reset gate is applied elsewhere.
    #[error("PyTorch's GRU resets behind the recurrent product, and linear_before_reset is 0 here")]
    Reset,
    /// Input and forget gate are one.
    #[error("PyTorch's LSTM has both gates, and input_forget is 1 here")]
    Coupled,
    /// An LSTM with a projection.
    #[error("{0} projects the state, which the operator cannot")]
    Projection(String),
    /// Layers of a recurrent network and operators are not one for one.
    #[error("{stem} has {layers} layers, and {operators} operators in a row stand for them here")]
    Stack {
        /// The stem.
        stem: String,
        /// Layers of the source.
        layers: usize,
        /// Operators of the target.
        operators: usize,
    },
    /// Several operators.
    #[error("several operators with different weights may stand for {0}")]
    Contested(String),
    /// A packed projection.
    #[error("it cannot be told whether it makes queries, keys or values of {0}")]
    Projections(String),
    /// Several normalisations or units.
    #[error("it cannot be told which of {norms} is folded into {layer}; `batch-norm` says it ({layer}=NAME)")]
    Norms {
        /// The module.
        layer: String,
        /// Open normalisations.
        norms: String,
    },
    /// A pair of the user.
    #[error("there is no open layer {0}")]
    NoLayer(String),
    /// A square matrix.
    #[error(
        "it is square, and other matrices of the source are stored as [in, out]: it cannot be told how this one is"
    )]
    Square,
    /// Elements cannot be read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// A unit made of the file's tensors.
pub(super) struct Built {
    pub(super) unit: Unit,
    /// Names of the tensors that each part is made of.
    pub(super) names: Vec<Vec<String>>,
}

impl Built {
    pub(super) fn all_names(&self) -> impl Iterator<Item = &String> {
        self.names.iter().flatten()
    }
}

/// How matrices of the source lie whose form does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orientation {
    /// `[out, in]`, as `torch.nn.Linear` keeps them.
    OutputsFirst,
    /// Some are `[in, out]`.
    Mixed,
}

/// What units are built from.
pub(super) struct Builder<'a> {
    pub(super) graph: &'a Graph,
    pub(super) layers: &'a Layers,
    pub(super) shared: &'a BTreeSet<ValueId>,
    pub(super) orientation: Orientation,
    /// Epsilon of normalisations that the target has folded.
    pub(super) epsilon: f64,
}

/// A piece of a unit: its role, its tensor, and whether it was found by its own name.
struct Piece {
    role: Role,
    item: Item,
    exact: bool,
}

impl Builder<'_> {
    /// The unit of the file for a unit of the target.
    pub(super) fn build(&self, unit: &Unit, place: &Found, norm: Option<&str>) -> Result<Built, Reason> {
        let empty = Layer::new();
        let layer = self.layers.get(&place.stem).unwrap_or(&empty);
        let mut pieces: Vec<Piece> = Vec::new();
        if let Kind::Recurrent(meaning) = &unit.kind {
            let weights = gates::weights(&Form::of(meaning), layer, place.level)?;
            pieces.extend(weights.into_iter().map(|(role, item)| Piece {
                role,
                item,
                exact: false,
            }));
        } else {
            for (role, word) in words(&unit.kind) {
                pieces.extend(self.piece(unit, place, layer, *role, word)?);
            }
        }
        let mut epsilon = match unit.kind {
            Kind::BatchNorm => unit.epsilon,
            _ => None,
        };
        if let Some(norm) = norm.and_then(|norm| self.layers.get(norm)) {
            epsilon = Some(unit.epsilon.unwrap_or(self.epsilon));
            pieces.extend(norm_pieces(norm)?);
        } else if unit.kind == Kind::BatchNorm {
            pieces = norm_pieces(layer)?;
        }
        self.complete(unit, &pieces, norm.is_some())?;
        let mut parts = Vec::with_capacity(pieces.len());
        let mut names = Vec::with_capacity(pieces.len());
        for piece in pieces {
            parts.push(self.part(unit, &piece)?);
            names.push(piece.item.names);
        }
        let built = Unit {
            name: place.stem.trim_end_matches('.').to_owned(),
            parts,
            epsilon,
            reads: Vec::new(),
            ..unit.clone()
        };
        Ok(Built { unit: built, names })
    }

    fn piece(
        &self,
        unit: &Unit,
        place: &Found,
        layer: &Layer,
        role: Role,
        word: &str,
    ) -> Result<Option<Piece>, Reason> {
        let own = unit
            .part(role)
            .filter(|part| !self.shared.contains(&part.constant));
        let by_name = own.and_then(|part| self.layers.item(&part.name));
        if let Some(item) = by_name.filter(|_| place.rows.is_none()) {
            return Ok(Some(Piece {
                role,
                item: item.clone(),
                exact: true,
            }));
        }
        // A bias of the operator that the weight belongs to is none of this one.
        if place.tied && role != Role::Weight {
            return Ok(None);
        }
        let (layer, rows) = match (&place.bias_stem, role) {
            (Some(stem), Role::Bias) => (self.layers.get(stem), place.rows),
            (Some(_), _) => (Some(layer), None),
            (None, _) => (Some(layer), place.rows),
        };
        let found = layer.and_then(|layer| {
            layer
                .get(word)
                .or_else(|| layer.get("").filter(|_| role != Role::Bias))
        });
        let Some(item) = found else { return Ok(None) };
        let item = match rows {
            Some((from, to)) => cut(item, from, to)?,
            None => item.clone(),
        };
        Ok(Some(Piece {
            role,
            item,
            exact: false,
        }))
    }

    /// Every weight of the target has a counterpart, or is one that changes nothing.
    fn complete(&self, unit: &Unit, pieces: &[Piece], folded: bool) -> Result<(), Reason> {
        for part in &unit.parts {
            let there = pieces.iter().any(|piece| piece.role == part.role);
            let made = match part.role {
                Role::Bias => folded && !unit.normalised(),
                // What the source has folded becomes a bias, and the normalisation an identity.
                Role::Scale | Role::Offset | Role::Mean | Role::Variance => {
                    matches!(unit.kind, Kind::Linear | Kind::Transposed)
                        && pieces.iter().any(|piece| piece.role == Role::Bias)
                }
                _ => false,
            };
            let neutral = matches!(part.role, Role::Bias | Role::Offset | Role::Peephole)
                && part.tensor.to_f64()?.iter().all(|value| *value == 0.0);
            if !there && !made && !neutral {
                return Err(Reason::Counterpart(part.name.clone()));
            }
        }
        Ok(())
    }

    fn part(&self, unit: &Unit, piece: &Piece) -> Result<Part, Reason> {
        let own = unit.part(piece.role);
        let base = own.or(unit.parts.first());
        let mut layout = Layout {
            transposed: false,
            factor: 1.0,
        };
        if let Some(own) = own {
            if piece.exact {
                layout.factor = own.layout.factor;
            }
            if piece.role == Role::Weight && matches!(unit.kind, Kind::Linear) {
                layout.transposed = self.transposed(unit, own, piece)?;
            }
        }
        Ok(Part {
            role: piece.role,
            node: base.map_or(unit.node, |part| part.node),
            slot: base.map_or(0, |part| part.slot),
            constant: base.map_or(unit.output, |part| part.constant),
            name: piece.item.names.join(" + "),
            tensor: piece.item.tensor.clone(),
            layout,
        })
    }

    /// Whether a matrix of the file is `[in, out]`.
    fn transposed(&self, unit: &Unit, own: &Part, piece: &Piece) -> Result<bool, Reason> {
        let dims = piece.item.tensor.dims();
        let &[first, second] = dims else {
            return Ok(false);
        };
        if own.tensor.rank() == 2 && dims == own.tensor.dims() && piece.exact {
            return Ok(own.layout.transposed);
        }
        if first != second {
            let wanted = unit.dims();
            return Ok(wanted.first() == Some(&second) && wanted.get(1) == Some(&first));
        }
        match modules::class_of_node(self.graph, unit.node) {
            Some(class) if class.ends_with(".Conv1D") => return Ok(true),
            Some(class) if class.ends_with(".Linear") => return Ok(false),
            _ => {}
        }
        match self.orientation {
            Orientation::OutputsFirst => Ok(false),
            Orientation::Mixed if own.name == piece.item.names.join("") => Ok(own.layout.transposed),
            Orientation::Mixed => Err(Reason::Square),
        }
    }
}

/// How matrices lie that are not square: in the order of the target's `[out, in]`, or some of them turned.
pub(super) fn orientation<'a>(
    pairs: impl Iterator<Item = (&'a Unit, &'a Found)>,
    layers: &Layers,
) -> Orientation {
    let turned = |(unit, place): (&Unit, &Found)| {
        let item = layers.get(&place.stem).and_then(|layer| layer.get("weight"));
        let own = unit.dims();
        item.is_some_and(|item| match item.tensor.dims() {
            &[first, second] => {
                unit.kind == Kind::Linear
                    && first != second
                    && own.first() == Some(&second)
                    && own.get(1) == Some(&first)
            }
            _ => false,
        })
    };
    let mut pairs = pairs;
    match pairs.any(turned) {
        true => Orientation::Mixed,
        false => Orientation::OutputsFirst,
    }
}

/// The words of a layer that hold the weights of a unit.
fn words(kind: &Kind) -> &'static [(Role, &'static str)] {
    match kind {
        Kind::Linear | Kind::Transposed => &[(Role::Weight, "weight"), (Role::Bias, "bias")],
        Kind::Embedding => &[(Role::Weight, "weight")],
        Kind::Norm(_) => &[(Role::Scale, "weight"), (Role::Offset, "bias")],
        Kind::Constant(_) => &[(Role::Value, "")],
        Kind::BatchNorm | Kind::Recurrent(_) => &[],
    }
}

/// The four weights of a batch normalisation; one without learned factors has ones and zeros.
fn norm_pieces(layer: &Layer) -> Result<Vec<Piece>, Reason> {
    let (Some(mean), Some(variance)) = (layer.get("running_mean"), layer.get("running_var")) else {
        return Err(Reason::Lacking("running_mean".to_owned()));
    };
    let or = |word: &str, value: f64| -> Result<Item, Reason> {
        if let Some(item) = layer.get(word) {
            return Ok(item.clone());
        }
        let values = vec![value; mean.tensor.elements() as usize];
        Ok(Item {
            names: Vec::new(),
            tensor: Tensor::from_f64(mean.tensor.dtype(), mean.tensor.dims(), &values)?,
        })
    };
    debug_assert!(is_batch_norm(layer));
    let pieces = [
        (Role::Scale, or("weight", 1.0)?),
        (Role::Offset, or("bias", 0.0)?),
        (Role::Mean, mean.clone()),
        (Role::Variance, variance.clone()),
    ];
    Ok(pieces
        .into_iter()
        .map(|(role, item)| Piece {
            role,
            item,
            exact: false,
        })
        .collect())
}

/// Rows `from` to `to` of a packed tensor.
fn cut(item: &Item, from: u64, to: u64) -> Result<Item, Reason> {
    let dims = item.tensor.dims();
    let rows = dims.first().copied().unwrap_or(0);
    if to > rows || from > to {
        return Err(Reason::Lacking(item.names.join(", ")));
    }
    let width = dims.iter().skip(1).product::<u64>() as usize;
    let values = item.tensor.to_f64()?;
    let kept = values
        .get(from as usize * width..to as usize * width)
        .unwrap_or(&[]);
    let mut cut = dims.to_vec();
    if let Some(first) = cut.first_mut() {
        *first = to - from;
    }
    Ok(Item {
        names: item.names.clone(),
        tensor: Tensor::from_f64(item.tensor.dtype(), &cut, kept)?,
    })
}

/// Whether a normalisation of the target changes nothing, so that a file without it lacks no weight.
pub(super) fn is_neutral(unit: &Unit) -> bool {
    let all = |role: Role, value: f64| {
        unit.part(role).is_none_or(|part| {
            part.tensor
                .to_f64()
                .is_ok_and(|values| values.iter().all(|own| *own == value))
        })
    };
    matches!(unit.kind, Kind::Norm("instance" | "group" | "features"))
        && all(Role::Scale, 1.0)
        && all(Role::Offset, 0.0)
}
