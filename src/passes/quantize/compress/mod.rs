//! The pass `compress`: weights as codes that are least in what the outputs lose plus what the codes take once they are packed.

mod bias;
mod influence;
mod options;
mod search;
mod size;

use std::sync::Arc;

use ndarray::{Array2, Array3};

pub use self::options::{Compress, Importance};
use self::search::{Found, Search as Trades};
use super::weights::{
    Chosen, Coded, DAMPING, Moments, Search, WeightError, WeightTarget, flat, held, is_turned, places, rows,
};
use crate::ir::{DType, GraphPath, Model, Tensor, TensorError};
use crate::linalg::Cholesky;
use crate::passes::left::LeftAlone;
use crate::passes::{About, Context, Needs, Pass, PassError, PassReport, Safety, Selector};
use crate::quantize::{Kind, Order, Parameters, QuantizeError, Trade, Traded, damped, pack, shrinkage};

const NAME: &str = "compress";

/// Columns from which on what a weight loses is not made up for by others: their second moments are inverted.
const MOST_COLUMNS: usize = 8192;

/// One weight with what is known of it.
struct Case {
    path: GraphPath,
    target: WeightTarget,
    name: String,
    dims: Vec<u64>,
    /// `[rows, columns]` of the weight, until a trade takes it.
    weights: Array2<f32>,
    /// Of what each group of rows reads; none where that is not known.
    moments: Vec<Array2<f64>>,
    /// Rows behind the moments.
    count: u64,
    /// Codes are stored the other way round than the weight.
    turned: bool,
}

impl Case {
    /// The trade of rate and distortion for rows of these importances.
    fn trade(&mut self, importance: Vec<f64>) -> Trade {
        let (mut dims, mut axis) = (self.dims.clone(), self.target.channel_axis);
        if self.turned {
            dims.reverse();
            axis = 1 - axis.min(1);
        }
        let factors: Option<Vec<Array2<f32>>> =
            self.moments.iter().map(|moment| self.factor(moment)).collect();
        let short = self.weights.ncols() < 64;
        Trade {
            weights: std::mem::take(&mut self.weights),
            factors: factors.unwrap_or_default(),
            importance,
            order: Order::of(&dims, axis),
            dims,
            per_row: self.target.is_per_channel(),
            grid: if short { 1.0 } else { 2.0 },
            held: match self.target.scale_dtype() {
                DType::F16 => |step| held(step, DType::F16),
                DType::BF16 => |step| held(step, DType::BF16),
                _ => |step| step,
            },
            hold_zeros: true,
        }
    }

    /// The upper factor of the inverse of a group's second moments.
    fn factor(&self, moment: &Array2<f64>) -> Option<Array2<f32>> {
        if moment.nrows() > MOST_COLUMNS {
            return None;
        }
        let damping = shrinkage(moment.view(), self.count).max(DAMPING);
        // The mean of the diagonal stays: layers are weighed against each other by it.
        let shrunk = damped(moment.view(), damping) / (1.0 + damping);
        let inverse = Cholesky::new(shrunk).ok()?.inverse().ok()?;
        let lower = Cholesky::new(inverse).ok()?;
        // Rows in one piece, as the trade reads them.
        Some(lower.lower().t().as_standard_layout().mapv(|value| value as f32))
    }

    /// The codes in the form that the weight is replaced by.
    fn chosen(&self, trade: &Trade, traded: &Traded) -> Option<Chosen> {
        let mut codes = Array2::<i32>::zeros(trade.weights.dim());
        for (at, code) in traded.codes.iter().enumerate() {
            if let Some(place) = codes.get_mut(trade.order.place(at)) {
                *place = i32::from(*code);
            }
        }
        let (rows, columns) = trade.weights.dim();
        let groups = self.moments.len();
        // Where the rows are not known, nothing makes up for what is lost.
        let apart = Array3::from_shape_fn(
            (groups, rows.checked_div(groups).unwrap_or(0), columns),
            |(group, row, column)| {
                let row = group * (rows / groups) + row;
                let value = f64::from(codes[[row, column]]) * f64::from(Trade::step(traded, row));
                f64::from(trade.weights[[row, column]]) - value
            },
        );
        let codes = flat(codes, &self.dims, self.target.channel_axis)?;
        let parameters = traded.steps.iter().map(|scale| Parameters {
            scale: *scale,
            zero_point: 0,
        });
        let coded = Coded {
            parameters: parameters.collect(),
            codes: pack(&self.dims, &codes, Kind::Int8).ok()?,
        };
        Some(Chosen { coded, apart })
    }
}

