//! What options change in a pipeline before it runs: rules, safety, sizes, gates, data.

use serde_json::{Map, Value};

use super::data::Resolved;
use super::error::Error;
use super::options::Options;
use crate::passes::{Needs, Safety, Size};
use crate::pipeline::{self, Described, Pipeline, ROLES, Step};
use crate::schema::nearest;

/// The safety that a word names.
fn safety(text: &str) -> Option<Safety> {
    match text {
        "exact" => Some(Safety::Exact),
        "rounding" => Some(Safety::Rounding),
        "approximate" => Some(Safety::Approximate),
        _ => None,
    }
}

/// The sizes of dimensions as the step `bind` takes them.
pub(crate) fn sizes_of(bindings: &[(String, Size)]) -> Map<String, Value> {
    bindings
        .iter()
        .map(|(name, size)| {
            let value = match size {
                Size::Fixed(size) => (*size).into(),
                Size::Symbol(symbol) => symbol.clone().into(),
            };
            (name.clone(), value)
        })
        .collect()
}

/// Applies what the options say to a pipeline.
pub(crate) fn adjust(pipeline: &mut Pipeline, options: &Options) -> Result<(), Error> {
    load_rules(pipeline, options)?;
    choose(pipeline, &options.only)?;
    if !options.bind.is_empty() {
        let sizes = sizes_of(&options.bind);
        pipeline
            .steps
            .insert(0, Step::new("bind", pipeline::bind_options(sizes))?);
    }
    if options.constant_inputs {
        pipeline.steps.insert(0, Step::new("bind-defaults", Map::new())?);
    }
    pipeline.gates.extend(options.evaluation.gates.iter().cloned());
    give(pipeline, options)
}

/// Sets an option of a step, where it has it.
fn set(step: &mut Step, option: &str, value: Value) -> Result<(), Error> {
    if takes(step, option) {
        let mut options = step.options.clone();
        options.insert(option.to_owned(), value);
        *step = Step {
            spot: step.spot.clone(),
            ..Step::new(&step.name, options)?
        };
    }
    Ok(())
}

fn takes(step: &Step, option: &str) -> bool {
    pipeline::option_names(&step.name)
        .iter()
        .any(|name| name == option)
}

/// Folders of rules are relative to the working directory, not to the pipeline's file.
fn load_rules(pipeline: &mut Pipeline, options: &Options) -> Result<(), Error> {
    if options.rules.is_empty() {
        return Ok(());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let folders: Vec<Value> = options
        .rules
        .iter()
        .map(|folder| here.join(folder).to_string_lossy().into_owned().into())
        .collect();
    pipeline
        .steps
        .iter_mut()
        .try_for_each(|step| set(step, "rules", Value::Array(folders.clone())))
}

/// Keeps steps to what is as safe as asked, or to the rules and parts that are named.
fn choose(pipeline: &mut Pipeline, only: &[String]) -> Result<(), Error> {
    let names: Vec<&String> = only.iter().filter(|word| safety(word).is_none()).collect();
    if !names.is_empty() {
        if !pipeline.steps.iter().any(|step| takes(step, "only")) {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            return Err(Error::usage(&format!(
                "--only {}: no step has single rules or parts to choose from",
                names.join(", ")
            ))
            .with_hint(
                "--only takes exact, rounding or approximate, or with `simplify` the name of a rule or part",
            ));
        }
        for step in &mut pipeline.steps {
            set(step, "only", names.iter().map(|name| (*name).clone()).collect())?;
        }
    }
    let Some(allowed) = only.iter().filter_map(|word| safety(word)).min() else {
        return Ok(());
    };
    for step in &mut pipeline.steps {
        set(step, "safety", serde_json::to_value(allowed).unwrap_or_default())?;
    }
    match pipeline
        .steps
        .iter()
        .find(|step| step.pass.about().safety > allowed)
    {
        Some(step) => {
            let message = format!("step `{}` is not as safe as --only asks", step.name);
            Err(Error::new("not-safe-enough", message))
        }
        None => Ok(()),
    }
}

/// Gives the pipeline data, with paths from the working directory, and preprocessing for all it has.
fn give(pipeline: &mut Pipeline, options: &Options) -> Result<(), Error> {
    let here = std::env::current_dir().unwrap_or_default();
    for (role, data) in &options.data {
        let role = match role.as_deref() {
            None => sole_role(pipeline),
            Some(role) => known_role(role)?,
        };
        let described = match data.clone().resolve()? {
            Resolved::Path(path) => {
                Described::Written(Value::String(here.join(path).to_string_lossy().into_owned()))
            }
            Resolved::Described(spec, base) => Described::of(spec.rooted(&here.join(base))),
        };
        pipeline.data.insert(role.to_owned(), described);
    }
    let Some(preprocess) = &options.preprocess else {
        return Ok(());
    };
    if pipeline.data.is_empty() {
        return Err(
            Error::usage("--preprocess says how data become inputs, and there are none")
                .with_hint("describe them under `data` in the pipeline or with --data ROLE=DATA"),
        );
    }
    let base = pipeline.base.clone();
    for described in pipeline.data.values_mut() {
        let (spec, base) = pipeline::describe_data(described, &base)?;
        *described = Described::of(spec.rooted(&base).with_preprocess(preprocess.clone()));
    }
    Ok(())
}

/// A role of data, or what is wrong with it.
pub(crate) fn known_role(role: &str) -> Result<&str, Error> {
    if ROLES.contains(&role) {
        return Ok(role);
    }
    let error = Error::new("unknown-role", format!("unknown role `{role}`"));
    Err(error.with_hint(match nearest(role, ROLES) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("roles are {}", ROLES.join(", ")),
    }))
}

/// The role of data without one: what the steps need, else evaluation.
fn sole_role(pipeline: &Pipeline) -> &'static str {
    let needs = |role: fn(&Needs) -> bool| pipeline.steps.iter().any(|step| role(&step.pass.about().needs));
    match (needs(|needs| needs.calibration), needs(|needs| needs.training)) {
        (true, false) => "calibration",
        (false, true) => "training",
        _ => "evaluation",
    }
}
