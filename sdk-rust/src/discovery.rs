//! Which server to talk to and with what credentials, when the caller leaves it open.
//!
//! Order: what the caller said; `LEVADA_SERVER` and `LEVADA_TOKEN_FILE`; the selected saved context; the file that a server
//! on this machine leaves for its own user. Local credentials are only ever sent to a loopback address.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use levada_protocol::ErrorCode;
use serde::Deserialize;

use crate::address::ServerAddress;
use crate::contexts::Contexts;
use crate::credentials::Credentials;
use crate::error::{Error, Result};

/// What a client needs before it can connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) address: ServerAddress,
    pub(crate) credentials: Credentials,
    pub(crate) ca_file: Option<PathBuf>,
}

/// What the caller said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) server: Option<String>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) context: Option<String>,
}

/// The parts of a process's environment that discovery reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    variables: BTreeMap<&'static str, String>,
}

const VARIABLES: [&str; 6] =
    ["LEVADA_SERVER", "LEVADA_TOKEN_FILE", "LEVADA_CONTEXT", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME"];

/// What a server writes when it listens on a loopback address.
#[derive(Deserialize)]
struct LoopbackFile {
    #[serde(alias = "address")]
    tcp: String,
    #[serde(default)]
    token_file: Option<PathBuf>,
}

impl Surroundings {
    pub(crate) fn of_process() -> Surroundings {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name, value));
        Surroundings { variables: VARIABLES.into_iter().filter_map(read).collect() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub(crate) fn contexts_path(&self) -> Option<PathBuf> {
        let base = match self.variable("XDG_CONFIG_HOME") {
            Some(base) => PathBuf::from(base),
            None => Path::new(self.variable("HOME")?).join(".config"),
        };
        Some(base.join("levada").join("contexts.toml"))
    }

    fn loopback_folders(&self) -> Vec<PathBuf> {
        let runtime = self.variable("XDG_RUNTIME_DIR").map(|base| Path::new(base).join("levada"));
        let state = self.variable("HOME").map(|home| Path::new(home).join(".local/state/levada"));
        runtime.into_iter().chain(state).collect()
    }

    fn loopback_file(&self, port: u16) -> Option<LoopbackFile> {
        self.loopback_folders().iter().find_map(|folder| read_loopback(&folder.join(format!("{port}.json"))))
    }

    /// The one server announced on this machine: that of the usual port, else the only one there is.
    fn only_loopback_file(&self) -> Option<LoopbackFile> {
        if let Some(usual) = self.loopback_file(crate::address::DEFAULT_PORT) {
            return Some(usual);
        }
        let mut found: Vec<PathBuf> = self
            .loopback_folders()
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        found.sort();
        match found.as_slice() {
            [path] => read_loopback(path),
            _ => None,
        }
    }

    /// Decides where to connect.
    pub(crate) fn resolve(&self, wish: Wish) -> Result<Destination> {
        let explicit_context =
            wish.context.as_deref().or_else(|| self.variable("LEVADA_CONTEXT").filter(|_| wish.server.is_none()));
        let from_environment = self.variable("LEVADA_TOKEN_FILE").map(Credentials::token_file);
        let server = wish.server.as_deref().or_else(|| match explicit_context {
            None => self.variable("LEVADA_SERVER"),
            Some(_) => None,
        });
        if let Some(server) = server {
            let address: ServerAddress = server.parse()?;
            let has_credentials = wish.credentials.is_some() || from_environment.is_some();
            // Whoever brings credentials and needs no authorities needs no file either.
            let context =
                if has_credentials && !address.tls { None } else { self.context_of(&address, has_credentials) };
            let (saved, ca_file) = context.map_or((None, None), |context| (context.credentials(), context.ca_file));
            let credentials =
                wish.credentials.or(from_environment).or(saved).or_else(|| self.local_credentials(&address));
            return Ok(Destination { address, credentials: credentials.unwrap_or(Credentials::Anonymous), ca_file });
        }
        if let Some(context) = self.selected_context(explicit_context)? {
            let address: ServerAddress = context.server.parse()?;
            let credentials = wish
                .credentials
                .or(from_environment)
                .or_else(|| context.credentials())
                .or_else(|| self.local_credentials(&address));
            let credentials = credentials.unwrap_or(Credentials::Anonymous);
            return Ok(Destination { address, credentials, ca_file: context.ca_file });
        }
        let (address, local) = match self.only_loopback_file() {
            Some(file) => (file.tcp.parse()?, file.token_file.map(Credentials::TokenFile)),
            None => ("127.0.0.1".parse()?, None),
        };
        let credentials = wish.credentials.or(from_environment).or(local).unwrap_or(Credentials::Anonymous);
        Ok(Destination { address, credentials, ca_file: None })
    }

    fn selected_context(&self, name: Option<&str>) -> Result<Option<crate::contexts::Context>> {
        let Some(path) = self.contexts_path() else {
            return match name {
                Some(name) => {
                    Err(Error::usage("context", format!("there is no home directory to look for context {name:?} in")))
                }
                None => Ok(None),
            };
        };
        let contexts = Contexts::load(path)?;
        match name {
            Some(name) => match contexts.get(name) {
                Some(context) => Ok(Some(context.clone())),
                None => Err(Error::usage("context", format!("there is no context {name:?}"))),
            },
            None => Ok(contexts.current().map(|(_, context)| context.clone())),
        }
    }

    /// The saved context of that very server. A damaged file does not matter to a caller who brought credentials.
    fn context_of(&self, address: &ServerAddress, has_credentials: bool) -> Option<crate::contexts::Context> {
        let contexts = match Contexts::load(self.contexts_path()?) {
            Ok(contexts) => contexts,
            Err(error) => {
                if !has_credentials {
                    tracing::warn!(%error, "saved contexts are not used");
                }
                return None;
            }
        };
        let same = |context: &&crate::contexts::Context| {
            context.server.parse::<ServerAddress>().is_ok_and(|known| known == *address)
        };
        contexts.iter().map(|(_, context)| context).find(same).cloned()
    }

    fn local_credentials(&self, address: &ServerAddress) -> Option<Credentials> {
        if !address.is_loopback() {
            return None;
        }
        self.loopback_file(address.port)?.token_file.map(Credentials::TokenFile)
    }
}

fn read_loopback(path: &Path) -> Option<LoopbackFile> {
    let text = fs::read_to_string(path).ok()?;
    let file: LoopbackFile = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a server's discovery file is not understood");
            return None;
        }
    };
    // A file that names another machine would send its token there.
    file.tcp.parse::<ServerAddress>().ok().filter(ServerAddress::is_loopback)?;
    Some(file)
}

