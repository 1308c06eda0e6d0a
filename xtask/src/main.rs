//! Repository tasks: `cargo xtask` lists them. Logic of tasks lives here in Rust, one file per task; `.ci/run` only installs tools and calls `test`.

mod c;
mod codegen;
mod conformance;
mod kotlin;
mod live;
mod node;
mod overhead;
mod python;
mod quickstart;
mod recovery;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  test [PHASE…]   everything CI runs, with a count of tests at the end; PHASE: fmt, clippy, tidy, rust, docs, quickstart, c,
                  node, python, kotlin, conformance
  c LIBRARIES BINARIES
                  the phase c with libraries and a server that are built already, in those folders
  tidy            the rules of this code base that a program can check
  codegen         write the generated code and pages from messages.toml, errors.toml and sdk-rust/api.toml
  codegen --check fail if they are stale
  results REPORT [--check]
                  keep what a report of full conformance runs came to, for the matrix of README.md; or compare with it
  python          build the wheels of the Python client and of the server, and install them into target/ci/python/venv
  conformance [--client NAME]… [--run GLOB]… [--memory]
                  build the suite and the clients whose tools are here, run the matrix, merge the reports; with --memory
                  the clients in C and C++ with sanitizers, and in part under valgrind
  soak [--client NAME]… [--connects N] [--messages N]
                  put clients under much of the same, and look for what stays behind in their processes (default: all
                  clients, 10,000 connections, 5,000,000 messages)
  crash [--client NAME]… [--cycles N]
                  kill -9 the server under the load of several clients at once, and account for every message (default:
                  python and node, 200 kills)
  overhead        measure what each binding costs beside the Rust client, in turns, for the table of README.md (needs the tools
                  of every language, and a machine with nothing else to do)
  recovery [--partitions N] [--mib N] [--kills N]
                  fill that many partitions with that many MiB each, kill -9 the server under load, and tell how soon
                  it is ready again and whether all is there (default: 1 partition, 1024 MiB, 3 kills)
";

#[expect(clippy::print_stderr, reason = "a command line tool speaks on standard error")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["help"] => {
            eprint!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        // Whoever asks what a command does has not asked for it to be done.
        words if words.contains(&"--help") || words.contains(&"-h") => {
            eprint!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["test", phases @ ..] => test::run(phases),
        ["tidy"] => tidy::run(),
        ["codegen"] => codegen::run(&tree::root(), false),
        ["codegen", "--check"] => codegen::run(&tree::root(), true),
        ["results", report] => codegen::keep_results(&tree::root(), report.as_ref(), false),
        ["results", report, "--check"] => codegen::keep_results(&tree::root(), report.as_ref(), true),
        ["python"] => python::build(&test::target()).map(drop),
        ["conformance", options @ ..] => conformance::run(options),
        ["c", libraries, binaries] => {
            c::build_and_test(libraries.as_ref(), binaries.as_ref()).and_then(|(_, failed)| {
                anyhow::ensure!(failed == 0, "{failed} failed");
                Ok(())
            })
        }
        ["soak", options @ ..] => conformance::soak(options),
        ["crash", options @ ..] => conformance::crash(options),
        ["overhead"] => overhead::run(),
        ["recovery", options @ ..] => recovery::run(options),
        _ => {
            eprint!("xtask: unknown command: {}\n\n{USAGE}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
