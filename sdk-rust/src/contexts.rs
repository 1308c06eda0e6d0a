//! Saved contexts: named servers with their credentials, in one TOML file that only its owner can read (0600).
//!
//! The file is replaced whole by a rename, so that a reader never sees half of it.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use levada_protocol::ErrorCode;
use serde::{Deserialize, Serialize};

use crate::credentials::Credentials;
use crate::discovery::Surroundings;
use crate::error::{Error, Result};

/// A server and how to prove oneself to it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Address of the server.
    pub server: String,
    /// Text of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// File that holds a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// User, with `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password of `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Authorities to trust, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Context {
    /// The credentials it holds, if any.
    pub fn credentials(&self) -> Option<Credentials> {
        if let Some(token) = &self.token {
            return Some(Credentials::token(token));
        }
        if let Some(path) = &self.token_file {
            return Some(Credentials::token_file(path));
        }
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => Some(Credentials::password(user, password)),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("server", &self.server).field("user", &self.user).finish_non_exhaustive()
    }
}

/// The file of saved contexts.
///
/// ```
/// use levada::{Context, Contexts};
///
/// let directory = tempfile::tempdir().unwrap();
/// let path = directory.path().join("contexts.toml");
/// let mut contexts = Contexts::load(&path)?;
/// contexts.set("lab", Context { server: "levada://lab:7420".into(), ..Context::default() });
/// contexts.select("lab")?;
/// contexts.save()?;
/// assert_eq!(Contexts::load(&path)?.current().unwrap().1.server, "levada://lab:7420");
/// # Ok::<(), levada::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Contexts {
    path: PathBuf,
    file: File,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Where the file is: `$XDG_CONFIG_HOME/levada/contexts.toml`, else `~/.config/levada/contexts.toml`.
    pub fn default_path() -> Option<PathBuf> {
        Surroundings::of_process().contexts_path()
    }

    /// Reads the file; one that is absent counts as empty.
    ///
    /// # Errors
    /// `CREDENTIALS_UNREADABLE` if it cannot be read or understood.
    pub fn load(path: impl Into<PathBuf>) -> Result<Contexts> {
        let path = path.into();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unreadable(&path, error)),
        };
        // The parser's own message quotes the line it fails on, which may hold a secret.
        let file = toml::from_str(&text).map_err(|error: toml::de::Error| unreadable(&path, error.message()))?;
        Ok(Contexts { path, file })
    }

    /// Reads the file of the present user.
    ///
    /// # Errors
    /// As [`Contexts::load`]; also if there is no home directory.
    pub fn load_default() -> Result<Contexts> {
        let path = Contexts::default_path().ok_or_else(|| {
            Error::new(ErrorCode::CredentialsUnreadable, "there is no home directory for saved contexts")
        })?;
        Contexts::load(path)
    }

    /// The file it was read from and goes to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and contexts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Context)> {
        self.file.contexts.iter().map(|(name, context)| (name.as_str(), context))
    }

    /// One context.
    pub fn get(&self, name: &str) -> Option<&Context> {
        self.file.contexts.get(name)
    }

    /// The selected context and its name.
    pub fn current(&self) -> Option<(&str, &Context)> {
        let name = self.file.current.as_deref()?;
        Some((name, self.file.contexts.get(name)?))
    }

    /// Adds or replaces a context. The first one becomes the selected one.
    pub fn set(&mut self, name: &str, context: Context) {
        self.file.contexts.insert(name.to_owned(), context);
        if self.current().is_none() {
            self.file.current = Some(name.to_owned());
        }
    }

    /// Removes a context and tells whether it was there; if it was the selected one, none is selected then.
    pub fn remove(&mut self, name: &str) -> bool {
        if self.file.current.as_deref() == Some(name) {
            self.file.current = None;
        }
        self.file.contexts.remove(name).is_some()
    }

    /// Selects the context that clients use when they are told nothing.
    ///
    /// # Errors
    /// A usage error if there is none of that name.
    pub fn select(&mut self, name: &str) -> Result<()> {
        if !self.file.contexts.contains_key(name) {
            return Err(Error::usage("context", format!("there is no context {name:?}")));
        }
        self.file.current = Some(name.to_owned());
        Ok(())
    }

    /// Writes the file, readable by its owner only, and its folder.
    ///
    /// # Errors
    /// `CREDENTIALS_UNREADABLE` if it cannot be written.
    pub fn save(&self) -> Result<()> {
        let text = toml::to_string_pretty(&self.file)
            .map_err(|error| Error::internal(format!("contexts cannot be encoded: {error}")))?;
        write_private(&self.path, text.as_bytes()).map_err(|error| unreadable(&self.path, error))
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    // A leftover of a process of the same number may have any mode: it must not be reused.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::CredentialsUnreadable, format!("{}: {why}", path.display()))
        .with_detail("path", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_file_is_private_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/contexts.toml");
        let mut contexts = Contexts::load(&path).unwrap();
        assert!(contexts.current().is_none());
        let lab = Context { server: "lab:1".into(), token: Some("secret".into()), ..Context::default() };
        contexts.set("lab", lab.clone());
        contexts.set(
            "prod",
            Context { server: "prod".into(), user: Some("u".into()), password: Some("p".into()), ..Context::default() },
        );
        contexts.save().unwrap();
        contexts.save().unwrap();
        let again = Contexts::load(&path).unwrap();
        assert_eq!(again.current(), Some(("lab", &lab)));
        assert_eq!(again.get("prod").unwrap().credentials(), Some(Credentials::password("u", "p")));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);
    }

    #[test]
    fn removing_the_selected_context_selects_none() {
        let mut contexts = Contexts { path: "x".into(), file: File::default() };
        contexts.set("a", Context::default());
        assert!(contexts.remove("a"));
        assert!(!contexts.remove("a"));
        assert!(contexts.current().is_none());
        assert!(contexts.select("a").is_err());
    }

    #[test]
    fn a_damaged_file_is_an_error_that_shows_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("contexts.toml");
        fs::write(&path, "[contexts.a]\nserver = \"h\"\ntoken = \"hush\" \"").unwrap();
        let error = Contexts::load(&path).unwrap_err();
        assert!(error.is(ErrorCode::CredentialsUnreadable));
        assert!(!error.to_string().contains("hush"), "{error}");
        assert!(!format!("{:?}", Context { token: Some("hush".into()), ..Context::default() }).contains("hush"));
    }
}
