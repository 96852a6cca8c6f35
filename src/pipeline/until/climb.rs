//! The search itself: from the cheapest candidate up, to the first that keeps the bounds.

use super::super::gates::GateReport;
use super::report::{Candidate, JudgedOn};
use super::trials::{Sharing, Trial, Trials, middles, rising};
use crate::ir::Model;
use crate::passes::{PassError, PassReport};

/// Candidates that are judged at most to do without single layers again.
const MOST_SPARED: usize = 10;

/// A candidate: for ladders of layers those that are put back, for others the rung.
pub(super) type Choice = Vec<usize>;

/// What a pass makes of the input of its step.
pub(super) struct Made {
    pub(super) model: Model,
    pub(super) report: PassReport,
}

/// Candidates from the cheapest, which loses most, to the dearest.
pub(super) trait Ladder {
    /// How many there are, at least one.
    fn rungs(&self) -> usize;
    /// The candidate of a rung.
    fn choice(&self, rung: usize) -> Choice;
    /// A candidate in words.
    fn words(&self, choice: &[usize]) -> String;
    /// Makes a candidate.
    fn make(&self, choice: &[usize]) -> Result<Made, PassError>;
    /// Whether the result is likelier among the first rungs than anywhere.
    fn likely_low(&self) -> bool;
    /// The layers of a candidate without which there are candidates, too, the dearest first; none where a candidate has no parts.
    fn spare(&self, _choice: &[usize]) -> Vec<usize> {
        Vec::new()
    }
}

/// What was found.
pub(super) struct Found {
    pub(super) choice: Choice,
    pub(super) made: Made,
    pub(super) held: bool,
    /// Of a result that does not hold: which bounds it breaks.
    pub(super) broken: Vec<GateReport>,
}

/// What judges candidates.
pub(super) trait Bench {
    /// Whether there are bounds of this kind.
    fn bounds(&self, which: Which) -> bool;
    /// Judges a candidate by these bounds, on samples that the search sees or on others.
    fn judge(&self, made: &Made, which: Which, held_out: bool) -> Result<Vec<GateReport>, PassError>;
    /// What a candidate is judged on.
    fn on(&self, held_out: bool) -> JudgedOn;
    /// Whether a bound of this name is a budget.
    fn is_budget(&self, gate: &str) -> bool;
}

/// Which bounds are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those on how well a candidate does.
    Quality,
    /// Those on what it costs.
    Budget,
    /// All of them.
    All,
}

/// A search.
pub(super) struct Climb<'a> {
    ladder: &'a dyn Ladder,
    bench: &'a dyn Bench,
    pub(super) candidates: Vec<Candidate>,
    /// The candidate that was made last.
    made: Option<(Choice, Made)>,
    /// Each judgement, beside its candidate: whether on samples that the search does not see, by how much bounds were missed.
    missed: Vec<(bool, f64, Choice)>,
    trials: Trials<'a>,
}

impl<'a> Climb<'a> {
    pub(super) fn new(ladder: &'a dyn Ladder, bench: &'a dyn Bench) -> Self {
        Self {
            ladder,
            bench,
            candidates: Vec::new(),
            made: None,
            missed: Vec::new(),
            trials: Trials::default(),
        }
    }

    /// The same search, whose candidates several processes judge.
    pub(super) fn sharing(self, sharing: Sharing<'a>) -> Self {
        Self {
            trials: Trials::shared(sharing),
            ..self
        }
    }

    /// Has rungs judged that the search may ask for, the likeliest first, where several processes do that.
    fn ahead(
        &mut self,
        which: Which,
        held_out: bool,
        rungs: impl Iterator<Item = usize>,
    ) -> Result<(), PassError> {
        let (ladder, bench) = (self.ladder, self.bench);
        let trial = |rung| Trial::new(ladder.choice(rung), which, held_out);
        self.trials.judge((ladder, bench), rungs.map(trial))
    }

    /// The same for the rungs that halving may ask for between two.
    fn ahead_of_halving(&mut self, which: Which, (low, high): (usize, usize)) -> Result<(), PassError> {
        let up = which == Which::Budget;
        let middle = usize::midpoint(low, high + usize::from(up));
        let next = Trial::new(self.ladder.choice(middle), which, false);
        match self.trials.known(&next) {
            Some(_) => Ok(()),
            None => self.ahead(which, false, middles(low, high, up).into_iter()),
        }
    }

