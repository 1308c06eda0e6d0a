//! Passwords: from a file, a prompt without echo, or standard input. Never from an argument, which others could read.

use crate::failure::Failure;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

const MAX_PASSWORD_BYTES: u64 = 1024;

/// The password of `--login`. Standard input is not asked: it may hold messages.
pub(crate) fn login_password(user: &str, file: Option<&Path>) -> Result<String, Failure> {
    match file {
        // As any other credential that cannot be read.
        Some(path) => from_file(path).map_err(|failure| Failure::usage(failure.to_string())),
        None if io::stdin().is_terminal() => prompt(&format!("Password of {user}: ")),
        None => {
            Err(Failure::usage("there is no terminal to ask for a password on").hint("Use --login-password-file FILE"))
        }
    }
}

/// A new password: asked for twice on a terminal, else the first line of standard input.
pub(crate) fn new_password(user: &str, file: Option<&Path>) -> Result<String, Failure> {
    if let Some(path) = file {
        return from_file(path);
    }
    if !io::stdin().is_terminal() {
        return first_line(&mut io::stdin().lock());
    }
    let password = prompt(&format!("New password of {user}: "))?;
    if prompt("Once more: ")? != password {
        return Err(Failure::failed("the two passwords differ; nothing was changed"));
    }
    Ok(password)
}

fn prompt(text: &str) -> Result<String, Failure> {
    rpassword::prompt_password(text).map_err(|error| Failure::failed(format!("cannot ask for a password: {error}")))
}

fn from_file(path: &Path) -> Result<String, Failure> {
    let file = fs::File::open(path).map_err(|error| Failure::file("read", path, &error))?;
    first_line(&mut io::BufReader::new(file))
}

fn first_line(input: &mut dyn BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    let mut limited = input.take(MAX_PASSWORD_BYTES + 2);
    limited.read_line(&mut line).map_err(|error| Failure::failed(format!("cannot read the password: {error}")))?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_end_is_not_part_of_a_password() {
        for text in ["open sesame", "open sesame\n", "open sesame\r\n", "open sesame\nmore"] {
            assert_eq!(first_line(&mut text.as_bytes()).expect("a password"), "open sesame");
        }
        assert!(first_line(&mut "\n".as_bytes()).is_err());
        assert!(first_line(&mut "".as_bytes()).is_err());
    }
}
