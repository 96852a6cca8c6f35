//! The pass `transfer-parameters`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis;
use crate::ir::Model;
use crate::passes::prune::PruneChannels;
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, Requirement, ResourceError, Resources,
    Safety, prepare,
};
use crate::schema;
use crate::transfer::adapt::{Adapter, Head, Rules};
use crate::transfer::parameters::{
    Account, EPSILON, Fate, Matching, Options, TransferError, check_rename, from_model, from_tensors,
};
use crate::transfer::units;

const NAME: &str = "transfer-parameters";

/// How weights are paired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MatchBy {
    /// By name where every operator of the target is found by name in the same form (or `rename` is given), else by structure.
    #[default]
    Auto,
    /// By name.
    Name,
    /// By what the operators compute and where they stand; names count for nothing.
    Structure,
}

/// Copies weights from another model, or from a safetensors or npz file, and says what became of each.
///
/// The model is the target: its operators stay and only its weights change. Weights are paired by name, or by structure: operators
/// with weights are compared by what they compute and by the operators before and behind them, which needs no names at all. Weights
/// that are computed from constants are folded first, in both models.
///
/// What is stored in another form is brought into the target's: transposed, with BatchNormalization folded in or made an identity, in
/// another element type. Changes that alter the function need `adapt`. Every weight of both models is in the report with its fate;
/// weights in bodies and functions are left (`inline-functions` comes first). Nothing is written when a weight stays behind on either
/// side, unless `partial` or `require` accepts that.
///
/// A file of named tensors may be the state dict of a PyTorch model whose exporter has renamed, transposed and folded weights. Its
/// layers are found by names and by the paths of nodes (`/enc/layers.0/q_proj/MatMul`), gates of LSTM and GRU are reordered, packed
/// projections of attentions are split, and normalisations are folded where the target has them folded. An operator is loaded whole
/// or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TransferParameters {
    /// The model (.onnx) or weight file (.safetensors, .npz) that the weights come from.
    #[schemars(extend("x-file" = "read"))]
    pub from: PathBuf,
    /// How weights are paired.
    #[serde(rename = "match")]
    pub matching: MatchBy,
    /// Pairs of a regular expression and a replacement (`$1` is its first group), applied to the source's names in order.
    pub rename: Vec<(String, String)>,
    /// Kinds of change that are allowed beside `layout`, `batch-norm` and `dtype`.
    pub adapt: Vec<Adapter>,
    /// What the adapter `head` does to a last layer with another number of classes.
    pub head: Head,
    /// The first of the source's classes that a sliced head keeps.
    pub head_offset: u64,
    /// The history of `prune-channels` by which the target was cut: the source is cut in the same way first.
    #[schemars(extend("x-file" = "read"))]
    pub pruned: Option<PathBuf>,
    /// Share of the target's parameters, from 0 to 1, that has to come from the source, else nothing is written; weights may stay behind then.
    pub require: Option<f64>,
    /// Accept that weights of the target or of the source stay behind.
    pub partial: bool,
    /// From a file of tensors: layers and the batch normalisations that are folded into them here, where names do not tell.
    pub batch_norm: BTreeMap<String, String>,
    /// From a file of tensors: what a batch normalisation that is folded here adds to the variance.
    pub epsilon: f64,
}

impl Default for TransferParameters {
    fn default() -> Self {
        Self {
            from: PathBuf::new(),
            matching: MatchBy::default(),
            rename: Vec::new(),
            adapt: Vec::new(),
            head: Head::default(),
            head_offset: 0,
            pruned: None,
            require: None,
            partial: false,
            batch_norm: BTreeMap::new(),
            epsilon: EPSILON,
        }
    }
}