    /// The cheapest candidate that keeps bounds on quality; where all bounds are budgets, the dearest that keeps them.
    pub(super) fn run(&mut self) -> Result<Found, PassError> {
        let found = if self.bench.bounds(Which::Quality) {
            self.cheapest()?
        } else {
            self.dearest()?
        };
        let held = found.is_some();
        let choice = found.or_else(|| self.nearest());
        let choice = choice.unwrap_or_else(|| self.ladder.choice(0));
        let made = self.make(&choice)?;
        let at = self.missed.iter().rposition(|(.., judged)| *judged == choice);
        let broken = match at.and_then(|at| self.candidates.get_mut(at)) {
            Some(last) => {
                last.chosen = true;
                last.gates.iter().filter(|gate| !gate.passed).cloned().collect()
            }
            None => Vec::new(),
        };
        Ok(Found {
            choice,
            made,
            held,
            broken,
        })
    }

    /// The candidate that misses the bounds by least, on samples that the search does not see where any was judged on those.
    fn nearest(&self) -> Option<Choice> {
        let confirmed = self.missed.iter().any(|(held_out, ..)| *held_out);
        let judged = self.missed.iter().filter(|(held_out, ..)| *held_out == confirmed);
        let least = judged.min_by(|a, b| a.1.total_cmp(&b.1));
        least.map(|(.., choice)| choice.clone())
    }

    /// The candidate, made anew unless it was the last one.
    fn make(&mut self, choice: &[usize]) -> Result<Made, PassError> {
        match self.made.take() {
            Some((known, made)) if known == choice => Ok(made),
            _ => self.ladder.make(choice),
        }
    }

    /// Judges a candidate, on samples to choose by or on those to confirm the choice on; once each. Those that choose are always asked for
    /// the same bounds.
    fn judge(&mut self, choice: &[usize], which: Which, held_out: bool) -> Result<bool, PassError> {
        let known = self
            .missed
            .iter()
            .position(|(on, _, judged)| *on == held_out && judged == choice);
        if let Some(known) = known.and_then(|at| self.candidates.get(at)) {
            return Ok(known.holds);
        }
        let gates = self.gates(choice, which, held_out)?;
        let holds = gates.iter().all(|gate| gate.passed);
        let miss: f64 = gates.iter().map(missed).sum();
        self.missed.push((held_out, miss, choice.to_vec()));
        self.candidates.push(Candidate {
            what: self.ladder.words(choice),
            on: self.bench.on(held_out),
            holds,
            chosen: false,
            gates,
        });
        Ok(holds)
    }

    /// What the bounds say of a candidate.
    fn gates(
        &mut self,
        choice: &[usize],
        which: Which,
        held_out: bool,
    ) -> Result<Vec<GateReport>, PassError> {
        let trial = Trial::new(choice.to_vec(), which, held_out);
        let (ladder, bench) = (self.ladder, self.bench);
        self.trials
            .judge((ladder, bench), std::iter::once(trial.clone()))?;
        if let Some(gates) = self.trials.known(&trial) {
            return Ok(gates.to_vec());
        }
        let made = self.make(choice)?;
        let gates = self.bench.judge(&made, which, held_out)?;
        self.made = Some((choice.to_vec(), made));
        Ok(gates)
    }

    fn cheapest(&mut self) -> Result<Option<Choice>, PassError> {
        let top = self.ladder.rungs().saturating_sub(1);
        let Some(rung) = self.lowest(top)? else {
            return Ok(None);
        };
        let whole = self.ladder.choice(rung);
        let choice = self.spared(&whole)?;
        if self.judge(&choice, Which::All, true)? {
            return Ok(Some(choice));
        }
        // Samples that confirm do not choose: from here on candidates go up in steps that grow, and the first that holds is taken.
        let mut step = 1;
        let mut next = if choice == whole { rung + 1 } else { rung };
        if self.only_quality_is_missed() {
            self.ahead(Which::All, true, rising(next, top))?;
        }
        while next <= top && self.only_quality_is_missed() {
            let choice = self.ladder.choice(next);
            if self.judge(&choice, Which::All, true)? {
                return Ok(Some(choice));
            }
            if next == top {
                break;
            }
            next = (next + step).min(top);
            step *= 2;
        }
        Ok(None)
    }

    /// Whether the last candidate keeps every budget: only then may a dearer one keep all bounds.
    fn only_quality_is_missed(&self) -> bool {
        self.candidates.last().is_none_or(|last| {
            let mut broken = last.gates.iter().filter(|gate| !gate.passed);
            broken.all(|gate| !self.bench.is_budget(&gate.name))
        })
    }

