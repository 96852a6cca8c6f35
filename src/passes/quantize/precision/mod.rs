//! The pass `search-precision`: which type each layer's weights need, under a budget.
//!
//! `measure` quantizes each layer alone, `choose` spends bits where they save most noise, and this file judges configurations
//! by size and accuracy and writes what it found.

mod choose;
mod measure;
mod options;

use serde_json::{Map, Value, json};

use self::choose::{Configuration, ladder};
use self::measure::{Measured, measure};
pub use self::options::{SearchPrecision, Sensitivity};
use super::weights::Layers;
use super::{LayerPrecision, Precision};
use crate::evaluate::{State, StateSubject, Task};
use crate::ir::{GraphPath, Model};
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, ReportFile, ResourceError, Safety, Selector,
};

const NAME: &str = "search-precision";

/// The version of pipeline files.
const PIPELINE_VERSION: u32 = 1;

impl Pass for SearchPrecision {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs::CALIBRATION)
    }

    fn data_roles(&self) -> Vec<String> {
        let judged = self.max_drop.map(|_| "evaluation".to_owned());
        std::iter::once(self.data.clone()).chain(judged).collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("exclude", &self.exclude)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if self.until.is_some() {
            return Err(PassError::Option {
                pass: NAME,
                message: "until: a search runs the pass more than once: run it as a step of a pipeline"
                    .to_owned(),
            });
        }
        self.check()?;
        let mut report = PassReport::default();
        let precisions = self.precisions();
        let original = model.clone();
        let Some(Layered {
            prepared,
            measured,
            elements,
        }) = self.layered(&original, &precisions, context, &mut report)?
        else {
            return Ok(PassReport {
                notes: vec![NOTHING.to_owned()],
                ..PassReport::default()
            });
        };
        let search = Search {
            options: self,
            precisions: &precisions,
            measured: &measured,
            original: &original,
            prepared: &prepared,
            elements,
        };
        let found = search.best(context)?;
        let step = self.step(search.layers(&found.configuration));
        let applied = step.run(model, context)?;
        if let Some(share) = self.max_size {
            let (size, most) = (file_bytes(model)?, share * file_bytes(&original)? as f64);
            if size as f64 > most {
                return Err(resource(format!(
                    "the result has {size} bytes, and max-size allows {most:.0}"
                )));
            }
        }
        if let Some(path) = &self.pipeline {
            report.files.push(ReportFile {
                path: context.base.join(path),
                content: pipeline(&step)?.into(),
            });
        }
        report.changes.clear();
        report.notes.clear();
        report.merge(applied);
        search.describe(&found, &mut report);
        report.notes.extend(self.beyond_the_main_graph(model));
        Ok(report)
    }
}

/// What is said of a model without a weight to quantize.
const NOTHING: &str = "no weight of the chosen operators: nothing to quantize";

/// A model that was made ready, with what each of its layers loses.
struct Layered {
    prepared: Model,
    measured: Vec<Measured>,
    elements: u64,
}

/// A choice of types that quantizes weights.
#[derive(Clone, Debug)]
pub struct PrecisionRung {
    /// The step that makes it.
    pub step: super::QuantizeWeights,
    /// What it is, in words.
    pub words: String,
    /// The layers by the type that they get.
    pub changes: Vec<Change>,
}

