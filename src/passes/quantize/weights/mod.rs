//! The pass `quantize-weights`: codes for constant weights only; activations and arithmetic stay float.

mod bias;
mod layers;
mod nbits;
mod options;
mod rounding;
mod sink;
mod target;
mod widths;
mod written;

use std::collections::VecDeque;

use rayon::prelude::*;

pub(super) use self::bias::places;
pub(super) use self::layers::{Layers, QuantizedLayer};
pub(super) use self::options::{Coding, OPERATORS};
pub use self::options::{Form, LayerPrecision, Precision, QuantizeWeights};
pub use self::rounding::Rounding;
use self::rounding::nearest;
pub(super) use self::rounding::{Coded, DAMPING, Moments, collect, held, reconstruct};
pub(super) use self::target::{Chosen, Reader, Search, WeightTarget};
pub use self::widths::{BitsBy, Widths};
pub(super) use self::widths::{flat, rows};
pub(super) use self::written::{Stored, is_turned, transposed};
use super::gram_statistics::GramSource;
use crate::analysis;
use crate::format::spill;
use crate::ir::{
    EditError, Editor, GraphPath, Model, Name, OpsetImport, Tensor, TensorError, model_digest, opset_version,
};
use crate::linalg::LinalgError;
use crate::parts::Work;
use crate::passes::distinct::distinct_names;
use crate::passes::form::ConvertOpset;
use crate::passes::left::LeftAlone;
use crate::passes::simplify::EliminateDeadCode;
use crate::passes::{
    About, Context, Needs, Pass, PassError, PassReport, ResourceError, Safety, Selector, prepare,
};
use crate::quantize::QuantizeError;

const NAME: &str = "quantize-weights";

/// Weights that are coded at a time, on as many threads as there are.
const AHEAD: usize = 16;

/// Bytes of codes that stay in memory; those of further weights are kept in files without a name.
const HELD: u64 = 64 << 20;

/// What can go wrong with one weight.
#[derive(Debug, thiserror::Error)]
pub(super) enum WeightError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Codes(#[from] QuantizeError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Moments(#[from] LinalgError),
}

impl Pass for QuantizeWeights {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: self.rounding != Rounding::Nearest && self.stats.is_none(),
            training: self.criterion == BitsBy::LogGradient && self.gradient_stats.is_none(),
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let needs = self.about().needs;
        let samples = needs.calibration.then(|| self.data.clone());
        let labels = needs.training.then(|| self.labelled.clone());
        samples.into_iter().chain(labels).collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![
            Selector::new("exclude", &self.exclude),
            Selector::new("layers", self.layers.iter().map(|layer| &layer.pattern)),
        ]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = self.quantize(model, context, false)?;
        if !report.changed {
            report.notes.insert(
                0,
                "no weight of the chosen operators: nothing to quantize".to_owned(),
            );
        }
        Ok(report)
    }
}

impl QuantizeWeights {
    /// The pass, for another one that quantizes other weights: to find none is no news.
    pub(super) fn run_among_others(
        &self,
        model: &mut Model,
        context: &Context<'_>,
    ) -> Result<PassReport, PassError> {
        self.quantize(model, context, true)
    }

    fn quantize(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        among_others: bool,
    ) -> Result<PassReport, PassError> {
        self.check()?;
        let original = model.clone();
        let mut report = PassReport::default();
        self.make_ready(model, context, &mut report)?;
        let search = Search::new(self, context)?.among_others(among_others);
        if sink::sink(model, &search).map_err(|source| PassError::Edit { pass: NAME, source })? > 0 {
            analysis::infer(model);
        }
        let mut moments = match self.rounding {
            Rounding::Nearest => None,
            Rounding::Gptq | Rounding::Adaround => Some(self.moments(&original, model, context)?),
        };
        let mut plan = match self.criterion {
            BitsBy::Range => widths::WidthPlan::new(),
            BitsBy::LogGradient => {
                let mut before = original.clone();
                before.name_values();
                widths::plan(model, &before, self, context, &mut report)?
            }
        };
        let mut left = LeftAlone::default();
        let mut found = self.find(model, &search, &mut left);
        // Bodies and functions are not what gradients and moments are of.
        for (_, targets) in found.iter_mut().filter(|(path, _)| *path == GraphPath::MAIN) {
            for target in targets.iter_mut() {
                if let Some(planned) = plan.remove(&target.weight) {
                    target.coding.kind = planned.kind;
                    target.planned = Some(planned);
                }
            }
            if let Some(moments) = &mut moments {
                self.share(model, targets, moments, context)?;
            }
        }
        let done = self.replace(model, found, moments.as_ref(), &mut left, &mut report)?;
        if done.weights == 0 {
            *model = original;
            report.changes.clear();
            report.changed = false;
            report.left.extend(left.into_entries());
            return Ok(report);
        }
        self.finish(model, done, context)?;
        report.add("weight", done.weights);
        report.left.extend(left.into_entries());
        Ok(report)
    }