impl Pass for TransferParameters {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
            .replacing()
            .needing(Needs::SOURCE)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let options = self.options(context)?;
        let resources = context.resources(NAME, "there is nothing to read the source with")?;
        let mut report = PassReport::default();
        let mut target = model.clone();
        make_ready(&mut target, context, &mut report)?;
        let account = match self.is_file_of_tensors() {
            true => self.load(&mut target, resources, &options)?,
            false => {
                let mut source = resources.model(&self.from).map_err(resource)?;
                if let Some(history) = &self.pruned {
                    report.add(
                        "cut of the source as the target was",
                        cut(&mut source, history, context)?,
                    );
                }
                make_ready(&mut source, context, &mut PassReport::default())?;
                let names = units::find(&source.graph).into_iter().flat_map(|unit| unit.parts);
                check_rename(&options.rename, names.map(|part| part.name))
                    .map_err(|error| self.failed(error))?;
                from_model(&mut target, &source, &options).map_err(|error| self.failed(error))?
            }
        };
        analysis::infer(&mut target);
        summarise(&account, &mut report);
        report.requirements.extend(self.require.map(|bound| {
            let share = account.share();
            Requirement {
                name: "require".to_owned(),
                passed: share >= bound,
                value: share,
                bound,
                message: format!("{:.1} % of the target's parameters were loaded", share * 100.0),
            }
        }));
        if self.require.is_none() && !self.partial {
            report
                .requirements
                .push(completeness(&account, self.pruned.is_some()));
        }
        report.transfer = Some(account);
        if report.changed {
            *model = target;
        }
        Ok(report)
    }
}

impl TransferParameters {
    fn options(&self, context: &Context<'_>) -> Result<Options, PassError> {
        if self.from.as_os_str().is_empty() {
            return Err(option("from: a model or a weight file is needed".to_owned()));
        }
        if let Some(bound) = self.require
            && !(0.0..=1.0).contains(&bound)
        {
            return Err(option(format!("require: {bound} is no share from 0 to 1")));
        }
        if self.matching == MatchBy::Structure && !self.rename.is_empty() && !self.is_file_of_tensors() {
            return Err(option(
                "rename: names count for nothing with `match: structure`".to_owned(),
            ));
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return Err(option(format!("epsilon: {} is no epsilon", self.epsilon)));
        }
        let rename = self
            .rename
            .iter()
            .map(|(pattern, by)| {
                let compiled =
                    schema::pattern(pattern).map_err(|error| option(format!("rename: {error}")))?;
                Ok((compiled, by.clone()))
            })
            .collect::<Result<_, PassError>>()?;
        let allowed: BTreeSet<Adapter> = Rules::EXACT
            .into_iter()
            .chain(self.adapt.iter().copied())
            .collect();
        Ok(Options {
            matching: match self.matching {
                MatchBy::Auto => Matching::Auto,
                MatchBy::Name => Matching::Name,
                MatchBy::Structure => Matching::Structure,
            },
            rename,
            rules: Rules {
                allowed,
                head: self.head,
                offset: self.head_offset,
                seed: context.seed,
            },
            keep: context.keep.clone(),
            norms: self.batch_norm.clone(),
            epsilon: self.epsilon,
        })
    }

    fn failed(&self, error: TransferError) -> PassError {
        match error {
            TransferError::Edit(source) => PassError::Edit { pass: NAME, source },
            TransferError::SameName { .. }
            | TransferError::Prefixes { .. }
            | TransferError::Unmatched { .. } => option(format!("rename: {error}")),
            TransferError::Norms(_) => option(error.to_string()),
            TransferError::NotFinite { .. } => resource(format!("{}: {error}", self.from.display())),
            TransferError::NoWeights | TransferError::Tensor(_) => PassError::Model {
                pass: NAME,
                node: "main graph".to_owned(),
                message: error.to_string(),
            },
        }
    }

    fn is_file_of_tensors(&self) -> bool {
        let extension = self.from.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| {
            matches!(
                extension.to_ascii_lowercase().as_str(),
                // The last ones are no files that are read, but what they are is said where tensors are.
                "safetensors" | "npz" | "npy" | "pth" | "pt" | "ckpt" | "pkl" | "pickle" | "h5"
            )
        })
    }

    fn load(
        &self,
        target: &mut Model,
        resources: &dyn Resources,
        options: &Options,
    ) -> Result<Account, PassError> {
        if self.pruned.is_some() {
            return Err(option(
                "pruned: a file of named tensors cannot be cut; use a model".to_owned(),
            ));
        }
        if self.matching == MatchBy::Structure {
            return Err(option(
                "match: a file of named tensors has no structure; use `name`".to_owned(),
            ));
        }
        let tensors = resources.tensors(&self.from).map_err(resource)?;
        let names = tensors.iter().map(|(name, _)| name.clone());
        check_rename(&options.rename, names).map_err(|error| self.failed(error))?;
        from_tensors(target, &tensors, options).map_err(|error| self.failed(error))
    }
}

