//! A step with `until`, from its options to the model: opens and halves the data, climbs the ladder of its pass, says what was found.

use serde_json::{Map, Value};

use super::super::definition::Step;
use super::super::gates::{Gate, GateReport, Weight};
use super::super::weigh::weigh;
use super::bounds::words;
use super::climb::{Bench, Climb, Found, Made, Which};
use super::figures::{Samples, Terms};
use super::ground::{Ground, Told};
use super::layers::LayerLadder;
use super::precision::PrecisionLadder;
use super::rank::Ranking;
use super::report::{JudgedOn, Searched, SearchedSamples};
use super::sharing::Shared;
use super::trials::Sharing;
use super::{NamedStep, UNTIL, bits, channels, file_option, needs_evaluation};
use crate::engine::Engine;
use crate::ir::Model;
use crate::passes::{Context, PassError, PassReport, Requirement, ResourceError, Resources};
use crate::verify::VerifyOptions;

/// The role of the data that candidates are judged on.
const EVALUATION: &str = "evaluation";

/// The role of the data that layers are ranked on where the figure needs no labels of its own.
const CALIBRATION: &str = "calibration";

/// What a search gets beside the step and the model.
pub(in crate::pipeline) struct Means<'a> {
    /// The bounds.
    pub(in crate::pipeline) gates: &'a [Gate],
    /// How outputs are compared, where a bound is on them.
    pub(in crate::pipeline) verify: &'a VerifyOptions,
    /// What the step gets, too.
    pub(in crate::pipeline) context: &'a Context<'a>,
}

/// What a search leaves.
pub(in crate::pipeline) struct Outcome {
    /// Of the step that the result is made by, with what became of the bounds.
    pub(in crate::pipeline) report: PassReport,
    /// What was tried.
    pub(in crate::pipeline) searched: Searched,
    /// The step that makes the same model without a search.
    pub(in crate::pipeline) step: NamedStep,
}

/// Searches for the step's result in place of running it. The model is left as the result, or as the candidate that comes nearest.
pub(in crate::pipeline) fn search(
    step: &Step,
    model: &mut Model,
    means: &Means<'_>,
) -> Result<Outcome, PassError> {
    let pass = step.pass.about().name;
    let failed = |error: ResourceError| PassError::resource(pass, error);
    let shared = Shared::new(means.context.resources(pass, "until needs an engine")?);
    let resources: &dyn Resources = &shared;
    let context = &Context {
        evaluator: means.context.evaluator,
        limits: means.context.limits.clone(),
        keep: means.context.keep.clone(),
        seed: means.context.seed,
        base: means.context.base.clone(),
        progress: means.context.progress,
        resources: Some(resources),
    };
    let engine = resources.engine().map_err(failed)?;
    let input = model.clone();
    let ground = Ground {
        pass,
        options: without_search(pass, &step.options),
        input: &input,
        context,
    };
    let halves = halves(pass, means.gates, &input, resources, engine)?;
    let samples = halves.as_ref().map(|(search, held_out)| (search, held_out));
    let mut counts = SearchedSamples {
        search: samples.map_or(0, |(search, _)| search.count()),
        held_out: samples.map_or(0, |(_, held_out)| held_out.count()),
        ..SearchedSamples::default()
    };
    let mut ranked_by = None;
    let ladder: Box<dyn Told + '_> = match pass {
        "quantize" => {
            let ladder = LayerLadder::new(&ground, |layers| {
                let ranking = ranking(means.gates, &input, (resources, engine), layers)?;
                counts.ranking = ranking.count();
                ranked_by = Some(ranking.words());
                Ok(ranking)
            })?;
            Box::new(ladder)
        }
        "search-precision" => Box::new(PrecisionLadder::new(&ground)?),
        "compress" => Box::new(bits::ladder(&ground)?),
        "prune-channels" => Box::new(channels::ladder(&ground, &step.options)?),
        _ => return Err(ground.wrong(format!("{UNTIL}: `{pass}` has no candidates to choose among"))),
    };
    let before = weigh(&input, true).map_err(|error| failed(error.into()))?;
    let judging = Judging {
        pass,
        terms: Terms {
            gates: means.gates,
            before,
            verify: means.verify,
            progress: context.progress,
        },
        samples,
    };
    let mut climb = Climb::new(&*ladder, &judging);
    if let Some(ledger) = resources.ledger() {
        let mut work = ground.work("candidate");
        work.depends(
            "bounds",
            means.gates.iter().map(words).collect::<Vec<_>>().join(", "),
        );
        let digests = samples.map(|(search, rest)| [search.data.digest(), rest.data.digest()].join(" "));
        work.depends("data", digests.unwrap_or_default());
        climb = climb.sharing(Sharing { pass, ledger, work });
    }
    let found = climb.run()?;
    let candidates = std::mem::take(&mut climb.candidates);
    let mut searched = Searched {
        bounds: means.gates.iter().map(words).collect(),
        held: found.held,
        message: String::new(),
        samples: counts,
        ranked_by,
        candidates,
        layers: Vec::new(),
        integer_macs: None,
    };
    ladder.tell(&found, &mut searched);
    searched.message = message(&*ladder, &found, &searched);
    let step = ladder.step(&found.choice);
    *model = found.made.model;
    let mut report = found.made.report;
    report
        .requirements
        .push(requirement(&searched, found.broken.first()));
    Ok(Outcome {
        report,
        searched,
        step,
    })
}