    /// The weights of every graph that the options cover and that can be replaced where they are.
    pub(in crate::passes::quantize) fn find(
        &self,
        model: &Model,
        search: &Search<'_>,
        left: &mut LeftAlone,
    ) -> Vec<(GraphPath, Vec<WeightTarget>)> {
        let mut all = search.everywhere(model, left);
        for (path, version, found) in &mut all {
            let Some(graph) = model.graph_at(path) else {
                continue;
            };
            found.retain(|target| {
                let fits = target.opset() <= *version;
                if !fits {
                    let name = graph.value(target.weight).map(|value| value.name.to_string());
                    left.add(
                        name.unwrap_or_default(),
                        format!(
                            "its function imports opset {version}, and codes of its type need {}",
                            target.opset()
                        ),
                        "inline-functions puts it where the model's opset holds",
                    );
                }
                fits
            });
        }
        let found = all.into_iter().filter(|(_, _, found)| !found.is_empty());
        found.map(|(path, _, found)| (path, found)).collect()
    }

    /// Puts codes in the place of these weights.
    pub(in crate::passes::quantize) fn replace(
        &self,
        model: &mut Model,
        found: Vec<(GraphPath, Vec<WeightTarget>)>,
        moments: Option<&Moments>,
        left: &mut LeftAlone,
        report: &mut PassReport,
    ) -> Result<Converted, PassError> {
        let mut done = Converted::default();
        for (path, targets) in found {
            done.add(self.convert(model, &path, targets, moments, left, report)?);
        }
        Ok(done)
    }

    /// What is left to do once weights have been replaced.
    pub(in crate::passes::quantize) fn finish(
        &self,
        model: &mut Model,
        done: Converted,
        context: &Context<'_>,
    ) -> Result<(), PassError> {
        if done.uses_nbits {
            import(model);
        }
        if done.captured {
            // Captured weights that no body reads any more go.
            EliminateDeadCode { keep_functions: true }.run(model, context)?;
        }
        distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
        analysis::infer(model);
        Ok(())
    }

    /// Simplifies, converts to an opset that has what the options ask for, and names and types every value.
    pub(in crate::passes::quantize) fn make_ready(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        report.changes = prepare::simplify(model, self.prepare, context)?.changes;
        prepare::name(model);
        let needed = self.opset().max(self.needed_by_weights(model, context)?);
        if model.opset().is_some_and(|version| version < needed) {
            let converted = ConvertOpset::at_least(needed).run(model, context)?;
            report.merge(converted);
            prepare::name(model);
        }
        Ok(())
    }

    /// The first opset that has what the weights of `model` become.
    fn needed_by_weights(&self, model: &Model, context: &Context<'_>) -> Result<i64, PassError> {
        let search = Search::new(self, context)?;
        let paths = model.graph_paths();
        let graphs = paths.iter().filter_map(|path| model.graph_at(path));
        let needed = graphs.flat_map(|graph| search.targets(graph, &mut LeftAlone::default()));
        Ok(needed.map(|target| target.opset()).max().unwrap_or(0))
    }

    /// Second moments of what the layers of `prepared`, which was made from `given`, read.
    pub(in crate::passes::quantize) fn moments(
        &self,
        given: &Model,
        prepared: &Model,
        context: &Context<'_>,
    ) -> Result<Moments, PassError> {
        let source = GramSource {
            pass: NAME,
            data: &self.data,
            stats: self.stats.as_deref(),
        };
        collect(source, given, prepared, &self.operators, context)
    }

