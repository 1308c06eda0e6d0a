//! The file that tells clients of the same user on the same machine where the server is and which token to use:
//! `$XDG_RUNTIME_DIR/levada/PORT.json`, else `~/.local/state/levada/PORT.json`, readable by its owner only. It exists while
//! the server runs; one left by a crash is replaced by the next start on that port.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

#[derive(Serialize)]
struct Content<'a> {
    tcp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a Path>,
    pid: u32,
    data_dir: &'a Path,
}

/// The file of a running server.
#[derive(Debug)]
pub struct DiscoveryFile {
    path: PathBuf,
}

/// The folder for discovery files, from the variables `XDG_RUNTIME_DIR` and `HOME`.
#[must_use]
pub fn folder(xdg_runtime_dir: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let runtime = xdg_runtime_dir.filter(|path| path.is_absolute()).map(|path| path.join("levada"));
    let state = home.filter(|path| path.is_absolute()).map(|path| path.join(".local/state/levada"));
    runtime.or(state)
}

impl DiscoveryFile {
    /// Writes the file of a server that listens on `address`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(folder: &Path, address: SocketAddr, data_dir: &Path, token_file: Option<&Path>) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(format!("{}.json", address.port()));
        let reachable = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
        let tcp = SocketAddr::new(reachable, address.port()).to_string();
        let content = Content { tcp, token_file, pid: std::process::id(), data_dir };
        write_private(&path, &serde_json::to_vec_pretty(&content)?)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DiscoveryFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "discovery file not removed");
        }
    }
}

/// Writes a file only its owner may read, durably, over what was there: a reader sees the old or the new content.
///
/// # Errors
/// What the file system says.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    // Whoever made a file of that name first would choose its mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_private_and_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let address = "0.0.0.0:7777".parse().unwrap();
        let inner = folder.path().join("levada");
        let file = DiscoveryFile::write(&inner, address, Path::new("/data"), Some(Path::new("/data/t"))).unwrap();
        let path = file.path().to_owned();
        assert_eq!(path, inner.join("7777.json"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let content: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((&content["tcp"], &content["token_file"]), (&"127.0.0.1:7777".into(), &"/data/t".into()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(folder(path("/run/u"), path("/home/u")), path("/run/u/levada"));
        assert_eq!(folder(None, path("/home/u")), path("/home/u/.local/state/levada"));
        assert_eq!(folder(path("relative"), None), None);
    }
}
