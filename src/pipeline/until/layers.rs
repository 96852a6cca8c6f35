//! Candidates of `quantize`: layers that are put back one after the other, the one that gains most for what it costs first.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::climb::{Choice, Found, Ladder, Made};
use super::ground::{Ground, Told};
use super::rank::{Loss, Ranking};
use super::report::{KeptLayer, Searched};
use crate::passes::{
    LayerTypes, PassError, Precision, QuantizableLayer, Quantize, QuantizeStart, ResourceError, Runs,
};
use crate::quantize::Kind;

/// Multiply-accumulates that take about as long as turning one element into a code or back.
const PER_ELEMENT: u64 = 16;

/// Layers that a candidate is called by.
const NAMED: usize = 3;

/// The model before pairs, and its layers in the order in which they are put back.
pub(super) struct LayerLadder<'a> {
    ground: &'a Ground<'a>,
    options: Quantize,
    start: QuantizeStart,
    layers: Vec<Ranked>,
    /// Multiply-accumulates by node.
    macs: BTreeMap<String, u64>,
    /// What a layer that is put back has instead of narrow activations; `None` where it stays float.
    wider: Option<Kind>,
    ranked_by: String,
}

/// A layer with what it loses where it alone is quantized.
struct Ranked {
    layer: QuantizableLayer,
    loss: Loss,
}

impl<'a> LayerLadder<'a> {
    /// Ranks the layers that the options quantize; `ranking` opens samples for so many of them.
    pub(super) fn new<'m>(
        ground: &'a Ground<'a>,
        ranking: impl FnOnce(usize) -> Result<Ranking<'m>, ResourceError>,
    ) -> Result<Self, PassError> {
        let options: Quantize = ground.read()?;
        let start = options.start(ground.input, ground.context)?;
        let layers = options.quantized_layers(&start, ground.context)?;
        if layers.is_empty() {
            return Err(
                ground.wrong("until: nothing becomes integer, so there is nothing to put back".to_owned())
            );
        }
        let ranking = ranking(layers.len()).map_err(|error| PassError::resource(ground.pass, error))?;
        let mut ladder = Self {
            ground,
            wider: options.wider_activations(),
            macs: start.macs(),
            options,
            start,
            layers: Vec::new(),
            ranked_by: ranking.words(),
        };
        ladder.rank(layers, &ranking)?;
        Ok(ladder)
    }

    /// Quantizes each layer alone.
    fn rank(&mut self, layers: Vec<QuantizableLayer>, ranking: &Ranking<'_>) -> Result<(), PassError> {
        let total = layers.len() as u64;
        let mut done = 0;
        let failed = |error: ResourceError| PassError::resource(self.ground.pass, error);
        let mut alone = |at: usize| -> Result<Loss, PassError> {
            let own = layers.get(at).map(|layer| &layer.pattern);
            let patterns = layers.iter().map(|layer| &layer.pattern);
            let others: Vec<&str> = patterns
                .filter(|other| Some(*other) != own)
                .map(String::as_str)
                .collect();
            if others.is_empty() {
                return Ok(Loss::default());
            }
            let others = put_back(format!("(?:{})", others.join("|")), None);
            let (model, _) = self.with(vec![others]).finish(&self.start, self.ground.context)?;
            let loss = ranking.loss(&model).map_err(failed)?;
            done += 1;
            (self.ground.context.progress)("sensitivities", done, Some(total));
            Ok(loss)
        };
        let ledger = self
            .ground
            .context
            .resources
            .and_then(|resources| resources.ledger());
        let ranked: Vec<Loss> = match ledger {
            Some(ledger) => {
                let names: Vec<String> = layers.iter().map(|layer| layer.pattern.clone()).collect();
                let work = ranking.described(self.ground.work("ranking"));
                ledger.values(&work, &names, |error| failed(error.into()), &mut alone)?
            }
            None => (0..layers.len()).map(&mut alone).collect::<Result<_, _>>()?,
        };
        let mut ranked: Vec<Ranked> = layers
            .into_iter()
            .zip(ranked)
            .map(|(layer, loss)| Ranked { layer, loss })
            .collect();
        let worth = |one: &Ranked| one.loss.total() / cost(&one.layer) as f64;
        ranked.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
        self.layers = ranked;
        Ok(())
    }

    /// The options with these entries before their own.
    fn with(&self, mut layers: Vec<LayerTypes>) -> Quantize {
        layers.extend(self.options.layers.iter().cloned());
        Quantize {
            layers,
            ..self.options.clone()
        }
    }

    fn of(&self, choice: &[usize]) -> Quantize {
        let kept = choice.iter().filter_map(|at| self.layers.get(*at));
        self.with(
            kept.map(|one| put_back(one.layer.pattern.clone(), self.wider))
                .collect(),
        )
    }

    fn kept_as(&self) -> &'static str {
        self.wider.map_or("float", Kind::name)
    }
}

