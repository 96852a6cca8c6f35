//! secateur rewrites ONNX models before deployment and proves that the result still computes what it should.
//!
//! It simplifies, prunes, quantizes, binds shapes and moves weights between models, on the ONNX graph itself: no Python, no training
//! framework. What comes out is compared with what went in by running both models, and is *accepted* only where they agree as far as
//! the steps promise and every gate holds. The command line of the same name does the same; it is made of what is on this page.
//!
//! # Start here
//!
//! A model is opened, a [`Pipeline`] is run on it with [`Options`], and the [`Outcome`] says what became of it:
//!
//! ```
//! use std::path::Path;
//! use secateur::{Array, Data, Model, Options, Pipeline, verify};
//!
//! fn make_small(folder: &Path) -> Result<(), secateur::Error> {
//!     let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
//!     let pixels: Vec<f32> = (0..32 * 64).map(|at| (at % 17) as f32 / 16.0).collect();
//!     let calibration = Data::arrays([("x", Array::new([32, 1, 8, 8], pixels)?)])?;
//!     let options = Options::new().data("calibration", calibration);
//!     let outcome = Pipeline::step("simplify", ())?.then("quantize", ())?.run(&model, &options)?;
//!     let test = Data::npz("fixtures/data/digits_test.npz")?.samples(50);
//!     let compared = verify(&model, &outcome.model, &Options::new().data("evaluation", test))?;
//!     println!("{:?}, top-1 {:?}", outcome.verdict(), compared.report.outputs[0].top1_agreement);
//!     match outcome.save(folder.join("int8.onnx")) {
//!         Err(error) if error.code() == "output-exists" => eprintln!("{error}: it is there already"),
//!         saved => println!("written: {:?}", saved?.files),
//!     }
//!     Ok(())
//! }
//! # let folder = tempfile::tempdir().unwrap();
//! # make_small(folder.path()).unwrap();
//! # assert!(folder.path().join("int8.onnx").is_file());
//! ```
//!
//! A preset, or a pipeline in YAML, with gates that the result has to pass. A broken gate is an answer and no error:
//!
//! ```
//! use secateur::{Data, Model, Options, Pipeline};
//!
//! let pipeline = Pipeline::parse(
//!     "
//! steps:
//!   - simplify
//!   - quantize-weights: { type: int8 }
//! gates:
//!   - size: { at-most: 0.5 }
//!   - outputs: { cosine: 0.999 }
//! ",
//! )?;
//! let model = Model::open("fixtures/digits_mlp.onnx")?;
//! let test = Data::npz("fixtures/data/digits_test.npz")?.samples(50);
//! let outcome = pipeline.run(&model, &Options::new().data("evaluation", test))?;
//! for gate in &outcome.report.gates {
//!     println!("{}: {}", gate.name, gate.message);
//! }
//! assert!(outcome.accepted());
//! # Ok::<(), secateur::Error>(())
//! ```
//!
//! How well a model does, beside another one and on the same samples:
//!
//! ```
//! use secateur::{Data, Model, Options, evaluate};
//!
//! let float = Model::open("fixtures/digits_cnn.onnx")?;
//! let codes = Model::open("fixtures/digits_cnn_qdq_pc_s8s8.onnx")?;
//! let test = Data::npz("fixtures/data/digits_test.npz")?.labels("y").samples(100);
//! let found = evaluate(&codes, &Options::new().data("evaluation", test).against(float))?;
//! assert!(found.figures.accuracy.unwrap() > 0.9);
//! # Ok::<(), secateur::Error>(())
//! ```
//!
//! | what | where |
//! |---|---|
//! | models: from a file or bytes, to a file or bytes, what is in them | [`Model`] |
//! | samples: files, folders, arrays in memory, iterators | [`Data`], [`Array`] |
//! | steps and gates: presets, YAML, one step at a time | [`Pipeline`]; [`explain()`] says what steps there are and what they take |
//! | engine, data, threads, seed, progress, cancelling, files that are written | [`Options`] |
//! | comparing two models, measuring one, statistics for later steps | [`verify()`], [`evaluate()`], [`stats()`] |
//! | what is wrong with a model, what costs, what a runtime refuses | [`check()`], [`check_file`] |
//! | statistics, evaluations and pipelines by several processes | [`Plan`] |
//! | what differs by names; the rewrite that breaks a model | [`difference()`], [`bisect()`] |
//! | what a model computes at a value; a model of a loss and its gradients | [`features()`], [`gradients()`] |
//! | models in few bytes, and one tensor of them | [`pack()`], [`unpack()`], [`Container`] |
//! | where weights lie: in one file for several models, beside a model, inside it | [`share()`], [`convert_external()`], [`single_file()`] |
//! | what went wrong: a stable code, file, node, value, step, hint | [`Error`] |
//!
//! # What a caller can rely on
//!
//! - **Files.** Nothing is written but what [`Options`] or a `save` names, and no output may be anything that is read. A save is all or
//!   nothing, and what exists is replaced only where [`Options::force`], [`Options::in_place`] or [`Model::replace`] says so. What no
//!   step changed is written byte for byte.
//! - **The same bytes.** A result depends on the model, the pipeline, the data and the seed; not on threads, and not on whether a
//!   program or the command line asked for it.
//! - **Answers.** *Not checked* is never equal. A result in which nothing changed that was asked to is not accepted, unless
//!   [`Options::allow_unchanged`] takes it.
//! - **Errors.** Codes are stable. The library prints nothing, ends no process and handles no signal. Panics of an engine are errors: a
//!   panic hook of its own keeps them silent and hands every other panic to the hook that was there before.
//!
//! # Features
//!
//! The crate has no features to choose: tract is built in, and ONNX Runtime is loaded when [`Runtime::OnnxRuntime`] asks for it, from
//! `ORT_DYLIB_PATH` or an installed Python wheel. Arrays come from `ndarray` 0.17, or as a shape and elements.
//!
//! # Threads
//!
//! Everything on this page may be used from any thread, and calls run next to each other. A call uses all cores or
//! [`Options::jobs`], and returns when its work is done; [`CancelToken`] ends it from another thread, before the next step or
//! sample. [`Options::progress`] is called from any of its threads.
//!
//! # Safety
//!
//! Models and data are taken for hostile: sizes, depths, offsets and paths are checked before anything follows them, and malformed
//! files are errors. `unsafe` is denied but where files are mapped and memory is shared; a file that another program shortens while it
//! is mapped ends the process, as with any mapping. Engines run inside the process: [`work_in_processes`] gives each model a process of
//! its own, which bounds its memory and survives crashes, and [`limit_calls`] bounds the time of each run.

