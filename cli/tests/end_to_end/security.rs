//! Users, tokens, contexts: who may do what, and what is kept secret.

use crate::vocabulary::{Run, Server, levada, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// The command line of somebody who finds no credentials by himself.
fn stranger(server: &Server, arguments: &[&str]) -> Run {
    let home = TempDir::new().expect("a temporary directory");
    run(levada(home.path()).args(["--server", &server.address]).args(arguments), b"")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn without_or_with_wrong_credentials_it_is_exit_4() {
    let server = Server::start();
    stranger(&server, &["status"]).failed(4, &["--token-file"]);
    let wrong = server.directory.path().join("wrong.token");
    fs::write(&wrong, "levada_nonsense\n").expect("a file");
    let wrong = wrong.to_str().expect("text");
    stranger(&server, &["--token-file", wrong, "topic", "list"]).failed(4, &["levada: "]);
    fs::write(server.directory.path().join("pw"), "not the password\n").expect("a file");
    let password = server.directory.path().join("pw");
    let login = ["--login", "root", "--login-password-file", password.to_str().expect("text"), "topic", "list"];
    stranger(&server, &login).failed(4, &["AUTH_FAILED"]);
    stranger(&server, &["--login", "root", "topic", "list"]).failed(2, &["--login-password-file"]);
}

#[test]
fn a_member_produces_and_consumes_but_does_not_manage() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    let created = run(server.command().args(["user", "create", "ada", "--grant", "a/b:read"]), b"correct horse\n")
        .succeeded(&["user create"]);
    assert_eq!(created.text(), "Created user ada with role member\n");
    server.run(&["user", "create", "bob", "--password-file", "/dev/null"]).failed(2, &["the password is empty"]);
    let password = server.directory.path().join("ada.pw");
    fs::write(&password, "correct horse").expect("a file");
    let ada = |arguments: &[&str]| {
        let login = ["--login", "ada", "--login-password-file", password.to_str().expect("text")];
        stranger(&server, &[&login, arguments].concat())
    };
    ada(&["consume", "a/b", "--from", "earliest"]).succeeded(&["a member consumes"]);
    ada(&["topic", "create", "a/c"]).failed(4, &["PERMISSION_DENIED"]);
    ada(&["user", "list"]).failed(4, &["PERMISSION_DENIED"]);
    server.must(&["user", "alter", "ada", "--role", "admin"]);
    ada(&["topic", "create", "a/c"]).succeeded(&["an admin creates"]);
    assert_eq!(server.json(&["user", "describe", "ada"])["role"], "admin");
    let changed =
        run(server.command().args(["user", "alter", "ada", "--password"]), b"another password\n").succeeded(&[]);
    assert!(changed.text().contains("with a new password"));
    ada(&["topic", "list"]).failed(4, &["AUTH_FAILED"]);

    fs::write(&password, "another password").expect("a file");
    let next = server.directory.path().join("next.pw");
    fs::write(&next, "a third password").expect("a file");
    let own = ada(&["user", "alter", "ada", "--password-file", next.to_str().expect("text")]);
    let own = own.succeeded(&["the own password"]).text();
    assert!(own.contains("with a new password; what the old one opened has ended"), "{own}");
    ada(&["topic", "list"]).failed(4, &["AUTH_FAILED"]);
    fs::write(&password, "a third password").expect("a file");
    ada(&["topic", "list"]).succeeded(&["the new password"]);
    server.must(&["user", "delete", "ada"]);
    server.run(&["user", "describe", "ada"]).failed(1, &["USER_NOT_FOUND"]);
}

#[test]
fn members_do_what_they_are_granted_and_are_told_what_is_missing() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    server.must(&["topic", "create", "a/c"]);
    let created = run(server.command().args(["user", "create", "bob"]), b"correct horse\n").succeeded(&["user create"]);
    let created = created.text();
    assert!(created.contains("levada access set bob --grant"), "{created}");
    let password = server.directory.path().join("bob.pw");
    fs::write(&password, "correct horse").expect("a file");
    let bob = |arguments: &[&str]| {
        let login = ["--login", "bob", "--login-password-file", password.to_str().expect("text")];
        stranger(&server, &[&login, arguments].concat())
    };
    assert!(bob(&["topic", "list"]).succeeded(&["an empty list"]).text().starts_with("No topics."));
    bob(&["topic", "describe", "a/b"])
        .failed(4, &["PERMISSION_DENIED", "levada access set bob --add --grant 'a/b:read'"]);
    server.must(&["access", "set", "bob", "--grant", "a/b:read"]);
    bob(&["topic", "describe", "a/b"]).succeeded(&["it is granted"]);
    bob(&["topic", "describe", "a/c"]).failed(4, &["PERMISSION_DENIED"]);

    server.must(&["role", "set", "writers", "--grant", "*/*:write"]);
    let shown = server.must(&["access", "set", "bob", "--add", "--role", "writers"]);
    assert!(shown.contains("a/b") && shown.contains("*/*") && shown.contains("writers"), "{shown}");
    assert_eq!(server.json(&["access", "show", "bob"])["effective"], serde_json::json!(["*/*:write", "a/b:read"]));
    assert_eq!(server.json(&["role", "list"])[0]["user_count"], 1);
    assert!(bob(&["access", "show"]).succeeded(&["the own"]).text().contains("*/*"));
    server.must(&["role", "delete", "writers"]);
    server.run(&["role", "delete", "writers"]).failed(1, &["ROLE_NOT_FOUND"]);
    bob(&["topic", "describe", "a/c"]).failed(4, &["PERMISSION_DENIED"]);
    server.run(&["access", "set", "bob", "--grant", "a/b:fly"]).failed(2, &["is no grant"]);

    let token = server.directory.path().join("scoped.token");
    let path = token.to_str().expect("text");
    server.must(&["token", "create", "scoped", "--scope", "a/b:read", "--write", path]);
    stranger(&server, &["--token-file", path, "topic", "describe", "a/b"]).succeeded(&["the scope"]);
    stranger(&server, &["--token-file", path, "topic", "delete", "a/b"]).failed(4, &["PERMISSION_DENIED"]);
    let list = server.must(&["token", "list"]);
    assert!(list.contains("SCOPE") && list.contains("a/b:read") && list.contains("all of its user"), "{list}");
    let listed = server.json(&["token", "list"]);
    let scope_of = |name: &str| listed.as_array().and_then(|tokens| tokens.iter().find(|token| token["name"] == name));
    assert_eq!(scope_of("scoped").expect("it is listed")["scope"], serde_json::json!(["a/b:read"]));
    assert!(scope_of("root").expect("it is listed")["scope"].is_null());
    assert!(server.must(&["token", "describe", "scoped"]).contains("a/b:read"));

    server.must(&["quota", "set", "bob", "--bytes-in", "10MiB", "--connections", "20"]);
    server.must(&["quota", "set", "bob", "--connections", "0", "--requests", "500"]);
    let quota = server.json(&["quota", "show", "bob"]);
    assert_eq!((&quota["bytes_in"], &quota["requests"]), (&10_485_760.into(), &500.into()));
    assert!(quota["connections"].is_null() && quota["bytes_out"].is_null(), "{quota}");
}