/// The options of a step without those that only a search reads.
fn without_search(pass: &str, options: &Map<String, Value>) -> Map<String, Value> {
    let own = file_option(pass);
    options
        .iter()
        .filter(|(name, _)| *name != UNTIL && Some(name.as_str()) != own)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The evaluation data in two parts, where bounds are judged on samples.
fn halves<'m>(
    pass: &'static str,
    gates: &[Gate],
    input: &'m Model,
    resources: &'m dyn Resources,
    engine: &'m dyn Engine,
) -> Result<Option<(Samples<'m>, Samples<'m>)>, PassError> {
    let failed = |error: ResourceError| PassError::resource(pass, error);
    if !needs_evaluation(gates) {
        return Ok(None);
    }
    let part = |part: u64| -> Result<Samples<'m>, PassError> {
        let data = resources.data(EVALUATION, &input.graph).map_err(failed)?;
        let range = data.sample_range();
        if range.end - range.start < 2 {
            return Err(failed(ResourceError::from(
                "until: one part of the evaluation data chooses and another confirms: give 2 samples or more",
            )));
        }
        Samples::new(data.part(part, 2), input, engine, resources.jobs()).map_err(failed)
    };
    Ok(Some((part(0)?, part(1)?)))
}

/// Samples that so many layers are ranked on: those that the search sees where a bound is on a figure of their task, else calibration
/// data, of which nothing has to be true.
fn ranking<'m>(
    gates: &[Gate],
    input: &'m Model,
    (resources, engine): (&'m dyn Resources, &'m dyn Engine),
    layers: usize,
) -> Result<Ranking<'m>, ResourceError> {
    let on_figure = gates
        .iter()
        .any(|gate| gate.needs_evaluation() && !gate.needs_labels() && !gate.is_budget());
    let calibration = resources.describes(CALIBRATION) && !on_figure;
    let data = match calibration || !resources.describes(EVALUATION) {
        true => resources.data(CALIBRATION, &input.graph)?,
        false => resources.data(EVALUATION, &input.graph)?.part(0, 2),
    };
    let samples = Samples::new(data.judged_by_reference(), input, engine, resources.jobs())?;
    let most = (MOST_RUNS / layers.max(1) as u64).clamp(FEWEST, MOST);
    Ok(Ranking::new(samples, most, gates))
}

/// Runs of single samples that ranking takes, about, and the samples a layer that are run at least and at most.
const MOST_RUNS: u64 = 1600;
const FEWEST: u64 = 4;
const MOST: u64 = 16;

/// Judges candidates on the halves of the evaluation data.
struct Judging<'a> {
    pass: &'static str,
    terms: Terms<'a>,
    samples: Option<(&'a Samples<'a>, &'a Samples<'a>)>,
}

impl Judging<'_> {
    fn wanted(which: Which, gate: &Gate) -> bool {
        match which {
            Which::Quality => !gate.is_budget(),
            Which::Budget => gate.is_budget(),
            Which::All => true,
        }
    }
}

impl Bench for Judging<'_> {
    fn bounds(&self, which: Which) -> bool {
        self.terms.gates.iter().any(|gate| Self::wanted(which, gate))
    }

    fn judge(&self, made: &Made, which: Which, held_out: bool) -> Result<Vec<GateReport>, PassError> {
        let budgets = self
            .terms
            .gates
            .iter()
            .any(|gate| gate.is_budget() && Self::wanted(which, gate));
        let after = match budgets {
            true => weigh(&made.model, true).map_err(|error| PassError::resource(self.pass, error))?,
            false => Weight::default(),
        };
        let samples = self
            .samples
            .map(|(search, rest)| if held_out { rest } else { search });
        self.terms
            .judge(&made.model, after, samples, &|gate| Self::wanted(which, gate))
            .map_err(|error| PassError::resource(self.pass, error))
    }

    fn on(&self, held_out: bool) -> JudgedOn {
        match (self.samples, held_out) {
            (None, _) => JudgedOn::Model,
            (Some(_), true) => JudgedOn::HeldOut,
            (Some(_), false) => JudgedOn::Search,
        }
    }

    fn is_budget(&self, gate: &str) -> bool {
        self.terms
            .gates
            .iter()
            .any(|own| own.is_budget() && own.name() == gate)
    }
}

/// What was found, in one sentence.
fn message(ladder: &dyn Told, found: &Found, searched: &Searched) -> String {
    let what = ladder.words(&found.choice);
    let tried = searched.candidates.len();
    let bounds = searched.bounds.join(", ");
    if found.held {
        let where_ = match searched.samples.held_out {
            0 => String::new(),
            count => format!(" on {count} samples that the search did not see"),
        };
        return format!("{bounds} holds{where_}: {what}; {tried} judgements");
    }
    let why: Vec<&str> = found.broken.iter().map(|gate| gate.message.as_str()).collect();
    format!(
        "no candidate keeps {bounds}; the nearest one of {tried} judgements is {what}: {}",
        why.join("; ")
    )
}

/// The outcome as a bound of the step: one that does not hold refuses the result.
fn requirement(searched: &Searched, broken: Option<&GateReport>) -> Requirement {
    let chosen = searched.candidates.iter().rev().find(|one| one.chosen);
    let shown = broken.or_else(|| chosen.and_then(|one| one.gates.first()));
    Requirement {
        name: UNTIL.to_owned(),
        passed: searched.held,
        value: shown.and_then(|gate| gate.value).unwrap_or_default(),
        bound: shown.and_then(|gate| gate.bound).unwrap_or_default(),
        message: searched.message.clone(),
    }
}