    /// The lowest rung that keeps the bounds on quality, as far as halving finds it.
    fn lowest(&mut self, top: usize) -> Result<Option<usize>, PassError> {
        let holds = |climb: &mut Self, rung: usize| {
            let choice = climb.ladder.choice(rung);
            climb.judge(&choice, Which::Quality, false)
        };
        // All rungs below `low` are taken to break the bounds.
        let (mut low, mut high) = (0, top);
        if self.ladder.likely_low() {
            self.ahead(Which::Quality, false, rising(0, top))?;
            let (mut rung, mut step) = (0, 1);
            while !holds(self, rung)? {
                if rung == top {
                    return Ok(None);
                }
                low = rung + 1;
                rung = (rung + step).min(top);
                step *= 2;
            }
            high = rung;
        } else {
            let first = std::iter::once(top).chain(middles(0, top, false));
            self.ahead(Which::Quality, false, first)?;
            if !holds(self, top)? {
                return Ok(None);
            }
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            self.ahead_of_halving(Which::Quality, (low, high))?;
            if holds(self, middle)? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(Some(high))
    }

    /// The same candidate without layers that the bounds do not need, the dearest tried first, in halves. All of them together are
    /// needed: the candidate without any is a lower rung.
    fn spared(&mut self, choice: &[usize]) -> Result<Choice, PassError> {
        let mut kept = choice.to_vec();
        let order = self.ladder.spare(choice);
        let mut groups = Vec::new();
        if order.len() > 1 {
            halves(&order, &mut groups);
        }
        let mut judged = 0;
        while let Some(group) = groups.pop().filter(|_| judged < MOST_SPARED) {
            let fewer: Choice = kept.iter().copied().filter(|one| !group.contains(one)).collect();
            judged += 1;
            if self.judge(&fewer, Which::Quality, false)? {
                kept = fewer;
            } else if group.len() > 1 {
                halves(&group, &mut groups);
            }
        }
        Ok(kept)
    }

    /// The highest rung that keeps the budgets.
    fn dearest(&mut self) -> Result<Option<Choice>, PassError> {
        let top = self.ladder.rungs().saturating_sub(1);
        let holds = |climb: &mut Self, rung: usize| {
            let choice = climb.ladder.choice(rung);
            climb.judge(&choice, Which::Budget, false)
        };
        let first = std::iter::once(0).chain(middles(0, top, true));
        self.ahead(Which::Budget, false, first)?;
        if !holds(self, 0)? {
            return Ok(None);
        }
        let (mut low, mut high) = (0, top);
        while low < high {
            let middle = usize::midpoint(low, high + 1);
            self.ahead_of_halving(Which::Budget, (low, high))?;
            if holds(self, middle)? {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(Some(self.ladder.choice(low)))
    }
}

/// Puts both halves of a group on the stack, the first one on top.
fn halves(group: &[usize], groups: &mut Vec<Vec<usize>>) {
    let (first, second) = group.split_at(group.len().div_ceil(2));
    groups.push(second.to_vec());
    groups.push(first.to_vec());
}

/// By how much a bound is missed, in units of the bound.
fn missed(gate: &GateReport) -> f64 {
    if gate.passed {
        return 0.0;
    }
    match (gate.value, gate.bound) {
        (Some(value), Some(bound)) => (value - bound).abs() / bound.abs().max(1e-9),
        _ => f64::MAX / 1e6,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Eight layers, each of which a candidate may have put back; what is lost is that of the others.
    struct Layers {
        losses: [f64; 8],
        likely_low: bool,
    }

    fn nothing() -> Model {
        let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float x) => (float y) { y = Relu(x) }";
        let message = crate::format::text::parse_model(text).unwrap();
        crate::format::lift(message, &Default::default()).unwrap()
    }

    impl Ladder for Layers {
        fn rungs(&self) -> usize {
            self.losses.len()
        }

        fn choice(&self, rung: usize) -> Choice {
            (0..rung).collect()
        }

        fn words(&self, choice: &[usize]) -> String {
            format!("{choice:?}")
        }

        fn make(&self, choice: &[usize]) -> Result<Made, PassError> {
            let report = PassReport {
                notes: choice.iter().map(ToString::to_string).collect(),
                ..PassReport::default()
            };
            Ok(Made {
                model: nothing(),
                report,
            })
        }

        fn likely_low(&self) -> bool {
            self.likely_low
        }

        fn spare(&self, choice: &[usize]) -> Vec<usize> {
            choice.iter().rev().copied().collect()
        }
    }

    /// Judges by the losses of the layers that are not put back, and by the number of those that are.
    struct Scales<'a> {
        losses: &'a [f64; 8],
        most_lost: Option<f64>,
        most_layers: Option<usize>,
        /// What samples that the search does not see lose more.
        beyond: f64,
        asked: RefCell<usize>,
    }

    impl Bench for Scales<'_> {
        fn bounds(&self, which: Which) -> bool {
            match which {
                Which::Quality => self.most_lost.is_some(),
                Which::Budget => self.most_layers.is_some(),
                Which::All => true,
            }
        }

        fn judge(&self, made: &Made, which: Which, held_out: bool) -> Result<Vec<GateReport>, PassError> {
            *self.asked.borrow_mut() += 1;
            let kept: Vec<usize> = made
                .report
                .notes
                .iter()
                .map(|note| note.parse().unwrap())
                .collect();
            let lost: f64 = (0..8)
                .filter(|at| !kept.contains(at))
                .map(|at| self.losses[at])
                .sum();
            let lost = lost + if held_out { self.beyond } else { 0.0 };
            let gate = |name: &str, value: f64, bound: f64| {
                GateReport::plain(name, value <= bound, Some(value), Some(bound), String::new())
            };
            let quality = self.most_lost.filter(|_| which != Which::Budget);
            let budget = self.most_layers.filter(|_| which != Which::Quality);
            let quality = quality.map(|bound| gate("map", lost, bound));
            let budget = budget.map(|bound| gate("size", kept.len() as f64, bound as f64));
            Ok(quality.into_iter().chain(budget).collect())
        }

        fn on(&self, held_out: bool) -> JudgedOn {
            if held_out {
                JudgedOn::HeldOut
            } else {
                JudgedOn::Search
            }
        }

        fn is_budget(&self, gate: &str) -> bool {
            gate == "size"
        }
    }

    const LOSSES: [f64; 8] = [0.4, 0.3, 0.0, 0.0, 0.2, 0.05, 0.03, 0.02];

    fn found(
        likely_low: bool,
        most_lost: Option<f64>,
        most_layers: Option<usize>,
        beyond: f64,
    ) -> (Choice, bool, usize) {
        let layers = Layers {
            losses: LOSSES,
            likely_low,
        };
        let scales = Scales {
            losses: &LOSSES,
            most_lost,
            most_layers,
            beyond,
            asked: RefCell::new(0),
        };
        let mut climb = Climb::new(&layers, &scales);
        let found = climb.run().unwrap();
        assert_eq!(climb.candidates.iter().filter(|one| one.chosen).count(), 1);
        assert_eq!(found.held, found.broken.is_empty());
        let asked = *scales.asked.borrow();
        (found.choice, found.held, asked)
    }

    #[test]
    fn the_cheapest_candidate_that_holds_is_found_and_layers_that_it_does_not_need_are_left_out() {
        for likely_low in [true, false] {
            let (choice, held, asked) = found(likely_low, Some(0.11), None, 0.0);
            assert_eq!((choice, held), (vec![0, 1, 4], true));
            assert!(asked <= 16, "{asked}");
            assert_eq!(found(likely_low, Some(2.0), None, 0.0).0, Vec::<usize>::new());
        }
    }

    #[test]
    fn what_does_not_hold_on_other_samples_goes_up_until_it_does() {
        let (choice, held, _) = found(true, Some(0.11), None, 0.03);
        assert_eq!((choice, held), (vec![0, 1, 2, 3, 4, 5], true));
    }

    #[test]
    fn where_no_candidate_holds_the_nearest_one_is_answered() {
        let (choice, held, _) = found(true, Some(0.01), None, 0.0);
        assert_eq!((choice, held), ((0..7).collect(), false));
        // A budget that the cheapest candidate of enough quality breaks ends the search.
        let (_, held, _) = found(true, Some(0.11), Some(2), 0.0);
        assert!(!held);
    }

    #[test]
    fn a_budget_alone_is_used_up() {
        assert_eq!(found(true, None, Some(5), 0.0).0, vec![0, 1, 2, 3, 4]);
        assert_eq!(found(false, None, Some(100), 0.0).0, (0..7).collect::<Vec<_>>());
    }
}
