//! The folder of results, and what of a plan this process does.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Part, PartsError, Task, Work, inside, kept};

/// The folder of results in that of a plan.
const PARTS: &str = "parts";

/// Which tasks this process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// None: it plans, and joins what is there.
    None,
    /// Those of these names.
    Tasks(BTreeSet<String>),
}

/// Results that are there, tasks that are planned, and which of them this process does.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    /// What every result depends on beside what its work names.
    context: String,
    /// Into how many parts data are cut.
    cuts: usize,
    planned: BTreeMap<String, Task>,
    own: Own,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Works begun.
    begun: u64,
    /// Whether a part is being made: what it needs of other works it does itself.
    inside: bool,
    /// Keys of the results that are there, as far as known.
    there: HashSet<String>,
    /// Tasks that have to be done before the run can go on.
    wanted: Vec<Task>,
    /// Names of the tasks that this process did.
    made: Vec<String>,
    /// Own tasks that are done, by this process or before.
    settled: BTreeSet<String>,
}

impl Ledger {
    /// The ledger of the plan in `folder`, whose tasks so far are `planned`; data are cut into `cuts` parts, and every result depends on
    /// `context`.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn open(
        folder: &Path,
        (cuts, context): (usize, String),
        planned: Vec<Task>,
        own: Own,
    ) -> Result<Self, PartsError> {
        let parts = folder.join(PARTS);
        let failed = |source: std::io::Error| PartsError::Io {
            file: parts.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&parts) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let mut there = HashSet::new();
        for entry in entries.into_iter().flatten() {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                there.insert(name);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            context,
            cuts: cuts.max(1),
            planned: planned.into_iter().map(|task| (task.id.clone(), task)).collect(),
            own,
            state: Mutex::new(State {
                there,
                ..State::default()
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Into how many parts data are cut.
    pub fn cuts(&self) -> usize {
        self.cuts
    }

    /// Tasks that have to be done before the run can go on.
    pub fn wanted(&self) -> Vec<Task> {
        self.state().wanted.clone()
    }

    /// Names of the tasks that this process did.
    pub fn made(&self) -> Vec<String> {
        self.state().made.clone()
    }

    /// Own tasks that the run did not come to: they are planned for something else, or for a later stage.
    pub fn unsettled(&self) -> Vec<String> {
        let state = self.state();
        match &self.own {
            Own::None => Vec::new(),
            Own::Tasks(own) => own.difference(&state.settled).cloned().collect(),
        }
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.join(PARTS).join(key)
    }

    /// Whether a result is there, now or since the folder was read.
    fn has(&self, key: &str) -> bool {
        if self.state().there.contains(key) {
            return true;
        }
        let there = self.file(key).is_file();
        if there {
            self.state().there.insert(key.to_owned());
        }
        there
    }

    /// Refuses a task that was planned for other inputs than those that the run has.
    fn check(&self, task: &Task) -> Result<(), PartsError> {
        let Some(planned) = self
            .planned
            .get(&task.id)
            .filter(|planned| planned.key != task.key)
        else {
            return Ok(());
        };
        let all = planned.inputs.keys().chain(task.inputs.keys());
        let differs = all
            .into_iter()
            .find(|name| planned.inputs.get(*name) != task.inputs.get(*name));
        let said = |task: &Task, name: &str| {
            task.inputs
                .get(name)
                .cloned()
                .unwrap_or_else(|| "nothing".to_owned())
        };
        let (what, planned, found) = match differs {
            Some(name) => (name.as_str(), said(planned, name), said(task, name)),
            None if planned.of != task.of => ("share", planned.of.clone(), task.of.clone()),
            None => ("release", planned.key.clone(), task.key.clone()),
        };
        Err(PartsError::Stale {
            task: task.id.clone(),
            what: what.to_owned(),
            planned,
            found,
        })
    }

    /// Does the own parts of some work, and hands over the results of all of them in their order once they are there: `make` answers
    /// that of one, by its index, and `take` gets them.
    ///
    /// # Errors
    /// [`PartsError::Waiting`] where some are missing, and where this process has nothing more to do; what is wrong with parts; what
    /// `make` and `take` answer.
    pub fn each<E: From<PartsError>>(
        &self,
        work: &Work,
        parts: &[String],
        make: impl FnMut(usize) -> Result<Vec<u8>, E>,
        take: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_with(work, parts, &E::from, make, take)
    }

    fn each_with<E>(
        &self,
        work: &Work,
        parts: &[String],
        wrap: &dyn Fn(PartsError) -> E,
        mut make: impl FnMut(usize) -> Result<Vec<u8>, E>,
        mut take: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let begun = {
            let mut state = self.state();
            state.begun += u64::from(!state.inside);
            (!state.inside).then_some(state.begun)
        };
        let Some(begun) = begun else {
            return (0..parts.len()).try_for_each(|index| take(index, make(index)?));
        };
        let count = parts.len();
        let mut work = work.clone();
        if !self.context.is_empty() {
            work.depends("pipeline", self.context.clone());
        }
        let work = &work;
        let mut missing = Vec::new();
        for (index, of) in parts.iter().enumerate() {
            let task = self.task(work, (begun, count), index, of);
            self.check(&task).map_err(wrap)?;
            let own = matches!(&self.own, Own::Tasks(own) if own.contains(&task.id));
            let mut there = self.has(&task.key);
            if own && !there {
                self.state().inside = true;
                let made = make(index);
                self.state().inside = false;
                kept(&self.file(&task.key), &task.key, &made?).map_err(wrap)?;
                let mut state = self.state();
                state.there.insert(task.key.clone());
                state.made.push(task.id.clone());
                there = true;
            }
            if own {
                self.state().settled.insert(task.id.clone());
            }
            if !there {
                missing.push(task);
            }
        }
        let nothing_left = matches!(&self.own, Own::Tasks(own) if own.len() == self.state().settled.len());
        if !missing.is_empty() || nothing_left {
            let error = PartsError::Waiting {
                work: work.name,
                missing: missing.len(),
            };
            self.state().wanted = missing;
            return Err(wrap(error));
        }
        for (index, of) in parts.iter().enumerate() {
            let key = self.task(work, (begun, count), index, of).key;
            take(index, inside(&self.file(&key), &key).map_err(wrap)?)?;
        }
        Ok(())
    }

    /// Values in place of bytes: see [`Ledger::each`]. `wrap` makes what is wrong with parts an error of the caller.
    ///
    /// # Errors
    /// As [`Ledger::each`].
    pub fn values<T: Serialize + DeserializeOwned, E>(
        &self,
        work: &Work,
        parts: &[String],
        wrap: impl Fn(PartsError) -> E,
        mut make: impl FnMut(usize) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let odd = |error: serde_json::Error| {
            wrap(PartsError::Foreign {
                file: self.folder.join(PARTS),
                reason: format!("a part of {} is not of the form: {error}", work.name),
            })
        };
        let mut values = Vec::with_capacity(parts.len());
        let bytes = |index: usize| serde_json::to_vec(&make(index)?).map_err(odd);
        self.each_with(work, parts, &wrap, bytes, |_, bytes| {
            values.push(serde_json::from_slice(&bytes).map_err(odd)?);
            Ok(())
        })?;
        Ok(values)
    }

    fn task(&self, work: &Work, (begun, count): (u64, usize), index: usize, of: &str) -> Task {
        let part = Part {
            index,
            of: of.to_owned(),
        };
        let key = part.key(work, count);
        let id = format!("{begun}-{}-{}-of-{count}", work.name, index + 1);
        let inputs = work.inputs.iter();
        Task {
            command: vec![
                "secateur".to_owned(),
                "work".to_owned(),
                self.folder.display().to_string(),
                "--task".to_owned(),
                id.clone(),
            ],
            id,
            stage: begun,
            work: work.name.to_owned(),
            of: part.of,
            inputs: inputs
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            output: format!("{PARTS}/{key}"),
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(model: &str) -> Work {
        Work::new("sums", [("model", model.to_owned())])
    }

    fn run(ledger: &Ledger, model: &str) -> Result<Vec<u8>, PartsError> {
        let parts = ["a", "b", "c"].map(str::to_owned);
        let mut all = Vec::new();
        ledger.each(
            &work(model),
            &parts,
            |index| Ok(vec![index as u8; index]),
            |_, bytes| {
                all.extend(bytes);
                Ok::<_, PartsError>(())
            },
        )?;
        Ok(all)
    }

    fn ledger(folder: &Path, planned: &[Task], own: &[&str]) -> Ledger {
        std::fs::create_dir_all(folder.join(PARTS)).unwrap();
        let own = match own {
            [] => Own::None,
            own => Own::Tasks(own.iter().map(|id| (*id).to_owned()).collect()),
        };
        Ledger::open(folder, (3, String::new()), planned.to_vec(), own).unwrap()
    }

    #[test]
    fn parts_are_planned_done_apart_and_joined_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let planner = ledger(folder.path(), &[], &[]);
        assert!(matches!(
            run(&planner, "m"),
            Err(PartsError::Waiting { missing: 3, .. })
        ));
        let tasks = planner.wanted();
        let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["1-sums-1-of-3", "1-sums-2-of-3", "1-sums-3-of-3"]);
        for (own, missing) in [(&ids[2..], 2), (&ids[..2], 0)] {
            let worker = ledger(folder.path(), &tasks, own);
            let waiting = run(&worker, "m").unwrap_err();
            assert!(matches!(waiting, PartsError::Waiting { missing: left, .. } if left == missing));
            assert_eq!(worker.made(), own);
            assert!(worker.unsettled().is_empty());
        }
        let again = ledger(folder.path(), &tasks, &ids[..1]);
        assert!(run(&again, "m").is_err() && again.made().is_empty());
        assert_eq!(run(&ledger(folder.path(), &tasks, &[]), "m").unwrap(), [1, 2, 2]);
    }

    #[test]
    fn a_part_does_by_itself_what_it_needs_of_other_works() {
        let folder = tempfile::tempdir().unwrap();
        let outer = |ledger: &Ledger| {
            let parts = ["whole".to_owned()];
            let mut all = Vec::new();
            let make = |_| run(ledger, "inner");
            let work = Work::new("outer", []);
            ledger.each(&work, &parts, make, |_, bytes| {
                all = bytes;
                Ok::<_, PartsError>(())
            })?;
            Ok::<_, PartsError>(all)
        };
        let planner = ledger(folder.path(), &[], &[]);
        outer(&planner).unwrap_err();
        let tasks = planner.wanted();
        assert_eq!(tasks.len(), 1);
        let worker = ledger(folder.path(), &tasks, &["1-outer-1-of-1"]);
        outer(&worker).unwrap_err();
        assert_eq!(worker.made(), ["1-outer-1-of-1"]);
        assert_eq!(outer(&ledger(folder.path(), &tasks, &[])).unwrap(), [1, 2, 2]);
    }

    #[test]
    fn tasks_of_another_model_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let planner = ledger(folder.path(), &[], &[]);
        run(&planner, "m").unwrap_err();
        let worker = ledger(folder.path(), &planner.wanted(), &["1-sums-1-of-3"]);
        let error = run(&worker, "other").unwrap_err();
        assert_eq!(error.code(), "part-stale");
        assert!(
            error
                .to_string()
                .contains("another model: m, and there is other now")
        );
        let unknown = ledger(folder.path(), &planner.wanted(), &["9-sums-1-of-3"]);
        assert!(run(&unknown, "m").is_err());
        assert_eq!(unknown.unsettled(), ["9-sums-1-of-3"]);
    }
}