impl Pass for Compress {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: self.importance != Importance::Weights,
            ..Needs::default()
        })
    }

    fn optional_roles(&self) -> Vec<String> {
        let needs = self.about().needs;
        needs.calibration.then(|| self.data.clone()).into_iter().collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("exclude", &self.exclude)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let goal = self.goal()?;
        let original = model.clone();
        let written = self.written();
        let mut report = PassReport::default();
        written.make_ready(model, context, &mut report)?;
        let mut left = LeftAlone::default();
        let found = written.find(model, &Search::new(&written, context)?, &mut left);
        let known = self.importance != Importance::Weights && self.has_data(context);
        let moments = match (known || self.stats.is_some()) && !found.is_empty() {
            true => Some(written.moments(&original, model, context)?),
            false => None,
        };
        let movement = match self.importance == Importance::Gradients && known && !found.is_empty() {
            true => influence::movement(model, self, context, &mut report)?,
            false => None,
        };
        let mut cases = cases(model, found, moments.as_ref(), self.correct_bias, &mut left);
        if cases.is_empty() {
            *model = original;
            report.changes.clear();
            report.changed = false;
            report.notes.insert(
                0,
                "no weight of the chosen operators: nothing to compress".to_owned(),
            );
            report.left.extend(left.into_entries());
            return Ok(report);
        }
        report.warnings.extend(self.lacking(known, moments.is_some()));
        let importance = influence::importance(&cases, movement.as_ref(), self.importance);
        let trades = Trades::new(&mut cases, importance);
        let ready = model.clone();
        let bits = |bits: f64| -> Result<Option<(Model, PassReport, LeftAlone)>, PassError> {
            let mut model = ready.clone();
            let (mut report, mut left) = (report.clone(), left.clone());
            let Some(found) = trades.at_most(bits, context)? else {
                return Ok(None);
            };
            let targets = chosen(&cases, &trades, &found, &mut left);
            let done = written.replace(&mut model, targets, moments.as_ref(), &mut left, &mut report)?;
            written.finish(&mut model, done, context)?;
            bias::shorten(&mut model, found.bits(), context, &mut report)
                .map_err(|source| PassError::Edit { pass: NAME, source })?;
            report.add("weight", done.weights);
            found.tell(&cases, &mut report);
            Ok(Some((model, report, left)))
        };
        let (result, mut report, left) = size::reach(goal, (&original, trades.weights()), bits)?;
        *model = result;
        report.left.extend(left.into_entries());
        Ok(report)
    }
}

impl Compress {
    fn has_data(&self, context: &Context<'_>) -> bool {
        context.resources.is_some_and(|own| own.describes(&self.data))
    }

    /// What to say where there is less to judge by than the options ask for.
    fn lacking(&self, data: bool, moments: bool) -> Option<String> {
        let role = &self.data;
        match self.importance {
            Importance::Weights => None,
            _ if !moments => Some(format!(
                "there are no {role} data: what a weight loses is judged by the weight alone, which loses much more than with 64 samples, for which no labels are needed"
            )),
            Importance::Gradients if !data => Some(format!(
                "there are no {role} data to take gradients on: every layer's own output counts the same (`importance: outputs`)"
            )),
            _ => None,
        }
    }
}

/// What is known of each weight. Those that cannot be coded are left alone.
fn cases(
    model: &Model,
    found: Vec<(GraphPath, Vec<WeightTarget>)>,
    moments: Option<&Moments>,
    correct_bias: bool,
    left: &mut LeftAlone,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, targets) in found {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for target in targets {
            let value = graph.value(target.weight);
            let name = value.map(|value| value.name.to_string()).unwrap_or_default();
            let Some(tensor) = graph.constant(target.weight) else {
                continue;
            };
            let weights = match matrix(tensor, target.channel_axis) {
                Ok(weights) => weights,
                Err(error) => {
                    left.add(name, error.to_string(), "");
                    continue;
                }
            };
            let centred = correct_bias && places(graph, &target).is_some();
            // Bodies and functions are not what the moments are of.
            let own = moments.filter(|_| path == GraphPath::MAIN);
            let own = own.and_then(|moments| moments.of(&target, centred));
            let (moments, count) = own.map_or((Vec::new(), 0), |rows| (rows.moments, rows.count));
            cases.push(Case {
                turned: is_turned(graph, &target),
                path: path.clone(),
                dims: tensor.dims().to_vec(),
                target,
                name,
                weights,
                moments,
                count,
            });
        }
    }
    cases
}

/// A weight as output channels by all else.
fn matrix(tensor: &Tensor, axis: usize) -> Result<Array2<f32>, WeightError> {
    let wrong = TensorError::Type {
        expected: "a weight with output channels",
        found: tensor.dtype(),
    };
    let values = tensor.to_f64()?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        let value = *value as f32;
        return Err(QuantizeError::Range {
            low: value,
            high: value,
        }
        .into());
    }
    let rows = rows(values, tensor.dims(), axis).ok_or(wrong)?;
    Ok(rows.as_standard_layout().mapv(|value| value as f32))
}

/// The weights of each graph with their codes.
fn chosen(
    cases: &[Case],
    trades: &Trades,
    found: &Found,
    left: &mut LeftAlone,
) -> Vec<(GraphPath, Vec<WeightTarget>)> {
    let mut all: Vec<(GraphPath, Vec<WeightTarget>)> = Vec::new();
    for (case, (trade, traded)) in cases.iter().zip(trades.with(found)) {
        let Some(chosen) = case.chosen(trade, traded) else {
            left.add(&case.name, "its codes do not fit its shape", "");
            continue;
        };
        let mut target = case.target.clone();
        target.chosen = Some(Arc::new(chosen));
        match all.last_mut() {
            Some((path, targets)) if *path == case.path => targets.push(target),
            _ => all.push((case.path.clone(), vec![target])),
        }
    }
    all
}
