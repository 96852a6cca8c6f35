//! How work is done: what the command line has as flags.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::data::Data;
use super::error::Error;
use super::model::Model;
use super::save::Destination;
use crate::data::PreprocessSpec;
use crate::engine::CancelToken;
use crate::ir::DType;
use crate::parts::Ledger;
use crate::passes::Size;
use crate::pipeline::{Gate, GateError, Reuse};
use crate::verify::NodeOptions;

/// What runs models.
///
/// # Examples
///
/// ```
/// let options = secateur::Options::new().engine(secateur::Runtime::Tract);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// tract, which is built in.
    #[default]
    Tract,
    /// ONNX Runtime: the library at `ORT_DYLIB_PATH`, or that of an installed Python wheel.
    OnnxRuntime,
}

impl Runtime {
    /// How reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tract => "tract",
            Self::OnnxRuntime => "ort",
        }
    }
}

type Report = Arc<dyn Fn(&str, u64, Option<u64>) + Send + Sync>;
type Note = Arc<dyn Fn(&str) + Send + Sync>;

/// How models are rewritten, compared and measured. Each method is the flag of the same name on the command line; what a function has
/// no use for, it does not look at. Options may be used any number of times.
///
/// # Examples
///
/// ```
/// use secateur::{Data, Options};
/// let options = Options::new()
///     .data("calibration", Data::npz("fixtures/data/digits_calib.npz")?.samples(64))
///     .jobs(2)
///     .seed(7)
///     .progress(|what, done, total| eprintln!("{what}: {done} of {total:?}"));
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) engine: Runtime,
    /// Data by role; no role is what the steps need, else evaluation.
    pub(crate) data: Vec<(Option<String>, Data)>,
    pub(crate) preprocess: Option<PreprocessSpec>,
    pub(crate) jobs: Option<usize>,
    pub(crate) seed: u64,
    pub(crate) progress: Option<Report>,
    pub(crate) note: Option<Note>,
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) bind: Vec<(String, Size)>,
    pub(crate) constant_inputs: bool,
    pub(crate) keep: Vec<String>,
    pub(crate) fuel: Option<u64>,
    pub(crate) only: Vec<String>,
    pub(crate) rules: Vec<PathBuf>,
    pub(crate) max_growth: f64,
    pub(crate) strict: bool,
    pub(crate) compare: bool,
    pub(crate) dry_run: bool,
    pub(crate) allow_unchanged: bool,
    pub(crate) provenance: bool,
    pub(crate) macs: bool,
    pub(crate) output: Option<Destination>,
    pub(crate) force: bool,
    pub(crate) in_place: bool,
    pub(crate) reports: Vec<PathBuf>,
    pub(crate) command: Option<String>,
    pub(crate) comparison: Comparison,
    pub(crate) evaluation: Measuring,
    /// Where work is shared with other processes.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// What runs under these options share.
    pub(crate) reuse: Option<Reuse>,
}

/// How outputs are compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) sizes: Vec<(String, i64)>,
    pub(crate) tolerance: Vec<(DType, f64)>,
    pub(crate) rounds: u64,
    pub(crate) unoptimised: bool,
    pub(crate) time: Option<Duration>,
    pub(crate) map: Vec<(String, String)>,
    pub(crate) localize: bool,
    pub(crate) per_node: Option<NodeOptions>,
}

/// How a model is measured.
#[derive(Clone, Debug)]
pub(crate) struct Measuring {
    pub(crate) against: Option<Model>,
    pub(crate) output: Option<String>,
    pub(crate) threshold: f64,
    pub(crate) latency_runs: usize,
    pub(crate) gates: Vec<Gate>,
    pub(crate) state: Option<PathBuf>,
    /// How many of the worst images are drawn, and the folder that they are written to.
    pub(crate) show: Option<(usize, PathBuf)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Runtime::Tract,
            data: Vec::new(),
            preprocess: None,
            jobs: None,
            seed: 0,
            progress: None,
            note: None,
            cancel: None,
            bind: Vec::new(),
            constant_inputs: false,
            keep: Vec::new(),
            fuel: None,
            only: Vec::new(),
            rules: Vec::new(),
            max_growth: 0.0,
            strict: false,
            compare: true,
            dry_run: false,
            allow_unchanged: false,
            provenance: true,
            macs: true,
            output: None,
            force: false,
            in_place: false,
            reports: Vec::new(),
            command: None,
            comparison: Comparison {
                rounds: 1,
                ..Comparison::default()
            },
            evaluation: Measuring {
                against: None,
                output: None,
                threshold: 0.5,
                latency_runs: 20,
                gates: Vec::new(),
                state: None,
                show: None,
            },
            ledger: None,
            reuse: None,
        }
    }
}

