//! `selftest`: every defect caught, and nothing found without one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use levada_conformance::client::{self, Description};
use levada_conformance::selftest::{self, Defect, Finding, Plan, Subject};

use super::{CANNOT_RUN, FAILED, HARNESS, Scratch, USAGE, fail, print};

#[derive(clap::Args)]
#[command(after_help = "\
Clients that are wrong on purpose run the cases each defect names, and each of those must fail; without a defect they must pass.
The Rust adapter has many defects in it. The Python and Node packages are the real ones, with their public layer patched by what is
loaded before their adapters (conformance/selftest). Clients that are not built are skipped, with a line, unless --client names them.

Exit code: 0 every defect is caught, 1 not, 2 a wrong argument, 3 a client does not start, 4 the suite itself is broken.")]
pub(crate) struct Arguments {
    /// Description of an adapter of your own that takes `--defect NAME`, instead of the clients here
    #[arg(long, value_name = "FILE", conflicts_with = "client")]
    conf: Option<PathBuf>,
    /// Only these clients; may be repeated [default: all that are built]
    #[arg(long, value_name = "NAME")]
    client: Vec<String>,
    /// Only these defects; may be repeated
    #[arg(long, value_name = "NAME")]
    defect: Vec<String>,
    /// Multiply every deadline
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    deadline_scale: f64,
}

/// Runs at once: a case that catches something waits for most of its time.
const AT_ONCE: usize = 4;

/// One client with one defect, or with none.
struct Turn<'a> {
    client: &'a str,
    description: Description,
    defect: Option<&'a Defect>,
    cases: BTreeSet<&'a str>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let plan = match selftest::plan() {
        Ok(plan) => plan,
        Err(reason) => return fail(HARNESS, &reason),
    };
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => return fail(HARNESS, &format!("no folder for data: {error}")),
    };
    let names = |all: &mut dyn Iterator<Item = &str>| all.collect::<Vec<_>>().join(", ");
    if let Some(unknown) = unknown(&arguments.defect, &mut plan.defects.iter().map(|defect| defect.name.as_str())) {
        let known = names(&mut plan.defects.iter().map(|defect| defect.name.as_str()));
        return fail(USAGE, &format!("there is no defect {unknown}; there are: {known}"));
    }
    if let Some(unknown) = unknown(&arguments.client, &mut plan.clients.iter().map(|client| client.name.as_str())) {
        let known = names(&mut plan.clients.iter().map(|client| client.name.as_str()));
        return fail(USAGE, &format!("no client {unknown} is made wrong here; there are: {known}"));
    }
    let subjects = match subjects(arguments, &plan, &scratch.path) {
        Ok(subjects) => subjects,
        Err((code, reason)) => return fail(code, &reason),
    };
    let mut turns = Vec::new();
    for (subject, description) in &subjects {
        turns.extend(turns_of(subject, description, &plan, &arguments.defect));
    }
    match play(&turns, &scratch.path, arguments.deadline_scale) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(reason) => fail(CANNOT_RUN, &reason),
    }
}

/// The first of what is wanted that is not known.
fn unknown<'a>(wanted: &'a [String], known: &mut dyn Iterator<Item = &str>) -> Option<&'a String> {
    let known: BTreeSet<&str> = known.collect();
    wanted.iter().find(|name| !known.contains(name.as_str()))
}

/// Who is examined, with how each is started.
fn subjects(arguments: &Arguments, plan: &Plan, scratch: &Path) -> Result<Vec<(Subject, Description)>, (u8, String)> {
    let usage = |reason| (USAGE, reason);
    if let Some(path) = &arguments.conf {
        let description = Description::read(path).map_err(usage)?;
        return Ok(vec![(Subject::taking_argument(&description.name), description)]);
    }
    let Some(folder) = client::folder() else {
        return Err((USAGE, "run it in the repository, or name an adapter with --conf".to_owned()));
    };
    let mut subjects = Vec::new();
    for subject in &plan.clients {
        let is_wanted = arguments.client.contains(&subject.name);
        if !arguments.client.is_empty() && !is_wanted {
            continue;
        }
        let description = Description::read(&folder.join(format!("{}.yaml", subject.name))).map_err(usage)?;
        match selftest::starts(&description, scratch) {
            Ok(()) => subjects.push((subject.clone(), description)),
            Err(reason) if is_wanted => return Err((CANNOT_RUN, format!("{}: {reason}", subject.name))),
            Err(reason) => print(&format!("{}: skipped, its adapter is not built: {reason}", subject.name)),
        }
    }
    if subjects.is_empty() {
        return Err((CANNOT_RUN, "no adapter is built".to_owned()));
    }
    Ok(subjects)
}

/// A client without a defect over every case, then with each.
fn turns_of<'a>(subject: &'a Subject, description: &Description, plan: &'a Plan, wanted: &[String]) -> Vec<Turn<'a>> {
    let chosen: Vec<&Defect> = plan
        .defects
        .iter()
        .filter(|defect| subject.can_have(defect) && (wanted.is_empty() || wanted.contains(&defect.name)))
        .collect();
    let turn = |defect: Option<&'a Defect>, of: &[&'a Defect]| Turn {
        client: &subject.name,
        description: subject.told(description, defect),
        defect,
        cases: of.iter().flat_map(|defect| defect.caught_by.iter().map(String::as_str)).collect(),
    };
    let clean = (!chosen.is_empty()).then(|| turn(None, &chosen));
    clean.into_iter().chain(chosen.iter().map(|defect| turn(Some(defect), &[defect]))).collect()
}

/// Takes every turn and tells, in order, what became of it; gives how many cases did not do what they should.
fn play(turns: &[Turn<'_>], scratch: &Path, scale: f64) -> Result<usize, String> {
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(turn) = turns.get(number) else { return };
                    let folder = scratch.join(number.to_string());
                    let finding = selftest::examine(&turn.description, turn.defect, &turn.cases, &folder, scale);
                    if done.send((number, finding)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut early = BTreeMap::new();
        let (mut told, mut wrong) = (0, 0);
        for (number, finding) in results {
            early.insert(number, finding);
            while let Some(finding) = early.remove(&told) {
                let turn = &turns[told];
                let finding = finding.map_err(|reason| format!("{}: {reason}", turn.client))?;
                tell(turn, &finding);
                wrong += finding.wrong.len();
                told += 1;
            }
        }
        Ok(wrong)
    })
}

fn tell(turn: &Turn<'_>, finding: &Finding) {
    let outcomes: Vec<String> = finding.cases.iter().map(|(id, outcome)| format!("{id} {}", outcome.name())).collect();
    let is_right = finding.wrong.is_empty();
    let verdict = match (is_right, turn.defect) {
        (true, Some(_)) => "caught",
        (true, None) => "passes",
        (false, Some(_)) => "NOT CAUGHT",
        (false, None) => "FAILS",
    };
    let told = match turn.defect {
        None if is_right => format!("all {} cases named below", outcomes.len()),
        _ => outcomes.join(", "),
    };
    print(&format!(
        "{:<15} {:<18} {verdict:<10} {told}",
        turn.client,
        turn.defect.map_or("none", |defect| &defect.name)
    ));
}