impl SearchPrecision {
    /// Measures each layer with each type; `None` if there are no layers.
    fn layered(
        &self,
        original: &Model,
        precisions: &[Precision],
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Option<Layered>, PassError> {
        let base = self.step(Vec::new());
        // Opsets differ by type: the widest need is what everything is measured with.
        let entry = |precision: &Precision| LayerPrecision {
            pattern: "$^".to_owned(),
            precision: *precision,
            block: None,
        };
        let widest = self.step(precisions.iter().map(entry).collect());
        let mut prepared = original.clone();
        widest.make_ready(&mut prepared, context, report)?;
        let layers = Layers::find(original, &prepared, &base, context, &mut report.notes)?;
        if layers.count() == 0 {
            return Ok(None);
        }
        let measured = measure(&prepared, &layers, self, precisions, context)?;
        let elements = (0..layers.count())
            .map(|layer| layers.elements(&prepared, layer))
            .sum();
        Ok(Some(Layered {
            prepared,
            measured,
            elements,
        }))
    }

    /// Every choice that the budgets allow, from the fewest bits to the most. Layers are measured once.
    ///
    /// # Errors
    /// Options that do not fit each other, data or an engine that are missing.
    pub fn rungs(&self, model: &Model, context: &Context<'_>) -> Result<Vec<PrecisionRung>, PassError> {
        self.check_searched()?;
        let precisions = self.precisions();
        let mut report = PassReport::default();
        let Some(layered) = self.layered(model, &precisions, context, &mut report)? else {
            return Ok(Vec::new());
        };
        let search = Search {
            options: self,
            precisions: &precisions,
            measured: &layered.measured,
            original: model,
            prepared: &layered.prepared,
            elements: layered.elements,
        };
        let rungs = search.rungs(context)?.into_iter();
        Ok(rungs
            .map(|configuration| {
                let mut described = PassReport::default();
                let found = Found {
                    configuration,
                    drop: None,
                };
                search.describe(&found, &mut described);
                PrecisionRung {
                    step: self.step(search.layers(&found.configuration)),
                    words: described.notes.pop().unwrap_or_default(),
                    changes: described.changes,
                }
            })
            .collect())
    }

    /// What the search does not reach: weights in bodies and functions, which get the widest of the types.
    fn beyond_the_main_graph(&self, model: &Model) -> Option<String> {
        let inside = model
            .graph_paths()
            .into_iter()
            .filter(|path| *path != GraphPath::MAIN)
            .filter_map(|path| model.graph_at(&path))
            .flat_map(|graph| graph.node_ids().filter_map(|id| graph.operator(id)));
        let count = inside
            .filter(|operator| self.operators.iter().any(|name| operator.is(name)))
            .count();
        (count > 0).then(|| {
            format!("products in bodies and functions, which are not searched: {count}; their weights get the widest of the types")
        })
    }
}

/// The bytes that a model takes as a file.
fn file_bytes(model: &Model) -> Result<u64, PassError> {
    crate::passes::file_bytes(model).map_err(resource)
}

/// The configuration that was chosen, and what is known of it.
struct Found {
    configuration: Configuration,
    drop: Option<f64>,
}

struct Search<'a> {
    options: &'a SearchPrecision,
    precisions: &'a [Precision],
    measured: &'a [Measured],
    original: &'a Model,
    prepared: &'a Model,
    elements: u64,
}