/// Methods that set one field.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($argument:ident: $type:ty) [$example:literal] => $($field:ident).+ = $value:expr;)*) => {
        $($(#[$doc])*
        ///
        /// # Examples
        ///
        /// ```
        #[doc = concat!("let options = secateur::Options::new().", stringify!($name), "(", $example, ");")]
        /// ```
        #[must_use]
        pub fn $name(mut self, $argument: $type) -> Self {
            self.$($field).+ = $value;
            self
        })*
    };
}

impl Options {
    /// What the command line does without flags: tract, all cores, seed 0, the result compared and nothing written.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// What runs models.
        engine(runtime: Runtime) ["secateur::Runtime::Tract"] => engine = runtime;
        /// Threads, 1 to 4096; all cores if nothing is said. Results do not depend on it.
        jobs(threads: usize) ["2"] => jobs = Some(threads.clamp(1, 4096));
        /// The seed of everything random.
        seed(seed: u64) ["7"] => seed = seed;
        /// Makes constants of graph inputs that have a default, before the first step.
        constant_inputs(yes: bool) ["true"] => constant_inputs = yes;
        /// Applies at most this many rewrites.
        fuel(rewrites: u64) ["100"] => fuel = Some(rewrites);
        /// How much the file may grow, as a share of its size; 0 if nothing is said.
        max_growth(share: f64) ["0.1"] => max_growth = share;
        /// Whether warnings about other models that steps read are errors.
        strict(yes: bool) ["true"] => strict = yes;
        /// Whether a result is compared with the model that it was made of; yes if nothing is said.
        compare(yes: bool) ["false"] => compare = yes;
        /// Whether a pipeline only says what it would do: nothing is compared and nothing is written.
        dry_run(yes: bool) ["true"] => dry_run = yes;
        /// Whether a result is accepted in which a step changed nothing that was asked to.
        allow_unchanged(yes: bool) ["true"] => allow_unchanged = yes;
        /// Whether a changed model records where it comes from; yes if nothing is said, but never where that alone makes the file larger.
        provenance(yes: bool) ["false"] => provenance = yes;
        /// Whether a run counts multiply-accumulates, yes if nothing is said: that takes inferring the shapes of the model and of the
        /// result once more. A pipeline with gates counts them in any case.
        macs(yes: bool) ["false"] => macs = yes;
        /// Whether outputs and reports may replace files that exist. What is read is never replaced.
        force(yes: bool) ["true"] => force = yes;
        /// Rounds of synthetic inputs at each size, at least 1; a round has one sample of each kind.
        rounds(rounds: u64) ["3"] => comparison.rounds = rounds.max(1);
        /// Whether models are compared without the engine's own optimisation: slower, but rewrites that keep every bit give equal bits.
        unoptimised(yes: bool) ["true"] => comparison.unoptimised = yes;
        /// How long to compare: no further sample is begun after this time, and the first one at each set of sizes always runs.
        verify_time(time: Duration) ["std::time::Duration::from_secs(10)"] => comparison.time = Some(time);
        /// Whether [`verify`](crate::verify()) names the first node that differs.
        localize(yes: bool) ["true"] => comparison.localize = yes;
        /// Lets [`verify`](crate::verify()) judge each node of a quantized model alone, too.
        per_node(how: NodeOptions) ["Default::default()"] => comparison.per_node = Some(how);
        /// The model that [`evaluate`](crate::evaluate()) compares with, on the same samples.
        against(model: Model) ["secateur::Model::open(\"fixtures/digits_mlp.onnx\").unwrap()"] => evaluation.against = Some(model);
        /// A single score above this is class 1; 0.5 if nothing is said.
        threshold(score: f64) ["0.3"] => evaluation.threshold = score;
        /// Timed runs of [`evaluate`](crate::evaluate()); 0 leaves the time out, 20 if nothing is said.
        latency_runs(runs: usize) ["0"] => evaluation.latency_runs = runs;
    }

    /// Data for a role, `calibration`, `evaluation` or `training`, in the place of what a pipeline describes.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Data, Options};
    /// let data = Data::open("fixtures/data/digits_test.yaml")?;
    /// let options = Options::new().data("evaluation", data);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    #[must_use]
    pub fn data(mut self, role: impl Into<String>, data: Data) -> Self {
        self.data.push((Some(role.into()), data));
        self
    }

    /// Data for the role that the steps need, `calibration` or `training`, else for `evaluation`.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Data, Model, Options, Pipeline};
    /// let data = Data::npz("fixtures/data/digits_calib.npz")?.samples(32);
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let outcome = Pipeline::step("quantize", ())?.run(&model, &Options::new().sole_data(data))?;
    /// assert!(outcome.accepted());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    #[must_use]
    pub fn sole_data(mut self, data: Data) -> Self {
        self.data.push((None, data));
        self
    }

    /// Called with what goes on: its name, how much is done, and of how much where that is known; from any thread.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().progress(|what, done, _| eprintln!("{what} {done}"));
    /// ```
    #[must_use]
    pub fn progress(mut self, report: impl Fn(&str, u64, Option<u64>) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(report));
        self
    }

    /// Called with remarks that are no part of a result, such as which ONNX Runtime was loaded.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().note(|remark| eprintln!("{remark}"));
    /// ```
    #[must_use]
    pub fn note(mut self, note: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.note = Some(Arc::new(note));
        self
    }

    /// Ends the work once the token is set, before the next step or sample: the error has the code `cancelled`, and nothing is written.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{CancelToken, Model, Options, Pipeline};
    /// let token = CancelToken::new();
    /// token.cancel();
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let error = Pipeline::preset("simplify")?.run(&model, &Options::new().cancel(&token)).unwrap_err();
    /// assert_eq!(error.code(), "cancelled");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Fixes a dimension of the result, by symbol or as `input[axis]`, before the first step.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().bind("batch", 1);
    /// ```
    #[must_use]
    pub fn bind(mut self, dimension: impl Into<String>, size: u64) -> Self {
        self.bind.push((dimension.into(), Size::Fixed(size)));
        self
    }

    /// Makes a batch of 1 free under this name, as `input[0]`.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().free("image[0]", "batch");
    /// ```
    #[must_use]
    pub fn free(mut self, dimension: impl Into<String>, symbol: impl Into<String>) -> Self {
        self.bind.push((dimension.into(), Size::Symbol(symbol.into())));
        self
    }

    /// Neither removes nor changes nodes and values whose names match this regular expression.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().keep("^head/");
    /// ```
    #[must_use]
    pub fn keep(mut self, pattern: impl Into<String>) -> Self {
        self.keep.push(pattern.into());
        self
    }

    /// Applies only rewrites that are this safe (`exact`, `rounding`, `approximate`), or only this rule or part of a step.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().only("exact");
    /// ```
    #[must_use]
    pub fn only(mut self, safety_or_rule: impl Into<String>) -> Self {
        self.only.push(safety_or_rule.into());
        self
    }

    /// Loads the rewrite rules in this folder, too.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().rules("my-rules");
    /// ```
    #[must_use]
    pub fn rules(mut self, folder: impl AsRef<Path>) -> Self {
        self.rules.push(folder.as_ref().to_owned());
        self
    }

    /// Writes an accepted result, and what steps leave beside it, to this file. It may be nothing that is read; see
    /// [`Options::in_place`].
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().output("small.onnx");
    /// ```
    #[must_use]
    pub fn output(mut self, path: impl AsRef<Path>) -> Self {
        self.output = Some(Destination::File(path.as_ref().to_owned()));
        self.in_place = false;
        self
    }

    /// Writes an accepted result over the file that its model was read from.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().in_place();
    /// ```
    #[must_use]
    pub fn in_place(mut self) -> Self {
        (self.output, self.in_place) = (None, true);
        self
    }

    /// Writes a report of the call: a page with pictures (`.html`), JSON (`.json`), Markdown (`.md`) or JUnit XML (`.xml`), by its ending. Several
    /// may be asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().report("report.md");
    /// ```
    #[must_use]
    pub fn report(mut self, path: impl AsRef<Path>) -> Self {
        self.reports.push(path.as_ref().to_owned());
        self
    }

    /// The command that stands in a page of the report, to be run again.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().report("report.html").command("make small");
    /// # let _ = options;
    /// ```
    pub fn command(mut self, words: impl Into<String>) -> Self {
        self.command = Some(words.into());
        self
    }

    /// The size of a free dimension when models are compared, by symbol or as `input[axis]`.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().size("batch", 4);
    /// ```
    #[must_use]
    pub fn size(mut self, dimension: impl Into<String>, size: i64) -> Self {
        self.comparison.sizes.push((dimension.into(), size));
        self
    }

    /// The largest error of an element type (`float`, `float16`, `double`, ...) that is *within*, as a share of the largest magnitude of
    /// the reference.
    ///
    /// # Errors
    ///
    /// `usage` for what is no element type, or a share below 0.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().tolerance("float16", 1e-2)?;
    /// assert!(secateur::Options::new().tolerance("flaot", 1e-2).is_err());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn tolerance(mut self, element: impl AsRef<str>, share: f64) -> Result<Self, Error> {
        let name = element.as_ref();
        let dtype = DType::from_name(name)
            .ok_or_else(|| Error::usage(&format!("{name:?} is not an element type")))?;
        if share.is_nan() || share < 0.0 {
            return Err(Error::usage("a tolerance is at least 0"));
        }
        self.comparison.tolerance.push((dtype, share));
        Ok(self)
    }

    /// An input or output of the reference and what stands for it in the model, by name or position. What has the same name, and the
    /// only one of each, needs none.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().map("logits", "scores");
    /// ```
    #[must_use]
    pub fn map(mut self, reference: impl Into<String>, model: impl Into<String>) -> Self {
        self.comparison.map.push((reference.into(), model.into()));
        self
    }

    /// A condition on the figures of [`evaluate`](crate::evaluate()) or, beside its own gates, on the result of a pipeline, as `NAME.KEY=VALUE`: `accuracy.at-least=0.9`,
    /// `accuracy.drop=0.01`, `f1.drop=0.01`, `latency.at-most=0.6`, `size.at-most=0.3`.
    ///
    /// # Errors
    ///
    /// `usage` for what is no gate.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().gate("accuracy.at-least=0.9")?;
    /// assert!(secateur::Options::new().gate("accurcy.at-least=0.9").is_err());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn gate(mut self, gate: impl AsRef<str>) -> Result<Self, Error> {
        let gate = gate
            .as_ref()
            .parse()
            .map_err(|error: GateError| Error::usage(&error.to_string()))?;
        self.evaluation.gates.push(gate);
        Ok(self)
    }

    /// The output that holds the predictions; the first if nothing is said.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().output_name("logits");
    /// ```
    #[must_use]
    pub fn output_name(mut self, name: impl Into<String>) -> Self {
        self.evaluation.output = Some(name.into());
        self
    }

    /// Keeps the counts of an evaluation in this file, to go on after an interruption and to merge shards.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::Options::new().state("part-0.json");
    /// ```
    #[must_use]
    pub fn state(mut self, path: impl AsRef<Path>) -> Self {
        self.evaluation.state = Some(path.as_ref().to_owned());
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("engine", &self.engine)
            .field("jobs", &self.jobs)
            .field("seed", &self.seed)
            .field("data", &self.data)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
