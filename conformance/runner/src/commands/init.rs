//! `init`: a folder with all that is needed to write an adapter for a client of one's own, offline.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use levada_conformance::ops::{BEHAVIOURS, OPS};
use levada_conformance::select::VECTORS;

use super::{HARNESS, USAGE, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder to make
    #[arg(default_value = "levada-client")]
    folder: PathBuf,
    /// Language of the client; `any` is all there is: the protocol needs nothing but JSON, base64 and SHA-256
    #[arg(long, value_name = "LANGUAGE", default_value = "any", value_parser = ["any"])]
    lang: String,
}

const CLIENT_YAML: &str = "\
# How `levada-conformance run --conf client.yaml` starts the adapter. adapter-protocol.md, section 7, describes every key.
name: my-client
command: [./my-adapter]
# Declare what works; cases that need more are shown as n/a. Begin with `core`, then go down CHECKLIST.md.
features: [core]
";

const FILES: &[(&str, &str)] = &[
    ("client.yaml", CLIENT_YAML),
    ("adapter-protocol.md", include_str!("../../../adapter-protocol.md")),
    ("spec.md", include_str!("../../../../protocol-spec/spec.md")),
    ("messages.toml", include_str!("../../../../protocol-spec/messages.toml")),
    ("errors.toml", include_str!("../../../../protocol-spec/errors.toml")),
    ("api.md", include_str!("../../../../docs/reference/api.md")),
    ("schema/adapter.schema.json", include_str!("../../../schema/adapter.schema.json")),
    ("schema/operations.json", include_str!("../../../schema/operations.json")),
    ("schema/report.schema.json", include_str!("../../../schema/report.schema.json")),
];

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let folder = &arguments.folder;
    if folder.join("client.yaml").exists() {
        return fail(USAGE, &format!("{} holds a client.yaml already", folder.display()));
    }
    if let Err(error) = write(folder) {
        return fail(HARNESS, &format!("{}: {error}", folder.display()));
    }
    print(&format!(
        "{0} is ready:
  adapter-protocol.md  what your adapter reads and writes
  CHECKLIST.md         operations in the order that pays
  spec.md, vectors/    the protocol and its golden encodings: encode and decode those first, without a network
  messages.toml        every message of the protocol for a generator, and errors.toml every code with its class
  api.md               what a client of Levada can do: options, their ranges and defaults; schema/operations.json is the same for machines
  client.yaml          how your adapter is started, and what it can do

Then:
  cd {0}
  levada-conformance run --conf client.yaml --run 'connect/**'   # against a server that is brought along
  levada-conformance run --conf client.yaml --out report/        # everything you declare; report/report.json is what you publish",
        folder.display()
    ));
    ExitCode::SUCCESS
}

fn write(folder: &Path) -> std::io::Result<()> {
    let checklist = checklist();
    let own = FILES.iter().map(|(name, text)| ((*name).to_owned(), *text));
    let vectors = VECTORS.iter().map(|(name, text)| (format!("vectors/{name}"), *text));
    for (name, text) in own.chain(vectors).chain([("CHECKLIST.md".to_owned(), checklist.as_str())]) {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

fn checklist() -> String {
    let mut out = String::from(
        "# Checklist\n\nIn this order each step can be tried at once. Declare a feature in `client.yaml` and in `hello` when its \
         operations answer.\n\n\
         - [ ] every vector decodes, and encodes back to the same bytes\n\
         - [ ] `hello`, `stats`, `reset`, `shutdown` answer; the process ends when standard input does\n",
    );
    let mut features: Vec<&str> = Vec::new();
    for op in OPS.iter().filter(|op| !features_contains(&mut features, op.feature)) {
        let ops: Vec<String> = OPS.iter().filter(|other| other.feature == op.feature).map(shown).collect();
        let _ = writeln!(out, "- [ ] `{}`: {}", op.feature, ops.join(", "));
    }
    let _ = writeln!(
        out,
        "\nWhat a client can do beyond its operations is declared too: `{}`. Section 2 of adapter-protocol.md says what each means.",
        BEHAVIOURS.join("`, `")
    );
    out
}

/// Whether it was there; it is from now on.
fn features_contains<'a>(features: &mut Vec<&'a str>, feature: &'a str) -> bool {
    let known = features.contains(&feature);
    if !known {
        features.push(feature);
    }
    known
}

fn shown(op: &levada_conformance::ops::Op) -> String {
    if op.args.is_empty() { format!("`{}`", op.name) } else { format!("`{}` ({})", op.name, op.args.join(", ")) }
}