    /// Has the codes of the weights of the main graph chosen in parts where other processes may do some of them.
    fn share(
        &self,
        model: &Model,
        found: &[WeightTarget],
        moments: &mut Moments,
        context: &Context<'_>,
    ) -> Result<(), PassError> {
        let Some((resources, ledger)) = context.resources.and_then(|own| Some((own, own.ledger()?))) else {
            return Ok(());
        };
        let failed = |error: ResourceError| PassError::resource(NAME, error);
        let mut work = Work::new(
            "codes",
            [
                ("model", model_digest(model)),
                ("rounding", format!("{:?}", self.rounding)),
                ("statistics", format!("{:?}", self.stats)),
                ("engine", context.engine().release()),
            ],
        );
        if self.stats.is_none() {
            let data = resources.data(&self.data, &model.graph).map_err(failed)?;
            work = data.described(work);
        }
        let centred =
            |target: &WeightTarget| self.correct_bias && bias::places(&model.graph, target).is_some();
        let targets: Vec<(WeightTarget, bool)> = found
            .iter()
            .map(|target| (target.clone(), centred(target)))
            .collect();
        moments
            .share((&model.graph, &targets), (ledger, &work), self.rounding)
            .map_err(|error| failed(error.into()))
    }

    /// Whether the codes of a weight depend on nothing else.
    fn is_alone(&self, target: &WeightTarget, moments: Option<&Moments>) -> bool {
        let open = target.planned.is_none() && target.chosen.is_none();
        moments.is_none() && self.rounding == Rounding::Nearest && open
    }

    /// Replaces the weights of one graph.
    fn convert(
        &self,
        model: &mut Model,
        path: &GraphPath,
        found: Vec<WeightTarget>,
        moments: Option<&Moments>,
        left: &mut LeftAlone,
        report: &mut PassReport,
    ) -> Result<Converted, PassError> {
        // Bodies and functions are not what the moments are of.
        let moments = moments.filter(|_| *path == GraphPath::MAIN);
        let mut done = Converted::default();
        let mut inner = Vec::new();
        let opset = opset_version(model.opsets(path), "").unwrap_or_default();
        let Some(graph) = model.graph_at_mut(path) else {
            return Ok(done);
        };
        let mut held = 0u64;
        let mut editor = graph.edit(NAME);
        let mut ahead: VecDeque<Option<Result<Coded, QuantizeError>>> = VecDeque::new();
        for (at, target) in found.iter().enumerate() {
            if ahead.is_empty() && self.is_alone(target, moments) {
                let next = found.iter().skip(at).take(AHEAD);
                let next: Vec<&WeightTarget> = next.take_while(|next| self.is_alone(next, moments)).collect();
                let graph = editor.graph();
                let code =
                    |next: &WeightTarget| graph.constant(next.weight).map(|tensor| nearest(tensor, next));
                let coded: Vec<_> = next.into_par_iter().map(code).collect();
                ahead.extend(coded);
            }
            let name = editor
                .graph()
                .value(target.weight)
                .map(|value| value.name.to_string())
                .unwrap_or_default();
            let qdq = nbits::obstacle(editor.graph().constant(target.weight), target);
            let nbits = self.form == Form::MatMulNBits && qdq.is_none();
            let coded = match ahead.pop_front() {
                // A weight that an earlier target has taken is left to `code`.
                Some(Some(coded)) if editor.graph().constant(target.weight).is_some() => {
                    coded.map(Some).map_err(WeightError::from)
                }
                _ => self.code(&mut editor, target, moments, left, report),
            };
            let result = coded.and_then(|coded| match coded {
                None => Ok(Vec::new()),
                Some(mut coded) => {
                    let mut target = target.clone();
                    if target.is_block_table {
                        return nbits::replace_table(&mut editor, &target, &coded).map(|()| Vec::new());
                    }
                    if written::is_turned(editor.graph(), &target) {
                        written::turn(&mut editor, &mut target, &mut coded)?;
                    }
                    written::plain_readers(&mut editor, &mut target, &coded)?;
                    held += coded.codes.byte_len();
                    if held > HELD {
                        coded.codes = spilled(coded.codes)?;
                    }
                    match nbits {
                        true => nbits::replace(&mut editor, &target, &coded).map(|()| Vec::new()),
                        false => written::dequantize(&mut editor, &target, (&name, opset), &coded),
                    }
                }
            });
            match result {
                Ok(lookups) => {
                    done.weights += 1;
                    done.uses_nbits |= nbits;
                    done.captured |= target.readers.iter().any(|reader| !reader.bodies.is_empty());
                    inner.extend(lookups);
                    if let Some(why) = qdq.filter(|_| self.form == Form::MatMulNBits) {
                        report
                            .notes
                            .push(format!("{name} is written in the form qdq: {why}"));
                    }
                }
                Err(WeightError::Edit(source)) => return Err(PassError::Edit { pass: NAME, source }),
                Err(other) => left.add(name, other.to_string(), ""),
            }
        }
        drop(editor);
        for written::InnerLookup { stored, reader } in inner {
            let inner = reader
                .bodies
                .iter()
                .fold(path.clone(), |path, (node, body)| path.body(*node, *body));
            let edit = |source| PassError::Edit { pass: NAME, source };
            let codes = model.capture(NAME, path, &inner, stored.codes).map_err(edit)?;
            let Some(graph) = model.graph_at_mut(&inner) else {
                continue;
            };
            stored
                .rows(&mut graph.edit(NAME), codes, reader.node, reader.dtype)
                .map_err(|error| match error {
                    WeightError::Edit(source) => edit(source),
                    other => PassError::resource(NAME, other.to_string()),
                })?;
        }
        Ok(done)
    }

