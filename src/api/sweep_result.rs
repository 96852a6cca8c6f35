//! What the results in the folder of a sweep say together, and what stays of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use indexmap::IndexMap;

use super::error::Error;
use super::model::Model;
use super::reports::{Form, json};
use super::save::write_file;
use super::sweep_plan::{Candidate, SweepPlan, failed, model_file};
use crate::files::read_text;
use crate::report::page;
use crate::report::stored::{TIME, less_is_better};
use crate::report::sweep::{markdown, resolve_measure};
use crate::schema::nearest;
use crate::sweep::{Measure, PointResult, Record, Status, SweepReport, front};

impl SweepPlan {
    /// What points are judged by: what the sweep says, else the main figure, the size and the time.
    pub(super) fn measures<'r>(
        &self,
        records: impl Iterator<Item = &'r Record>,
    ) -> Result<Vec<Measure>, Error> {
        let done: Vec<&Record> = records.filter(|record| record.status == Status::Done).collect();
        let measure = |name: &str| Measure {
            timed: name == TIME || name.starts_with("latency"),
            ..Measure::new(name, less_is_better(name))
        };
        if self.measure.is_empty() {
            let main = done.iter().find_map(|record| record.main.clone());
            let names = main.into_iter().chain(["bytes".to_owned(), TIME.to_owned()]);
            return Ok(names.map(|name| measure(&name)).collect());
        }
        let mut found = Vec::new();
        for name in &self.measure {
            let wanted = resolve_measure(name);
            let known = done.iter().flat_map(|record| record.figures.keys());
            let mut names: Vec<&str> = known.map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            match names.iter().find(|known| resolve_measure(known) == wanted) {
                Some(known) => found.push(measure(known)),
                None if done.is_empty() => found.push(measure(&wanted)),
                None => {
                    let hint = match nearest(&wanted, names.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("figures are {}", names.join(", ")),
                    };
                    let message = format!("no point has the figure `{name}`");
                    return Err(Error::new("unknown-name", message).with_hint(hint));
                }
            }
        }
        Ok(found)
    }

    /// What the results in the folder say, also while some are missing. Writes a pipeline for each point that no other beats to `front`, and
    /// `result.json`. Once nothing is missing, models of other points are removed, unless `keep_models` says otherwise.
    ///
    /// # Errors
    ///
    /// As [`SweepPlan::points`]; a folder that cannot be written to.
    ///
    /// # Examples
    ///
    /// See [`SweepPlan`].
    pub fn gather(&self, folder: impl AsRef<Path>, keep_models: bool) -> Result<SweepReport, Error> {
        let folder = folder.as_ref();
        let rungs = self.walk(folder)?;
        let mut reached: BTreeMap<usize, (usize, Option<Record>)> = BTreeMap::new();
        let mut missing = 0;
        for (rung, own) in rungs.into_iter().enumerate() {
            for (at, record) in own {
                missing += usize::from(record.is_none());
                if record.is_some() || !reached.contains_key(&at) {
                    reached.insert(at, (rung, record));
                }
            }
        }
        let records = reached.values().filter_map(|(_, record)| record.as_ref());
        let measures = self.measures(records)?;
        let mut points = Vec::new();
        for (at, (rung, record)) in reached {
            if let Some(candidate) = self.candidates.get(at) {
                points.push(self.point(candidate, rung, record));
            }
        }
        mark(&mut points, &measures);
        let mut best: Vec<&PointResult> = points.iter().filter(|point| point.best).collect();
        let bytes = |point: &PointResult| point.figures.get("bytes").copied().unwrap_or(f64::MAX);
        best.sort_by(|a, b| bytes(a).total_cmp(&bytes(b)).then(a.name.cmp(&b.name)));
        let front = best.into_iter().map(|point| point.name.clone()).collect();
        let report = SweepReport {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.options.engine.name().to_owned(),
            seed: self.options.seed,
            measures,
            missing,
            computed: 0,
            points,
            front,
        };
        self.keep(folder, &report, keep_models)?;
        Ok(report)
    }

    fn point(&self, candidate: &Candidate, rung: usize, record: Option<Record>) -> PointResult {
        let blank = PointResult {
            id: self.id(candidate, rung),
            name: candidate.name.clone(),
            model: self.file(candidate).display().to_string(),
            vars: self.values(candidate, rung),
            also: candidate.also.clone(),
            samples: self.samples(rung),
            finished: rung + 1 == self.rungs.len(),
            status: None,
            reasons: Vec::new(),
            code: None,
            verdict: None,
            figures: IndexMap::new(),
            best: false,
            seconds: 0.0,
        };
        match record {
            None => blank,
            Some(record) => PointResult {
                status: Some(record.status),
                reasons: record.reasons,
                code: record.code,
                verdict: record.verdict,
                figures: record.figures,
                seconds: record.seconds,
                ..blank
            },
        }
    }

    /// Writes what stays of a sweep, and removes what does not.
    fn keep(&self, folder: &Path, report: &SweepReport, keep_models: bool) -> Result<(), Error> {
        let front = folder.join("front");
        fs::create_dir_all(&front).map_err(|error| failed(&front, &error))?;
        let best: Vec<&PointResult> = report.points.iter().filter(|point| point.best).collect();
        for point in &best {
            let (candidate, rung) = self.find(&point.id)?;
            let text = self.replay(candidate, rung, point)?;
            write_file(&front.join(format!("{}.yaml", point.name)), text.as_bytes(), true)?;
            let file = model_file(folder, &point.id);
            if !file.exists() {
                self.make_again(candidate, rung, point, &file)?;
            }
        }
        let stays = |name: &str| best.iter().any(|point| name == format!("{}.yaml", point.name));
        let replay = |path: &Path| read_text(path).is_ok_and(|text| text.starts_with(REPLAY));
        remove_others(&front, &replay, &stays)?;
        if report.missing == 0 && !keep_models {
            let of_front = |name: &str| best.iter().any(|point| name.starts_with(&point.id));
            let model = |path: &Path| {
                path.file_name()
                    .is_some_and(|name| is_id(&name.to_string_lossy()))
            };
            remove_others(&folder.join("models"), &model, &of_front)?;
        }
        write_file(&folder.join("result.json"), json(report)?.as_bytes(), true)
    }

    /// The pipeline of a point with the command that runs it.
    fn replay(&self, candidate: &Candidate, rung: usize, point: &PointResult) -> Result<String, Error> {
        let mut command = format!("{}.yaml {} -o OUT.onnx", point.name, point.model);
        if self.options.seed != 0 {
            command.push_str(&format!(" --seed {}", self.options.seed));
        }
        if self.options.engine.name() != "tract" {
            command.push_str(&format!(" --engine {}", self.options.engine.name()));
        }
        let pipeline = self.pipeline_of(candidate, rung)?;
        if pipeline.inner.steps.is_empty() {
            command.push_str(" --allow-unchanged");
        }
        Ok(format!("{REPLAY}{command}\n{}", pipeline.to_yaml()))
    }

    /// The model of a point whose record is there and whose model is not.
    fn make_again(
        &self,
        candidate: &Candidate,
        rung: usize,
        point: &PointResult,
        file: &Path,
    ) -> Result<(), Error> {
        let Some((_, model, _)) = self.models.get(candidate.model) else {
            return Ok(());
        };
        let mut how = self.running();
        how.force = true;
        let outcome = self.pipeline_of(candidate, rung)?.run(model, &how)?;
        self.options.admit()?;
        let folder = file.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        outcome.model.save_with(file, &how)?;
        self.options
            .say(&format!("{}: the model was made again", point.name));
        Ok(())
    }

    /// Writes the reports that the options ask for.
    pub(crate) fn write_reports(&self, report: &SweepReport) -> Result<(), Error> {
        let models: Vec<(&str, &Model)> = self
            .models
            .iter()
            .map(|(_, model, _)| ("a model", model))
            .collect();
        self.options.write_reports(|form| match form {
            Form::Json => json(report),
            Form::Markdown => Ok(markdown(report)),
            Form::Html => Ok(page::sweep(report, &self.options.source(&models, &report.engine))),
            Form::Junit | Form::Github => {
                Err(Error::usage("a report on a sweep ends in .html, .json or .md"))
            }
        })
    }
}

/// Marks the points that no other beats, among those that were measured on all samples.
fn mark(points: &mut [PointResult], measures: &[Measure]) {
    let counts = |point: &PointResult| point.finished && point.status == Some(Status::Done);
    let figures: Vec<&IndexMap<String, f64>> = points
        .iter()
        .filter(|point| counts(point))
        .map(|point| &point.figures)
        .collect();
    let best = front(&figures, measures);
    let measured = points.iter_mut().filter(|point| counts(point));
    for (point, best) in measured.zip(best) {
        point.best = best;
    }
}

/// How the pipeline of a point begins.
const REPLAY: &str = "# secateur run ";

/// Whether the name of a file begins with the digest of a point.
fn is_id(name: &str) -> bool {
    name.get(..64)
        .is_some_and(|id| id.chars().all(|digit| digit.is_ascii_hexdigit()))
}

/// Removes the files of a folder that are of a sweep, but those that stay.
fn remove_others(
    folder: &Path,
    ours: &dyn Fn(&Path) -> bool,
    stays: &dyn Fn(&str) -> bool,
) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(folder, &error)),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if !stays(&name) && path.is_file() && ours(&path) {
            fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
    }
    Ok(())
}
