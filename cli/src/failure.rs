//! How a command ends badly: what a person reads on standard error and what a script reads as the exit code.
//!
//! The exit codes are part of the contract with scripts: 0 done, 1 failed, 2 usage, 3 not reachable, 4 denied.
//! A reader that closed our output early (`| head`) is not a failure: it ends the command quietly with 0.

use std::fmt;
use std::io;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Denied = 4,
}

#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    /// With an exit code and no words: what there is to say has been said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, message: String::new(), hint: None }
    }

    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// What to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file that could not be read or written.
    pub(crate) fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self::failed(format!("cannot {verb} {}: {}", path.display(), plain(error)))
    }

    /// Standard output could not be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Done);
        }
        Self::failed(format!("cannot write to standard output: {}", plain(error)))
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, ". {hint}"),
            None => Ok(()),
        }
    }
}

/// The text of an operating system error, without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_quiet_and_done() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_silent());
        assert_eq!(failure.exit(), Exit::Done);
        let failure = Failure::output(&io::Error::from(io::ErrorKind::StorageFull));
        assert!(!failure.is_silent());
        assert_eq!(failure.exit(), Exit::Failed);
    }

    #[test]
    fn a_failure_says_what_to_do_next() {
        let failure = Failure::failed("cannot reach 127.0.0.1:7420").hint("Is the server running?");
        assert_eq!(failure.to_string(), "cannot reach 127.0.0.1:7420. Is the server running?");
        let missing = Failure::file("read", Path::new("a.txt"), &io::Error::from_raw_os_error(2));
        assert_eq!(missing.to_string(), "cannot read a.txt: No such file or directory");
    }
}
