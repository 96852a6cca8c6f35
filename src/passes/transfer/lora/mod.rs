//! The pass `merge-lora`.

mod peft;
mod weights;

use std::collections::BTreeMap;
use std::path::PathBuf;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis;
use crate::ir::{Graph, Model, Tensor};
use crate::passes::train::growth::option;
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, ResourceError, Safety, prepare,
};
use crate::schema;
use crate::transfer::adapt::Rules;
use crate::transfer::lora::{Adapter, AdapterFile, LoraError, adapters, twins};
use crate::transfer::parameters::{Matching, Options, TransferError, Writes, check_rename, from_tensors};
use peft::Config;
use weights::{Form, Weight, Weights};

const NAME: &str = "merge-lora";

/// Adds a low-rank adapter (LoRA) to the weights that it was trained for.
///
/// The adapter is a safetensors or npz file with pairs of matrices, named as PEFT (`lora_A`, `lora_B`) or kohya (`lora_down`,
/// `lora_up`, and `lora_mid` of convolutions) name them; each weight becomes `W + scale · alpha / r · B · A`. A module `a.b` stands for
/// the weight of the Gemm, MatMul, Conv or Gather whose node has the path `/a/b/`, or for the weight `a.b.weight`; `rename` rewrites module
/// names first. Of kohya's names the beginnings `lora_unet_`, `lora_te_`, `lora_te1_` and `lora_te2_` are taken away, and the rest is compared
/// with dots as underscores. Weights that PEFT has trained whole (`modules_to_save`) are put in as they are. Every adapter has to find
/// its weight, unless `partial` is given. Other kinds (LoHa, LoKr, DoRA, (IA)3, OFT) are refused by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MergeLora {
    /// The file with the adapter.
    #[schemars(extend("x-file" = "read"))]
    pub adapter: PathBuf,
    /// Alpha of every module whose file says none; the file's own comes first. Without it, that of `adapter_config.json` beside the file.
    pub alpha: Option<f64>,
    /// Alpha of modules whose names end with a match of the regular expression, as PEFT's `alpha_pattern`.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Take only modules whose names start with this, as `lora_te1_` for the first of two text encoders.
    pub prefix: String,
    /// What the adapter counts; a negative number takes it out of weights that it was merged into.
    pub scale: f64,
    /// Rewrites of module names: pairs of a regular expression and what stands for its match, with `$1` for groups.
    pub rename: Vec<(String, String)>,
    /// Leave adapters out that find no weight.
    pub partial: bool,
}

impl Default for MergeLora {
    fn default() -> Self {
        Self {
            adapter: PathBuf::new(),
            alpha: None,
            alpha_pattern: BTreeMap::new(),
            prefix: String::new(),
            scale: 1.0,
            rename: Vec::new(),
            partial: false,
        }
    }
}

impl Pass for MergeLora {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
            .replacing()
            .needing(Needs::SOURCE)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if self.adapter.as_os_str().is_empty() {
            return Err(option(NAME, "adapter: a file is needed".to_owned()));
        }
        for (name, value) in [("scale", Some(self.scale)), ("alpha", self.alpha)] {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(option(NAME, format!("{name}: {value} is no factor")));
            }
        }
        let rules = self.rules()?;
        let resources = context.resources(NAME, "there is nothing to read the adapter with")?;
        let tensors = resources.tensors(&self.adapter).map_err(resource)?;
        let mut file = adapters(&tensors).map_err(|error| self.in_file(&error))?;
        let beside = self.adapter.with_file_name(peft::FILE);
        let config = match resources.text(&beside).map_err(resource)? {
            Some(text) => Config::parse(&text)
                .and_then(|config| config.check().map(|()| config))
                .map_err(|error| resource(format!("{}: {error}", beside.display())))?,
            None => Config::default(),
        };
        let mut report = PassReport::default();
        let names = file.whole.iter().map(|(name, _)| name);
        check_rename(&rules, file.adapters.keys().chain(names).cloned())
            .map_err(|error| option(NAME, format!("rename: {error}")))?;
        self.select(&mut file, &mut report)?;
        analysis::infer(model);
        self.merge(model, &file, &rules, &config, &mut report)?;
        self.put_whole(model, &file.whole, rules, context, &mut report)?;
        Ok(report)
    }
}

impl MergeLora {
    fn in_file(&self, error: &dyn std::fmt::Display) -> PassError {
        resource(format!("{}: {error}", self.adapter.display()))
    }