/// The longest token file that is read, in bytes: a token is one short line.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

/// Reads a token from its file, without the white space around it.
pub(crate) fn read_token(path: &Path) -> Result<String> {
    let unreadable = |why: String| {
        Error::new(ErrorCode::CredentialsUnreadable, format!("{}: {why}", path.display()))
            .with_detail("path", path.display())
    };
    let file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let text = io::read_to_string(io::Read::take(file, MAX_TOKEN_FILE_BYTES))
        .map_err(|error| unreadable(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(unreadable("it is empty".to_owned()));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::Context;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Home {
            Home(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn announce(&self, port: u16, json: &str) {
            let folder = self.path().join("run/levada");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("{port}.json")), json).unwrap();
        }

        fn save(&self, name: &str, context: Context) {
            let mut contexts = Contexts::load(self.path().join(".config/levada/contexts.toml")).unwrap();
            contexts.set(name, context);
            contexts.save().unwrap();
        }

        fn with(&self, more: &[(&'static str, &str)]) -> Surroundings {
            let run = self.path().join("run").display().to_string();
            let mut variables = BTreeMap::from([("HOME", self.path().display().to_string()), ("XDG_RUNTIME_DIR", run)]);
            variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
            Surroundings { variables }
        }
    }

    fn wish(server: &str) -> Wish {
        Wish { server: Some(server.to_owned()), ..Wish::default() }
    }

    #[test]
    fn with_nothing_said_and_nothing_found_the_usual_local_server_is_asked() {
        let found = Home::new().with(&[]).resolve(Wish::default()).unwrap();
        assert_eq!(found.address.to_string(), "levada://127.0.0.1:7420");
        assert_eq!(found.credentials, Credentials::Anonymous);
    }

    #[test]
    fn each_source_yields_to_the_one_before_it() {
        let home = Home::new();
        home.announce(7420, r#"{"tcp": "127.0.0.1:7420", "token_file": "/d/root.token", "pid": 1}"#);
        let found = home.with(&[]).resolve(Wish::default()).unwrap();
        assert_eq!(found.credentials, Credentials::token_file("/d/root.token"));

        home.save("lab", Context { server: "lab:1".into(), token: Some("t".into()), ..Context::default() });
        let found = home.with(&[]).resolve(Wish::default()).unwrap();
        assert_eq!((found.address.host.as_str(), &found.credentials), ("lab", &Credentials::token("t")));

        let variables = [("LEVADA_SERVER", "env:2"), ("LEVADA_TOKEN_FILE", "/env")];
        let found = home.with(&variables).resolve(Wish::default()).unwrap();
        assert_eq!((found.address.host.as_str(), &found.credentials), ("env", &Credentials::token_file("/env")));

        let said = Wish { credentials: Some(Credentials::token("said")), ..wish("said:3") };
        let found = home.with(&variables).resolve(said).unwrap();
        assert_eq!((found.address.host.as_str(), &found.credentials), ("said", &Credentials::token("said")));
    }

    #[test]
    fn a_named_context_wins_over_the_environment_and_must_exist() {
        let home = Home::new();
        home.save("lab", Context { server: "lab:1".into(), ..Context::default() });
        let named = |name: &str| Wish { context: Some(name.to_owned()), ..Wish::default() };
        let surroundings = home.with(&[("LEVADA_SERVER", "env:2")]);
        assert_eq!(surroundings.resolve(named("lab")).unwrap().address.host, "lab");
        assert!(surroundings.resolve(named("other")).unwrap_err().is(ErrorCode::ClientUsage));
    }

    #[test]
    fn a_local_token_goes_to_a_local_server_only() {
        let home = Home::new();
        home.announce(9000, r#"{"tcp": "127.0.0.1:9000", "token_file": "/d/root.token"}"#);
        let surroundings = home.with(&[]);
        assert_eq!(
            surroundings.resolve(wish("localhost:9000")).unwrap().credentials,
            Credentials::token_file("/d/root.token")
        );
        assert_eq!(surroundings.resolve(wish("example.org:9000")).unwrap().credentials, Credentials::Anonymous);
        assert_eq!(
            surroundings.resolve(Wish::default()).unwrap().address.port,
            9000,
            "the only announced server is found"
        );
        home.announce(9001, r#"{"tcp": "evil.example:9001", "token_file": "/d/root.token"}"#);
        assert_eq!(surroundings.resolve(wish("localhost:9001")).unwrap().credentials, Credentials::Anonymous);
    }

    #[test]
    fn a_token_file_is_trimmed_and_must_hold_something() {
        let home = Home::new();
        let path = home.path().join("token");
        assert!(read_token(&path).unwrap_err().is(ErrorCode::CredentialsUnreadable));
        fs::write(&path, "\n").unwrap();
        assert!(read_token(&path).is_err());
        fs::write(&path, "abc\n").unwrap();
        assert_eq!(read_token(&path).unwrap(), "abc");
    }
}
