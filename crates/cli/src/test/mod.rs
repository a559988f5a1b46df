//! `test`: a script run over files in place of its tables, on a clock that the files set, and over crashes.

mod course;
mod files;
mod lookup;
mod result;
mod tables;

use crate::args::TestArgs;
use crate::plan::settings_of;
use crate::run::{name_of, read_script};
use files::Lines;
use millstream_core::connector::SessionInfo;
use millstream_core::error::{Error, ErrorKind, Place, Result, ResultExt};
use millstream_core::graph::ChangelogMode;
use millstream_core::settings::{self, Settings};
use millstream_core::suggest::did_you_mean;
use millstream_sql::{Output, PlanOptions, plan_script};
use millstream_trial::{Course, Crash, Epoch, Trial};
use result::Table;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tables::{Registry, Tables, Written};

/// The name that a last SELECT's result has among the tables.
const SELECT: &str = "select";
/// Every case runs at each of these.
const PARALLELISMS: [usize; 3] = [1, 2, 3];

/// What came of a case.
enum Verdict {
    Passed { rows: usize, runs: usize },
    Updated(usize),
    Differs(String),
}

/// `millstream test`
pub fn test(args: &TestArgs) -> Result<()> {
    let script = read_script(&args.file)?;
    let settings = settings_of(&args.set)?;
    let cases = cases_of(&args.file, args.case.as_deref())?;
    let width = cases.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut failed = 0;
    for (name, folder) in &cases {
        let case = Case { name: name_of(&args.file), script: &script, settings: &settings, folder };
        let (word, text) = match case.run(args.update) {
            Ok(Verdict::Passed { rows, runs }) => ("ok", format!("{rows} row{}, {runs} runs", plural(rows))),
            Ok(Verdict::Updated(files)) => ("updated", format!("{files} file{}", plural(files))),
            Ok(Verdict::Differs(text)) => {
                failed += 1;
                ("differs", text)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Script | ErrorKind::Unsupported) => {
                return Err(if cases.len() > 1 { error.context(format!("run the test '{name}'")) } else { error });
            }
            Err(error) => {
                failed += 1;
                ("failed", error.to_string())
            }
        };
        println!("{}", format!("{name:width$}  {word:7}  {text}").replace("  \n", "\n"));
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::data(format!("{failed} of {} test{} failed", cases.len(), plural(cases.len())))),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The cases of a script, by name: the folder `job.test` itself if it has inputs, else the folders in it.
fn cases_of(file: &Path, only: Option<&str>) -> Result<Vec<(String, PathBuf)>> {
    let folder = file.with_extension("test");
    let place = || Place::File { path: folder.display().to_string(), line: None };
    let layout = format!("put rows into {}/input/TABLE.jsonl", folder.display());
    if !folder.is_dir() {
        return Err(Error::script("the script has no tests").at(place()).hint(layout));
    }
    let mut cases = vec![];
    if folder.join("input").is_dir() || folder.join("expected").is_dir() {
        cases.push((name_of(file), folder.clone()));
    } else {
        for path in entries(&folder)? {
            if path.is_dir() {
                cases.push((name_of(&path), path));
            }
        }
    }
    if cases.is_empty() {
        return Err(Error::script("the script's folder of tests is empty").at(place()).hint(layout));
    }
    let Some(only) = only else { return Ok(cases) };
    let names: Vec<String> = cases.iter().map(|(name, _)| name.clone()).collect();
    cases.retain(|(name, _)| name == only);
    if cases.is_empty() {
        let error = Error::script(format!("there is no test '{only}'")).at(place());
        return Err(match did_you_mean(only, names.iter().map(String::as_str)) {
            Some(hint) => error.hint(hint),
            None => error.hint(format!("there are: {}", names.join(", "))),
        });
    }
    Ok(cases)
}

/// What is in a folder, by name; nothing if there is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = match std::fs::read_dir(folder) {
        Ok(read) => read,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => {
            let place = Place::File { path: folder.display().to_string(), line: None };
            return Err(Error::script(format!("can't read the folder: {e}")).at(place));
        }
    };
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

struct Case<'a> {
    name: String,
    script: &'a str,
    settings: &'a Settings,
    folder: &'a Path,
}