mod api;

#[doc(hidden)]
pub mod analysis;
#[doc(hidden)]
pub mod autodiff;
#[doc(hidden)]
pub mod axes;
#[doc(hidden)]
pub mod cli;
mod coding;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod evaluate;
#[doc(hidden)]
pub mod features;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod finetune;
#[doc(hidden)]
pub mod fold;
#[doc(hidden)]
pub mod format;
#[doc(hidden)]
pub mod ir;
#[doc(hidden)]
pub mod linalg;
#[doc(hidden)]
pub mod lint;
#[doc(hidden)]
pub mod lower;
#[doc(hidden)]
pub mod ops;
#[doc(hidden)]
pub mod parts;
#[doc(hidden)]
pub mod passes;
#[doc(hidden)]
pub mod pipeline;
#[doc(hidden)]
pub mod proto;
#[doc(hidden)]
pub mod quantize;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod rewrite;
#[doc(hidden)]
pub mod schema;
#[doc(hidden)]
pub mod statistics;
#[doc(hidden)]
pub mod sweep;
#[doc(hidden)]
pub mod transfer;
#[doc(hidden)]
pub mod verify;
#[doc(hidden)]
pub mod yaml;

pub use api::{
    Array, CheckOptions, Container, Data, Element, Error, ErrorPlace, Evaluation, Explanation, Externalizing,
    Family, Features, FindingCounts, Findings, IntoArray, IntoSamples, Made, Member, MemberOutcome, Mending,
    Merged, Model, Options, Outcome, Packed, PackedPart, Packing, Pipeline, Plan, Purpose, Relocated,
    Runtime, Saved, Shared, SharedContents, SharedModel, Sharing, Stats, StepOptions, StructureSearch, Sweep,
    SweepPlan, SweepPoint, Task, Verification, Worked, bisect, check, check_file, compare_reports,
    convert_external, difference, evaluate, explain, explain_why_not, features, gradients, pack, schema_of,
    share, single_file, stats, unpack, verify,
};
pub use autodiff::{GradientOptions, InputIs, Loss, Wrt};
pub use engine::{CancelToken, Host, limit_calls, work_in_processes, work_inside};
pub use evaluate::Figures;
pub use lint::{Finding, FindingPlace, Fix, Severity};
pub use passes::{LossKind, ReportFile};
pub use pipeline::{Bisection, GateReport, RunReport, StepReport, Weight};
pub use report::difference::Difference;
pub use report::facts::{ModelFacts, NodeFacts, ValueFacts};
pub use report::table::Style;
pub use sweep::{Measure, PointResult, Record as PointRecord, Status as PointStatus, SweepReport};
pub use verify::{Divergence, NodeOptions, NodeReport, OutputFigures, Verdict, VerifyReport};
