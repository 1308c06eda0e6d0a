//! `vectors`: the golden encodings, for a client that is tested before it ever sees a network.

use std::path::PathBuf;
use std::process::ExitCode;

use levada_conformance::select::VECTORS;

use super::{HARNESS, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder to write them into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    for (name, text) in VECTORS {
        let path = arguments.out.join(name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        if let Err(error) = written {
            return fail(HARNESS, &format!("{}: {error}", path.display()));
        }
    }
    print(&format!(
        "{} files in {}; spec.md describes their form in its appendix",
        VECTORS.len(),
        arguments.out.display()
    ));
    ExitCode::SUCCESS
}
