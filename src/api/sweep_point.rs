//! One point of a sweep: its pipeline run, the result measured, and what was found kept.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;
use serde_json::json;

use super::data::Data;
use super::error::Error;
use super::evaluate::evaluate;
use super::options::Options;
use super::sweep_plan::{Candidate, SweepPlan, failed, model_file, record_file};
use crate::data::{REFERENCE, Spec};
use crate::pipeline::{Reuse, describe_data, digest};
use crate::report::stored::{Stored, main_figure, summary};
use crate::report::sweep::resolve_measure;
use crate::sweep::{FORMAT, Record, Status, read_record};

/// The array that holds labels where nobody says which one does, as in `evaluate`.
const USUAL_LABELS: &str = "y";

impl SweepPlan {
    /// Computes one point and keeps its record in the folder, and its model if it was accepted. A record that is there is answered as it is.
    /// A point that fails is an answer, too.
    ///
    /// # Errors
    ///
    /// `unknown-name` where the sweep has no such point; `cancelled`; a folder that cannot be written to.
    ///
    /// # Examples
    ///
    /// See [`SweepPlan`].
    pub fn run_point(&self, id: &str, folder: impl AsRef<Path>) -> Result<Record, Error> {
        let folder = folder.as_ref();
        let (candidate, rung) = self.find(id)?;
        let file = record_file(folder, id);
        if let Some(record) = read_record(&file, id)?
            && !(self.retry && record.status == Status::Failed)
        {
            return Ok(record);
        }
        for part in ["points", "models"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).map_err(|error| failed(&part, &error))?;
        }
        let began = Instant::now();
        let mut record = self.blank(candidate, rung, id)?;
        let made = self.measure(candidate, rung, &mut record, &model_file(folder, id));
        self.options.admit()?;
        if let Err(error) = made {
            if matches!(error.code(), "cancelled" | "interrupted" | "write-failed") {
                return Err(error);
            }
            record.status = Status::Failed;
            record.code = Some(error.code().to_owned());
            record.reasons = vec![error.message().to_owned()];
            (record.figures, record.result, record.main) = Default::default();
        }
        record.seconds = began.elapsed().as_secs_f64();
        record.write(&file).map_err(|error| failed(&file, &error))?;
        Ok(record)
    }

    fn blank(&self, candidate: &Candidate, rung: usize, id: &str) -> Result<Record, Error> {
        let model = self.models.get(candidate.model);
        Ok(Record {
            format: FORMAT,
            id: id.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: model.map(|(.., digest)| digest.clone()).unwrap_or_default(),
            pipeline: self.pipeline_of(candidate, rung)?.to_yaml(),
            data: candidate.data.clone(),
            seed: self.options.seed,
            engine: self.options.engine.name().to_owned(),
            samples: self.samples(rung),
            status: Status::Done,
            reasons: Vec::new(),
            code: None,
            verdict: None,
            main: None,
            figures: IndexMap::new(),
            result: None,
            seconds: 0.0,
        })
    }

    /// How a point is run: what changes a pipeline was applied when it was resolved.
    pub(super) fn running(&self) -> Options {
        let mut how = self.options.clone();
        (how.data, how.bind, how.only, how.rules, how.reports) = Default::default();
        (how.preprocess, how.output, how.constant_inputs, how.in_place) = (None, None, false, false);
        how.evaluation.gates.clear();
        how.allow_unchanged = true;
        how
    }

    /// Runs the pipeline, measures what it made and keeps it.
    fn measure(
        &self,
        candidate: &Candidate,
        rung: usize,
        record: &mut Record,
        file: &Path,
    ) -> Result<(), Error> {
        let Some((_, model, _)) = self.models.get(candidate.model) else {
            return Ok(());
        };
        let pipeline = self.pipeline_of(candidate, rung)?;
        let mut how = self.running();
        how.reuse = Some(Reuse {
            reached: Arc::clone(&self.reached),
            scope: json!([record.model, record.data, record.samples]).to_string(),
        });
        let outcome = pipeline.run(model, &how)?;
        record.verdict = Some(outcome.verdict().to_string());
        if !outcome.accepted() {
            record.status = Status::Refused;
            record.reasons = outcome.reasons();
            return Ok(());
        }
        let Some(described) = pipeline.inner.data.get("evaluation") else {
            return Ok(());
        };
        let (mut spec, base) = describe_data(described, &pipeline.inner.base)?;
        if spec.npz.is_some() && spec.labels.is_none() {
            spec.labels = Some(USUAL_LABELS.to_owned());
        }
        if from_reference(&spec) {
            how.evaluation.against = Some(model.clone());
        }
        if !self.times() {
            how.evaluation.latency_runs = 0;
        }
        how.data = vec![(Some("evaluation".to_owned()), Data::described(spec, base))];
        let found = evaluate(&outcome.model, &how)?;
        let document = serde_json::to_value(&found).unwrap_or_default();
        let stored = Stored {
            name: candidate.name.clone(),
            document,
        };
        let summary = summary(&stored).map_err(|error| Error::new("stored-report", error.to_string()))?;
        record.main = main_figure(&stored.document, &summary.figures);
        record.figures = summary.figures;
        record.result = Some(digest(&outcome.model.settled()?));
        how.force = true;
        outcome.model.save_with(file, &how)?;
        Ok(())
    }

    /// Whether points are judged by times.
    fn times(&self) -> bool {
        self.measure.is_empty()
            || self
                .measure
                .iter()
                .any(|name| resolve_measure(name).starts_with("latency"))
    }
}

/// Whether the reference's answers are the truth of these data.
fn from_reference(spec: &Spec) -> bool {
    let of_images = spec.images.as_ref().and_then(|images| images.labels.as_ref());
    spec.labels.as_deref() == Some(REFERENCE)
        || of_images.is_some_and(|labels| labels.as_os_str() == REFERENCE)
}