impl Case<'_> {
    fn run(&self, update: bool) -> Result<Verdict> {
        let tables = Tables::new(self.folder.join("input"));
        let (trial, written) = self.plan(&tables)?;
        let inputs: Vec<String> = tables.stage.inputs().into_iter().map(|(name, _)| name).collect();
        let looked_up = tables.looked_up().into_iter().filter(|name| !inputs.contains(name));
        let read: Vec<String> = inputs.iter().cloned().chain(looked_up).collect();
        self.refuse_strangers("input", "reads", &read)?;
        self.refuse_strangers("expected", "writes", &written.keys().cloned().collect::<Vec<_>>())?;
        let epochs = course::epochs(&inputs, &tables.steps());
        let straight = |workers| Course { workers, epochs: epochs.clone(), crashes: vec![] };
        let run = |course: &Course| -> Result<BTreeMap<String, Table>> {
            let mut outcome = trial.run(course)?;
            let table = |(name, written): (&String, &Written)| {
                let changes = outcome.written.remove(name).unwrap_or_default();
                (name.clone(), Table::folded(&written.schema, written.key.as_deref(), &changes))
            };
            Ok(written.iter().map(table).collect())
        };
        let first = run(&straight(1))?;
        if update {
            for (name, table) in &first {
                self.write(name, table)?;
            }
        }
        let mut expected = BTreeMap::new();
        for (name, written) in &written {
            let path = self.path_of(name);
            let lines = Lines::read(&path, || {
                Error::script(format!("there are no expected rows for table '{name}'"))
                    .hint("write them there, one JSON object a line, or let --update write what comes out")
            })?;
            expected.insert(name.clone(), Table::of_rows(&written.schema, &lines.rows(&written.schema)?));
        }
        if let Some(text) = result::difference(&expected, &first) {
            return Ok(Verdict::Differs(text));
        }
        let mut runs = 1;
        for (what, course) in self.courses(&epochs) {
            runs += 1;
            let differs = |outcome: &Result<BTreeMap<String, Table>>| match outcome {
                Ok(tables) => result::difference(&expected, tables),
                Err(error) => Some(format!("\n  {}", error.to_string().replace('\n', "\n  "))),
            };
            let outcome = run(&course);
            let Some(mut text) = differs(&outcome) else { continue };
            let mut what = what;
            // Of many crashes one may be enough.
            for crash in course.crashes.iter().filter(|_| course.crashes.len() > 1) {
                let one = Course { crashes: vec![*crash], ..course.clone() };
                if let Some(found) = differs(&run(&one)) {
                    what =
                        format!("after a crash behind epoch {} of {}, {}", crash.after, epochs.len(), going_on(&one));
                    text = found;
                    break;
                }
            }
            return Ok(Verdict::Differs(format!("{what}{text}")));
        }
        let rows = tables.stage.inputs().iter().map(|(_, rows)| rows).sum();
        Ok(if update { Verdict::Updated(written.len()) } else { Verdict::Passed { rows, runs } })
    }

    /// How else a case is run, and what is said of it.
    fn courses(&self, epochs: &[Epoch]) -> Vec<(String, Course)> {
        let mut courses = vec![];
        let course = |workers, crashes| Course { workers, epochs: epochs.to_vec(), crashes };
        for workers in PARALLELISMS.into_iter().skip(1) {
            courses.push((format!("at parallelism {workers}"), course(workers, vec![])));
        }
        for workers in PARALLELISMS {
            let crashes = (0..=epochs.len()).map(|after| Crash { after, workers }).collect();
            courses
                .push((format!("over a crash after every epoch, at parallelism {workers}"), course(workers, crashes)));
        }
        let rescaled = |after: usize| Crash { after, workers: PARALLELISMS[(after + 1) % PARALLELISMS.len()] };
        let crashes = (0..=epochs.len()).map(rescaled).collect();
        courses.push(("over a crash after every epoch, each at another parallelism".into(), course(1, crashes)));
        courses
    }

    fn path_of(&self, table: &str) -> PathBuf {
        self.folder.join("expected").join(format!("{table}.jsonl"))
    }

    fn write(&self, name: &str, table: &Table) -> Result<()> {
        let path = self.path_of(name);
        let written =
            std::fs::create_dir_all(self.folder.join("expected")).and_then(|()| std::fs::write(&path, table.text()));
        written.map_err(|e| {
            let place = Place::File { path: path.display().to_string(), line: None };
            Error::script(format!("can't write the expected rows: {e}")).at(place)
        })
    }

    /// Refuses files of tables that the script does not have.
    fn refuse_strangers(&self, folder: &str, does: &str, tables: &[String]) -> Result<()> {
        for path in entries(&self.folder.join(folder))? {
            let name = name_of(&path);
            if path.extension().is_some_and(|e| e == "jsonl") && !tables.contains(&name) {
                let place = Place::File { path: path.display().to_string(), line: None };
                let error = Error::script(format!("the script {does} no table '{name}'")).at(place);
                return Err(match did_you_mean(&name, tables.iter().map(String::as_str)) {
                    Some(hint) => error.hint(hint),
                    None => error.hint(format!("it {does}: {}", tables.join(", "))),
                });
            }
        }
        Ok(())
    }

    /// Plans the script over the case's files; tells what it writes, too.
    fn plan(&self, tables: &Arc<Tables>) -> Result<(Trial, BTreeMap<String, Written>)> {
        let registry = Registry { real: millstream_connect::registry(), tables: Arc::clone(tables) };
        let options = PlanOptions {
            session: SessionInfo {
                base_dir: std::env::current_dir().context("find the current folder")?,
                time_zone: self.settings.text(settings::TIME_ZONE).to_string(),
                storage: self.settings.storage_options(),
            },
            settings: self.settings.clone(),
            registry: Arc::new(registry),
            name: self.name.clone(),
            parallelism: 1,
            select_sink: Some(tables.stage.sink(SELECT, ChangelogMode::ALL)),
        };
        let planned = plan_script(self.script, options.clone())?;
        let mut written = tables.written();
        match &planned.output {
            Output::Inserts => {}
            Output::Select { schema, .. } => {
                written.insert(SELECT.into(), Written { schema: schema.clone(), key: None });
            }
            Output::Nothing => {
                return Err(Error::script("there is nothing to test: the script neither inserts nor selects"));
            }
        }
        let script = self.script.to_string();
        let plan = move |parallelism| {
            let planned = plan_script(&script, PlanOptions { parallelism, ..options.clone() })?;
            Ok((Arc::new(planned.graph), planned.settings))
        };
        Ok((Trial { stage: Arc::clone(&tables.stage), plan: Box::new(plan) }, written))
    }
}

/// How a job went on after its crash.
fn going_on(course: &Course) -> String {
    let after = course.crashes.first().map_or(course.workers, |crash| crash.workers);
    match course.workers == after {
        true => format!("at parallelism {after}"),
        false => format!("from parallelism {} to {after}", course.workers),
    }
}
