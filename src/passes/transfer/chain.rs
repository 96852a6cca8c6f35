//! The pass `chain`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ir::{Graph, Model, ValueId};
use crate::passes::form::Bind;
use crate::passes::form::align::align;
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, ResourceError, Safety, prepare,
};
use crate::transfer::chain::{ChainError, Chained, chain, links, sizes};
use crate::transfer::splice::SpliceError;

const NAME: &str = "chain";

/// Puts other models behind this one: preprocessing before a network, a head behind a backbone.
///
/// Each model reads what the one before gives: the outputs of its inputs' names, the only output, or what `map` says. The
/// result has the inputs of the first model and those that nothing gives, and the outputs of the last model; outputs of the others go,
/// but for those that `keep` names. Opsets are brought to the newest, sizes and symbols to what both sides need, and shapes or types
/// that contradict each other are an error that names both. Running the result and running the models one after the other gives the same bits
/// in the same engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Chain {
    /// The other models, in the order in which data passes them.
    #[schemars(extend("x-file" = "read"))]
    pub with: Vec<PathBuf>,
    /// Pairs OUTPUT=INPUT: a value of the models before and the input of the next one that reads it.
    pub map: Vec<String>,
    /// The other models come before this one and not behind it.
    pub before: bool,
}

impl Pass for Chain {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
            .replacing()
            .needing(Needs::SOURCE)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if self.with.is_empty() {
            return Err(option("with: a second model is needed".to_owned()));
        }
        let pairs = self.pairs()?;
        let resources = context.resources(NAME, "there is nothing to read the other models with")?;
        let mut others = Vec::with_capacity(self.with.len());
        for path in &self.with {
            others.push((prefix(path), resources.model(path).map_err(resource)?));
        }
        let own = ("model".to_owned(), model.clone());
        match self.before {
            true => others.push(own),
            false => others.insert(0, own),
        }
        for (output, input) in &pairs {
            let has = |(_, next): &(String, Model)| input_names(&next.graph).contains(input);
            if !others.iter().skip(1).any(has) {
                let known: Vec<String> = others
                    .iter()
                    .skip(1)
                    .flat_map(|(_, next)| input_names(&next.graph))
                    .collect();
                return Err(option(format!(
                    "map: no model behind the first has an input {input:?} for {output:?}; inputs are {}",
                    known.join(", ")
                )));
            }
        }
        let mut report = PassReport::default();
        let mut models = others.into_iter();
        let Some((_, mut result)) = models.next() else {
            return Ok(report);
        };
        for (prefix, mut next) in models {
            join(&mut result, &mut next, &prefix, &pairs, context, &mut report)?;
        }
        *model = result;
        report.changed = true;
        Ok(report)
    }
}

impl Chain {
    fn pairs(&self) -> Result<Vec<(String, String)>, PassError> {
        self.map
            .iter()
            .map(|pair| match pair.split_once('=') {
                Some((output, input)) if !output.is_empty() && !input.is_empty() => {
                    Ok((output.to_owned(), input.to_owned()))
                }
                _ => Err(option(format!(
                    "map: {pair:?} is not of the form OUTPUT=INPUT, as in `features=x`"
                ))),
            })
            .collect()
    }
}

/// What comes before names of a file's model that are taken.
fn prefix(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| !stem.is_empty() && stem != "-")
        .unwrap_or_else(|| "second".to_owned())
}

fn join(
    result: &mut Model,
    next: &mut Model,
    prefix: &str,
    pairs: &[(String, String)],
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    align(NAME, result, next, context, report)?;
    prepare::name(result);
    prepare::name(next);
    let inputs: BTreeSet<String> = input_names(&next.graph);
    let own = pairs.iter().filter(|(_, input)| inputs.contains(input));
    let given: Vec<(String, String)> = own.cloned().collect();
    let found = links(&result.graph, &next.graph, &given).map_err(refused)?;
    let needed = sizes(&result.graph, &next.graph, &found).map_err(refused)?;
    if !needed.is_empty() {
        let details = needed
            .iter()
            .map(|(name, size)| format!("{name} is {size}"))
            .collect();
        let bind = Bind {
            sizes: needed
                .into_iter()
                .map(|(name, size)| (name, size.into()))
                .collect(),
        };
        bind.run(result, context).map_err(|error| match error {
            PassError::Option { message, .. } => {
                option(format!("sizes that the next model needs: {message}"))
            }
            PassError::Model { node, message, .. } => PassError::Model {
                pass: NAME,
                node,
                message: format!("sizes that the next model needs: {message}"),
            },
            other => other,
        })?;
        report.changes.push(Change {
            rule: "dimension bound to what the next model needs".to_owned(),
            count: bind.sizes.len() as u64,
            details,
        });
    }
    let kept = |name: &str| context.keeps(name);
    let done = chain(result, next, &found, &kept, prefix).map_err(refused)?;
    tell(done, report);
    Ok(())
}

fn input_names(graph: &Graph) -> BTreeSet<String> {
    let names = graph
        .inputs()
        .iter()
        .filter_map(|id| graph.value(ValueId::new(*id, 0)));
    names.map(|value| value.name.to_string()).collect()
}

fn tell(done: Chained, report: &mut PassReport) {
    report.add("operator added", done.operators as u64);
    let mut listed = |rule: &str, details: Vec<String>| {
        if !details.is_empty() {
            report.changes.push(Change {
                rule: rule.to_owned(),
                count: details.len() as u64,
                details,
            });
        }
    };
    listed("input added", done.inputs);
    listed("function added", done.functions);
    report.notes.extend(
        done.dropped
            .into_iter()
            .map(|name| format!("{name} is no output any more; `keep` keeps it")),
    );
    report.notes.extend(
        done.idle
            .into_iter()
            .map(|name| format!("the input {name} is gone, as nothing reads it")),
    );
    report.notes.extend(
        done.renamed
            .into_iter()
            .map(|(old, new)| format!("{old} is {new}")),
    );
}

fn option(message: String) -> PassError {
    PassError::Option { pass: NAME, message }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}

fn refused(error: ChainError) -> PassError {
    match error {
        ChainError::Edit(source) | ChainError::Splice(SpliceError::Edit(source)) => {
            PassError::Edit { pass: NAME, source }
        }
        ChainError::NoInput { .. } | ChainError::Twice { .. } | ChainError::Region(_) => {
            option(format!("map: {error}"))
        }
        _ => option(error.to_string()),
    }
}