    /// The codes of one weight, and biases that make up for them.
    fn code(
        &self,
        editor: &mut Editor<'_>,
        target: &WeightTarget,
        moments: Option<&Moments>,
        left: &mut LeftAlone,
        report: &mut PassReport,
    ) -> Result<Option<Coded>, WeightError> {
        let Some(tensor) = editor.graph().constant(target.weight).cloned() else {
            return Ok(None);
        };
        let places = bias::places(editor.graph(), target).filter(|_| self.correct_bias);
        let rows = moments.and_then(|moments| Some((moments, moments.of(target, places.is_some())?)));
        if let Some(chosen) = &target.chosen {
            if let (Some((_, rows)), Some(places)) = (&rows, &places) {
                report.add(
                    "bias-corrected",
                    bias::correct(editor, places, rows, &chosen.apart)?,
                );
            }
            return Ok(Some(chosen.coded.clone()));
        }
        match rows {
            Some((moments, rows)) => {
                let (coded, apart) = moments.solve(&tensor, target, &rows, self.rounding)?;
                if let Some(places) = places {
                    let corrected = bias::correct(editor, &places, &rows, &apart)?;
                    report.add("bias-corrected", corrected);
                }
                Ok(Some(coded))
            }
            None => {
                if self.rounding != Rounding::Nearest {
                    let name = editor.graph().value(target.weight);
                    let name = name.map(|value| value.name.to_string()).unwrap_or_default();
                    let why = Moments::missing(moments, target);
                    left.add(name, format!("rounded to nearest: {why}"), "");
                }
                match &target.planned {
                    Some(planned) => Ok(Some(planned.codes(&tensor, target)?)),
                    None => Ok(Some(nearest(&tensor, target)?)),
                }
            }
        }
    }
}

/// The same codes, out of memory; where there is no place for a file they stay.
fn spilled(codes: Tensor) -> Result<Tensor, WeightError> {
    match spill(&codes.raw()?) {
        Ok(bytes) => Ok(Tensor::from_raw(
            codes.dtype(),
            codes.dims().iter().copied(),
            bytes,
        )?),
        Err(_) => Ok(codes),
    }
}

pub(super) fn suffixed(stem: &str, suffix: &str) -> Name {
    Name::from(format!("{stem}_{suffix}"))
}

/// Imports the domain of MatMulNBits, in the model and in functions.
fn import(model: &mut Model) {
    let imports = std::iter::once(&mut model.opset_imports).chain(
        model
            .functions
            .iter_mut()
            .map(|function| &mut function.opset_imports),
    );
    for imports in imports {
        if !imports.iter().any(|import| import.domain() == nbits::DOMAIN) {
            imports.push(OpsetImport {
                domain: Some(nbits::DOMAIN.into()),
                version: Some(1),
            });
        }
    }
}

/// What became of the weights of one graph or several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Converted {
    pub(super) weights: u64,
    uses_nbits: bool,
    /// A body captures one of them.
    captured: bool,
}

impl Converted {
    fn add(&mut self, other: Self) {
        self.weights += other.weights;
        self.uses_nbits |= other.uses_nbits;
        self.captured |= other.captured;
    }
}