/// About how long a layer takes longer once it is put back, in multiply-accumulates.
fn cost(layer: &QuantizableLayer) -> u64 {
    (layer.macs + PER_ELEMENT * layer.elements).max(1)
}

/// The entry that puts layers back: to activations of this type, or to float.
fn put_back(pattern: String, wider: Option<Kind>) -> LayerTypes {
    LayerTypes {
        pattern,
        precision: wider.is_none().then_some(Precision::Float),
        activations: wider,
        per_channel: None,
        block: None,
    }
}

impl Ladder for LayerLadder<'_> {
    /// One layer at least stays quantized.
    fn rungs(&self) -> usize {
        self.layers.len()
    }

    fn choice(&self, rung: usize) -> Choice {
        (0..rung).collect()
    }

    fn words(&self, choice: &[usize]) -> String {
        let (count, of) = (choice.len(), self.layers.len());
        let nodes = || {
            choice
                .iter()
                .filter_map(|at| Some(self.layers.get(*at)?.layer.node.as_str()))
        };
        let kept = self.kept_as();
        match count {
            0 => format!("all {of} layers quantized"),
            1..=NAMED => {
                let names: Vec<&str> = nodes().collect();
                format!("{count} of {of} layers {kept}: {}", names.join(", "))
            }
            _ => format!("{count} of {of} layers {kept}"),
        }
    }

    fn make(&self, choice: &[usize]) -> Result<Made, PassError> {
        let (model, report) = self.of(choice).finish(&self.start, self.ground.context)?;
        Ok(Made { model, report })
    }

    fn likely_low(&self) -> bool {
        true
    }

    fn spare(&self, choice: &[usize]) -> Vec<usize> {
        let cost = |at: &usize| self.layers.get(*at).map_or(0, |one| cost(&one.layer));
        let mut order = choice.to_vec();
        order.sort_by_key(|at| std::cmp::Reverse(cost(at)));
        order
    }
}

impl Told for LayerLadder<'_> {
    fn step(&self, choice: &[usize]) -> (String, Map<String, Value>) {
        let mut options = self.ground.options.clone();
        let layers = serde_json::to_value(self.of(choice).layers).unwrap_or_default();
        if layers.as_array().is_some_and(|layers| !layers.is_empty()) {
            options.insert("layers".to_owned(), layers);
        }
        (self.ground.pass.to_owned(), options)
    }

    fn tell(&self, found: &Found, searched: &mut Searched) {
        let total: u64 = self.macs.values().sum();
        let share = |macs: u64| macs as f64 / total.max(1) as f64;
        let kept = found.choice.iter().filter_map(|at| self.layers.get(*at));
        searched.layers = kept
            .map(|one| KeptLayer {
                node: one.layer.node.clone(),
                operator: one.layer.operator.clone(),
                kept_as: self.kept_as().to_owned(),
                why: why(&one.loss, &self.ranked_by),
                macs: one.layer.macs,
                share: share(one.layer.macs),
            })
            .collect();
        let integer = found
            .made
            .report
            .nodes
            .iter()
            .filter(|node| node.runs == Runs::Integer);
        let integer: u64 = integer.filter_map(|node| self.macs.get(&node.node)).sum();
        searched.integer_macs = (total > 0).then(|| share(integer));
    }
}

/// What a layer loses alone.
fn why(loss: &Loss, ranked_by: &str) -> String {
    let decibels = -10.0 * loss.noise.max(1e-30).log10();
    match loss.figure {
        Some(figure) => {
            format!("quantized alone it costs {figure:.4} ({ranked_by}), {decibels:.1} dB at the outputs")
        }
        None => format!("quantized alone it leaves {decibels:.1} dB at the outputs"),
    }
}