impl Search<'_> {
    /// Configurations that the budgets of bits and bytes allow, from the narrowest to the widest.
    fn rungs(&self, context: &Context<'_>) -> Result<Vec<Configuration>, PassError> {
        let choices: Vec<_> = self.measured.iter().map(|layer| layer.choices.clone()).collect();
        let float: u64 = 4 * self.elements;
        let rest = file_bytes(self.prepared)?.saturating_sub(float);
        let limit = self
            .options
            .max_size
            .map(|share| Ok((share * file_bytes(self.original)? as f64) as u64))
            .transpose()?;
        // Nodes, names and corrected biases: what the narrowest result has beside its codes, and every other about as much.
        let narrow: Configuration = vec![0; choices.len()];
        let beside = match limit {
            None => 0,
            Some(_) => {
                let size = file_bytes(&self.candidate(&narrow, context)?)?;
                size.saturating_sub(rest + choose::cost(&choices, &narrow).bytes)
            }
        };
        let fits = |cost: choose::Cost| {
            let bits = cost.bits as f64 / self.elements.max(1) as f64;
            self.options.bits.is_none_or(|most| bits <= most + 1e-9)
                && limit.is_none_or(|limit| rest + beside + cost.bytes <= limit)
        };
        let rungs = ladder(&choices, fits);
        let narrowest = rungs.first().map(|first| choose::cost(&choices, first));
        if narrowest.is_some_and(|cost| !fits(cost)) {
            return Err(PassError::Option {
                pass: NAME,
                message: "the budget is below what the narrowest type needs everywhere".to_owned(),
            });
        }
        Ok(rungs)
    }

    fn best(&self, context: &Context<'_>) -> Result<Found, PassError> {
        let rungs = self.rungs(context)?;
        let Some(most) = self.options.max_drop else {
            return Ok(Found {
                configuration: rungs.last().cloned().unwrap_or_default(),
                drop: None,
            });
        };
        // The loss falls along the ladder, up to noise: the first rung that keeps the bound, by bisection.
        let drop_at = |rung: usize| -> Result<f64, PassError> {
            let configuration = rungs.get(rung).cloned().unwrap_or_default();
            self.drop(&self.candidate(&configuration, context)?, context)
        };
        let (mut low, mut high) = (0, rungs.len().saturating_sub(1));
        let mut drop = drop_at(high)?;
        if drop > most + 1e-12 {
            return Err(resource(format!(
                "no choice of the types keeps the loss of accuracy: {drop:.4} with the most bits that the budget allows, at \
                 most {most} is accepted"
            )));
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            let found = drop_at(middle)?;
            if found <= most + 1e-12 {
                (high, drop) = (middle, found);
            } else {
                low = middle + 1;
            }
        }
        Ok(Found {
            configuration: rungs.get(high).cloned().unwrap_or_default(),
            drop: Some(drop),
        })
    }

    /// The model that a configuration gives.
    fn candidate(&self, configuration: &[usize], context: &Context<'_>) -> Result<Model, PassError> {
        let mut candidate = self.original.clone();
        let step = self.options.step(self.layers(configuration));
        step.run(&mut candidate, context)?;
        Ok(candidate)
    }

    /// The loss of accuracy against the input model.
    fn drop(&self, candidate: &Model, context: &Context<'_>) -> Result<f64, PassError> {
        let resources = context.resources(NAME, "max-drop needs evaluation data")?;
        let data = resources.data("evaluation", &candidate.graph).map_err(resource)?;
        let total = data.sample_range().end - data.sample_range().start;
        let task = Task {
            engine: resources.engine().map_err(resource)?,
            data: &data,
            output: None,
            threshold: 0.5,
            jobs: resources.jobs(),
            latency_runs: 0,
            progress: &|done| (context.progress)("evaluate", done, Some(total)),
        };
        let mut state = State::new(StateSubject::default());
        let figures = task
            .figures(candidate, Some(self.original), &mut state, None)
            .map_err(resource)?;
        figures
            .against
            .and_then(|against| against.drop)
            .ok_or_else(|| resource("max-drop needs evaluation data with class labels".to_owned()))
    }

    /// Entries for the layers that differ from the widest integer type, which the step has.
    fn layers(&self, configuration: &[usize]) -> Vec<LayerPrecision> {
        let widest = self
            .precisions
            .iter()
            .copied()
            .rfind(|precision| precision.kind().is_some());
        self.measured
            .iter()
            .zip(configuration)
            .filter_map(|(layer, at)| {
                let precision = *self.precisions.get(*at)?;
                (Some(precision) != widest).then(|| LayerPrecision {
                    pattern: format!("^{}$", regex::escape(&layer.name)),
                    precision,
                    block: None,
                })
            })
            .collect()
    }

    /// Says of each layer what it got and what the choice was between.
    fn describe(&self, found: &Found, report: &mut PassReport) {
        let choices: Vec<_> = self.measured.iter().map(|layer| layer.choices.clone()).collect();
        let cost = choose::cost(&choices, &found.configuration);
        let decibels = |noise: f64| -10.0 * noise.max(1e-30).log10();
        for (at, precision) in self.precisions.iter().enumerate() {
            let details: Vec<String> = self
                .measured
                .iter()
                .zip(&found.configuration)
                .filter(|(_, chosen)| **chosen == at)
                .map(|(layer, _)| {
                    let each: Vec<String> = self
                        .precisions
                        .iter()
                        .zip(&layer.choices)
                        .filter(|(precision, _)| precision.kind().is_some())
                        .map(|(precision, choice)| {
                            format!("{} {:.1} dB", word(*precision), decibels(choice.noise))
                        })
                        .collect();
                    format!("{}: {}", layer.name, each.join(", "))
                })
                .collect();
            if !details.is_empty() {
                report.changes.push(Change {
                    rule: format!("layer-{}", word(*precision)),
                    count: details.len() as u64,
                    details,
                });
            }
        }
        report.changed = true;
        let drop = found
            .drop
            .map_or(String::new(), |drop| format!(", loss of accuracy {drop:.4}"));
        report.notes.push(format!(
            "{:.2} bits a weight on average, {:.1} dB expected{drop}",
            cost.bits as f64 / self.elements.max(1) as f64,
            decibels(cost.noise)
        ));
    }
}

/// The word for a precision in YAML.
fn word(precision: Precision) -> String {
    match serde_json::to_value(precision) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A pipeline of this one step, without the options that have their default.
fn pipeline(step: &super::QuantizeWeights) -> Result<String, PassError> {
    let wrong = |error: &dyn std::fmt::Display| resource(error.to_string());
    let options = serde_json::to_value(step).map_err(|error| wrong(&error))?;
    let defaults = serde_json::to_value(super::QuantizeWeights::default()).map_err(|error| wrong(&error))?;
    let own: Map<String, Value> = options
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| defaults.get(name.as_str()) != Some(*value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let document = json!({ "version": PIPELINE_VERSION, "steps": [{ step.about().name: own }] });
    let body = serde_yaml::to_string(&document).map_err(|error| wrong(&error))?;
    Ok(format!(
        "# yaml-language-server: $schema=pipeline.schema.json\n{body}"
    ))
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
