//! A client's description (`client.yaml`): how its adapter is started and what it declares. Those of this repository are built in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::adapter::Launch;
use crate::ops;
use crate::wire;

/// A client under test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// A column of the report.
    pub name: String,
    /// Program and arguments of its adapter. Words that begin with `./` or `../` are relative to
    /// the folder of the description.
    pub command: Vec<String>,
    /// What makes the adapter; the repository's own tasks run it.
    #[serde(default)]
    pub build: Vec<String>,
    /// Programs without which it can be neither built nor run.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Variables of its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it can do.
    pub features: BTreeSet<String>,
    /// Highest version of the protocol it speaks; absent is the newest.
    #[serde(default)]
    pub speaks: Option<u16>,
    /// Its known failures, relative to the folder of the description.
    #[serde(default)]
    pub known: Option<PathBuf>,
    /// Folder of the description.
    #[serde(skip)]
    pub base: PathBuf,
}

impl Description {
    /// Highest version of the protocol it speaks.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.speaks.unwrap_or_else(|| wire::schema().newest_version())
    }

    /// Reads a description; `{root}` and `{target}` in it are the repository and its build directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Description, String> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| at(&error))?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = base.canonicalize().map_err(|error| at(&error))?;
        Description::parse(&text, base).map_err(|error| at(&error))
    }

    fn parse(text: &str, base: PathBuf) -> Result<Description, String> {
        let mut description: Description = crate::yaml::read(text)?;
        description.base = base;
        if let Some(unknown) = description.features.iter().find(|name| !ops::is_feature(name)) {
            return Err(format!("there is no feature {unknown:?}"));
        }
        if !description.features.contains("core") {
            return Err("every client declares `core`".to_owned());
        }
        let target = target_dir();
        let expand = |text: &String| text.replace("{target}", &target.display().to_string());
        description.command = description.command.iter().map(expand).collect();
        description.env = description.env.iter().map(|(key, value)| (key.clone(), expand(value))).collect();
        Ok(description)
    }

    /// How its adapter is started with that `HOME`.
    pub fn launch(&self, home: &Path) -> Launch {
        Launch { command: self.command.clone(), env: self.env.clone(), base: self.base.clone(), home: home.to_owned() }
    }
}

/// The folder this program lies in, where adapters written in Rust and native libraries lie too.
fn target_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where descriptions of built-in clients are: `clients` in the suite's folder of the repository this program runs in.
pub fn folder() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|folder| folder.join("conformance/clients")).find(|folder| folder.is_dir())
}

/// Names of the clients described in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_and_unknown_features_are_refused() {
        let text = "name: x\ncommand: [./x, '{target}/y']\nfeatures: [core, produce]\n";
        let description = Description::parse(text, PathBuf::from("/")).unwrap();
        assert!(description.command[1].ends_with("/y") && !description.command[1].starts_with('{'));
        assert!(Description::parse(&text.replace("produce", "magic"), PathBuf::new()).is_err());
        assert!(Description::parse(&text.replace("core, ", ""), PathBuf::new()).is_err());
        assert!(Description::parse(&format!("{text}colour: red\n"), PathBuf::new()).is_err());
    }

    #[test]
    fn every_client_of_the_repository_has_a_readable_description() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
        for name in names(&folder) {
            let description = Description::read(&folder.join(format!("{name}.yaml"))).unwrap();
            assert_eq!(description.name, name);
        }
    }

    #[test]
    fn a_client_of_every_version_stays_in_the_suite() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
        let described = |name: &String| Description::read(&folder.join(format!("{name}.yaml"))).unwrap().version();
        let spoken: BTreeSet<u16> = names(&folder).iter().map(described).collect();
        let versions: BTreeSet<u16> = (1..=wire::schema().newest_version()).collect();
        assert_eq!(spoken, versions, "a version that the server speaks is tried by a client that knows no later one");
    }
}