    /// Leaves out what has another prefix, and refuses modules that are one without theirs.
    fn select(&self, file: &mut AdapterFile, report: &mut PassReport) -> Result<(), PassError> {
        if !self.prefix.is_empty() {
            let before = file.adapters.len();
            let known = file.adapters.keys().next().cloned().unwrap_or_default();
            file.adapters.retain(|module, _| module.starts_with(&self.prefix));
            if file.adapters.is_empty() {
                return Err(option(
                    NAME,
                    format!(
                        "prefix: no module starts with {:?}; the first is {known:?}",
                        self.prefix
                    ),
                ));
            }
            let left = before - file.adapters.len();
            if left > 0 {
                report.notes.push(format!(
                    "{left} modules without the prefix {:?} are left out",
                    self.prefix
                ));
            }
        }
        match twins(file.adapters.keys()) {
            Some((first, second)) => Err(option(
                NAME,
                format!(
                    "prefix: {first} and {second} may be the same module; say which network this is, for example `lora_te1_`"
                ),
            )),
            None => Ok(()),
        }
    }

    /// Adds every low-rank adapter to its weight.
    fn merge(
        &self,
        model: &mut Model,
        file: &AdapterFile,
        rules: &[(Regex, String)],
        config: &Config,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let weights = Weights::of(&model.graph);
        let mut sums: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        let mut details = Vec::new();
        for (module, adapter) in &file.adapters {
            let named = renamed(rules, module);
            let found = match weights.find(&named, adapter.embedding) {
                Ok(found) => found,
                Err(names) => {
                    return Err(self.in_file(&format!(
                        "{named} stands for several weights: {}",
                        names.join(", ")
                    )));
                }
            };
            let Some(first) = found.first().and_then(|at| weights.all.get(*at)) else {
                if let Some(codes) = weights.codes(&named) {
                    let why = format!("its weight {codes} is stored as codes");
                    if self.partial {
                        report.leave_curable(named, why, "merge before quantizing");
                        continue;
                    }
                    return Err(self.in_file(&format!(
                        "{named}: {why}, to which nothing can be added: merge the adapter into the float model, then quantize"
                    )));
                }
                if self.partial {
                    report.leave_curable(named, "there is no such weight", "`rename` rewrites names");
                    continue;
                }
                let nearest = weights.nearest(&named);
                let hint = nearest
                    .map(|name| format!(", the nearest is {name}"))
                    .unwrap_or_default();
                return Err(self.in_file(&format!(
                    "{named}: there is no such weight{hint}; `rename` rewrites names, `partial` leaves it out"
                )));
            };
            let factor = self.factor(module, adapter, config)?;
            let delta = delta(&model.graph, module, adapter, first, factor)
                .map_err(|message| self.in_file(&message))?;
            details.push(format!(
                "{module} -> {}, rank {}, times {factor}",
                first.name(&model.graph),
                adapter.rank()
            ));
            for at in found {
                match sums.get_mut(&at) {
                    Some(sum) => sum.iter_mut().zip(&delta).for_each(|(sum, delta)| *sum += delta),
                    None => {
                        sums.insert(at, delta.clone());
                    }
                }
            }
        }
        let mut writes = Writes::default();
        for (at, sum) in sums {
            let Some(weight) = weights.all.get(at) else {
                continue;
            };
            let mut values = weight.tensor.to_f64().map_err(resource)?;
            values
                .iter_mut()
                .zip(sum)
                .for_each(|(value, delta)| *value += delta);
            let merged =
                Tensor::from_f64(weight.tensor.dtype(), weight.tensor.dims(), &values).map_err(resource)?;
            writes.slot(weight.constant, weight.node, weight.slot, merged);
            report.changed = true;
        }
        writes
            .apply(&mut model.graph)
            .map_err(|source| PassError::Edit { pass: NAME, source })?;
        report.changes.push(Change {
            rule: "adapter merged".to_owned(),
            count: details.len() as u64,
            details,
        });
        Ok(())
    }

    /// What the product of a module's matrices counts.
    fn factor(&self, module: &str, adapter: &Adapter, config: &Config) -> Result<f64, PassError> {
        let own = peft::by_pattern(&self.alpha_pattern, module)
            .map_err(|error| option(NAME, format!("alpha-pattern: {error}")))?;
        let configured = config
            .alpha(module)
            .map_err(|error| option(NAME, format!("{}: alpha_pattern: {error}", peft::FILE)))?;
        let alpha = adapter.alpha.or(own).or(self.alpha).or(configured);
        let Some(alpha) = alpha else {
            return Err(option(
                NAME,
                format!(
                    "alpha: the file has none for {module}, and without it the size of the adapter is not known"
                ),
            ));
        };
        let rank = adapter.rank() as f64;
        Ok(self.scale * alpha / if config.stabilised() { rank.sqrt() } else { rank })
    }