#[test]
fn a_token_is_shown_once_works_and_ends() {
    let server = Server::start();
    let file = server.directory.path().join("ci.token");
    let path = file.to_str().expect("text");
    server.must(&["token", "create", "ci", "--expires-in", "30d", "--write", path]);
    assert_eq!(mode(&file), 0o600);
    stranger(&server, &["--token-file", path, "status"]).succeeded(&["the token works"]);
    server.run(&["token", "create", "again", "--write", path]).failed(1, &["cannot create", "exists"]);
    let secret = fs::read_to_string(&file).expect("the secret");
    let list = server.must(&["token", "list"]);
    assert!(list.contains("ci") && !list.contains(secret.trim()), "{list}");
    assert!(server.json(&["token", "describe", "ci"])["expires_at"].is_string());

    let shown = server.run(&["token", "create", "other"]).succeeded(&[]);
    assert!(shown.stderr.contains("not shown again"), "{}", shown.stderr);
    let other = server.directory.path().join("other.token");
    fs::write(&other, shown.stdout).expect("a file");
    stranger(&server, &["--token-file", other.to_str().expect("text"), "status"])
        .succeeded(&["standard output is the secret"]);

    server.must(&["token", "delete", "ci"]);
    stranger(&server, &["--token-file", path, "status"]).failed(4, &["levada: "]);
}

#[test]
fn contexts_are_saved_privately_and_used() {
    let server = Server::start();
    server.must(&[
        "token",
        "create",
        "laptop",
        "--write",
        server.directory.path().join("laptop.token").to_str().expect("text"),
    ]);
    let home = TempDir::new().expect("a temporary directory");
    let me = |arguments: &[&str]| run(levada(home.path()).args(arguments), b"");
    let token = server.directory.path().join("laptop.token");
    me(&["context", "add", "lab", &server.address, "--with-token-file", token.to_str().expect("text")])
        .succeeded(&["add"]);
    assert_eq!(mode(&home.path().join(".config/levada/contexts.toml")), 0o600);
    me(&["status"]).succeeded(&["the first context is in use"]);
    me(&["context", "add", "gone", "127.0.0.1:1", "--use"]).succeeded(&["add"]);
    me(&["status"]).failed(3, &["cannot reach 127.0.0.1:1"]);
    me(&["--context", "lab", "status"]).succeeded(&["a context by name"]);
    me(&["context", "use", "lab"]).succeeded(&["use"]);
    me(&["status"]).succeeded(&["the chosen context is in use"]);
    let list = me(&["context", "list"]).succeeded(&["list"]).text();
    assert!(list.lines().any(|line| line.starts_with("lab ") && line.ends_with("yes")), "{list}");
    me(&["context", "remove", "gone"]).succeeded(&["remove"]);
    me(&["context", "use", "gone"]).failed(1, &["there is no context `gone`", "levada context list"]);
    me(&["--context", "gone", "status"]).failed(2, &["gone"]);
}