/// Types, and constants in the place of what is computed from weights.
fn make_ready(model: &mut Model, context: &Context<'_>, report: &mut PassReport) -> Result<(), PassError> {
    prepare::name(model);
    if units::hides_weights(&model.graph) {
        let folded = prepare::fold_weights(model, context)?;
        report.add(
            "constants folded",
            folded.changes.iter().map(|change| change.count).sum(),
        );
        report.notes.extend(folded.notes);
    }
    Ok(())
}

/// Removes from a model what a history lists. Answers how many groups of units that were.
fn cut(source: &mut Model, history: &Path, context: &Context<'_>) -> Result<u64, PassError> {
    let pass = PruneChannels {
        replay: Some(history.to_owned()),
        ..PruneChannels::default()
    };
    let done = pass.run(source, context).map_err(|error| match error {
        PassError::Option { message, .. } => option(format!("pruned: {message}")),
        other => other,
    })?;
    Ok(done.changes.iter().map(|change| change.count).sum::<u64>().max(1))
}

/// How many weights a message names.
const NAMED: usize = 5;

/// That no weight of either side stays behind.
fn completeness(account: &Account, cut: bool) -> Requirement {
    let (own, other) = account.behind();
    let named = |names: Vec<String>| -> String {
        let more = names.len().saturating_sub(NAMED);
        let mut text = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            text += &format!(" and {more} more");
        }
        text
    };
    let because = |why: &Option<String>| why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let mut parts = Vec::new();
    if !own.is_empty() {
        let names = own
            .iter()
            .map(|weight| format!("{}{}", weight.name, because(&weight.why)));
        parts.push(format!(
            "{} weights of the target stay as they were: {}",
            own.len(),
            named(names.collect())
        ));
    }
    if !other.is_empty() {
        let names = other
            .iter()
            .map(|weight| format!("{}{}", weight.name, because(&weight.why)));
        parts.push(format!(
            "{} weights of the source are not used: {}",
            other.len(),
            named(names.collect())
        ));
    }
    let passed = parts.is_empty();
    if !passed {
        parts.push(match account.narrower && !cut {
            true => "the target looks like the source with channels removed: `pruned` takes the history of `prune-channels` by which it was cut".to_owned(),
            false => "`partial` accepts that, `rename` and `keep` say what belongs together and what is to stay".to_owned(),
        });
    }
    Requirement {
        name: "complete".to_owned(),
        passed,
        value: (own.len() + other.len()) as f64,
        bound: 0.0,
        message: match passed {
            true => "no weight stays behind".to_owned(),
            false => parts.join("; "),
        },
    }
}

fn summarise(account: &Account, report: &mut PassReport) {
    let mut changes: Vec<Change> = Vec::new();
    for weight in &account.weights {
        let label = format!("{} {:?}", weight.name, weight.dims);
        let rules = match weight.fate {
            Fate::Loaded => vec!["weight loaded".to_owned()],
            Fate::Adapted | Fate::Initialised => weight
                .how
                .iter()
                .map(|how| format!("weight adapted, {}", how.split(": ").next().unwrap_or("")))
                .collect(),
            Fate::Left => {
                let why = weight.why.as_deref().unwrap_or("");
                report.leave(label, why);
                continue;
            }
        };
        for rule in rules {
            match changes.iter_mut().find(|change| change.rule == rule) {
                Some(change) => {
                    change.count += 1;
                    change.details.push(label.clone());
                }
                None => changes.push(Change {
                    rule,
                    count: 1,
                    details: vec![label.clone()],
                }),
            }
        }
    }
    for weight in account.source.iter().filter(|weight| !weight.used) {
        let why = weight.why.as_deref().unwrap_or("");
        report
            .notes
            .push(format!("not used: {} {:?}: {why}", weight.name, weight.dims));
    }
    report.changed |= !changes.is_empty();
    report.changes.extend(changes);
}

fn option(message: String) -> PassError {
    PassError::Option { pass: NAME, message }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