    /// Puts weights that were trained whole into the model.
    fn put_whole(
        &self,
        model: &mut Model,
        whole: &[(String, Tensor)],
        rename: Vec<(Regex, String)>,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let Some((first, _)) = whole.first() else {
            return Ok(());
        };
        if self.scale != 1.0 {
            return Err(option(
                NAME,
                format!("scale: {first} was trained whole and has no scale; only 1 is possible"),
            ));
        }
        let options = Options {
            matching: Matching::Auto,
            rename,
            rules: Rules::exact(context.seed),
            keep: context.keep.clone(),
            norms: BTreeMap::new(),
            epsilon: crate::transfer::parameters::EPSILON,
        };
        prepare::name(model);
        let account = from_tensors(model, whole, &options).map_err(|error| match error {
            TransferError::Edit(source) => PassError::Edit { pass: NAME, source },
            other => self.in_file(&other),
        })?;
        for weight in account
            .source
            .iter()
            .filter(|weight| !weight.used && !weight.spare)
        {
            let why = weight.why.as_deref().unwrap_or("");
            if !self.partial {
                return Err(self.in_file(&format!(
                    "{} was trained whole and finds no place: {why}; `rename` rewrites names, `partial` leaves it out",
                    weight.name
                )));
            }
            report.notes.push(format!("{}: {why}", weight.name));
        }
        let used = account.source.iter().filter(|weight| weight.used);
        let details: Vec<String> = used.map(|weight| weight.name.clone()).collect();
        report.changed |= !details.is_empty();
        report.changes.push(Change {
            rule: "whole weight put in".to_owned(),
            count: details.len() as u64,
            details,
        });
        analysis::infer(model);
        Ok(())
    }

    fn rules(&self) -> Result<Vec<(Regex, String)>, PassError> {
        self.rename
            .iter()
            .map(|(pattern, text)| {
                let pattern =
                    schema::pattern(pattern).map_err(|error| option(NAME, format!("rename: {error}")))?;
                Ok((pattern, text.clone()))
            })
            .collect()
    }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}

fn renamed(rules: &[(Regex, String)], module: &str) -> String {
    rules.iter().fold(module.to_owned(), |name, (pattern, text)| {
        pattern.replace_all(&name, text.as_str()).into_owned()
    })
}

/// Why an adapter does not fit a weight.
#[derive(Debug, thiserror::Error)]
enum DeltaError {
    #[error("{module}: {weight} is multiplied by zero")]
    Zero { module: String, weight: String },
    #[error(transparent)]
    Adapter(#[from] LoraError),
    #[error("{module}: the adapter is for {expected:?}, and {weight} is {dims:?}")]
    Shape {
        module: String,
        expected: Vec<u64>,
        weight: String,
        dims: Vec<u64>,
    },
}

/// What is added to a weight, in its own order.
fn delta(
    graph: &Graph,
    module: &str,
    adapter: &Adapter,
    weight: &Weight,
    factor: f64,
) -> Result<Vec<f64>, DeltaError> {
    if weight.factor == 0.0 {
        return Err(DeltaError::Zero {
            module: module.to_owned(),
            weight: weight.name(graph),
        });
    }
    let product = adapter.product(module)? * (factor / weight.factor);
    let dims = weight.tensor.dims();
    let mut natural = adapter.dims();
    // A linear adapter of a convolution with a kernel of ones, and one with such a kernel of a matrix.
    let points = |dims: &[u64]| dims.iter().skip(2).all(|size| *size == 1);
    if weight.form == Form::OutputsFirst && natural.len() == 2 && points(dims) {
        natural.resize(dims.len().max(2), 1);
    } else if dims.len() == 2 && points(&natural) {
        natural.truncate(2);
    }
    let turned = weight.form != Form::OutputsFirst;
    let expected: Vec<u64> = match turned {
        true => natural.iter().rev().copied().collect(),
        false => natural.clone(),
    };
    if dims != expected || turned && natural.len() != 2 {
        return Err(DeltaError::Shape {
            module: module.to_owned(),
            expected,
            weight: weight.name(graph),
            dims: dims.to_vec(),
        });
    }
    Ok(match turned {
        true => product.t().iter().copied().collect(),
        false => product.iter().copied().collect(),
    })
}
