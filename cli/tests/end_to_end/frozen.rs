//! Directories that servers of earlier releases left: opened, read whole, appended to, verified. See conformance/frozen.

use crate::vocabulary::{Run, Server, levada, run, server_binary};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/frozen")
}

/// Every archive there is.
fn archives() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("the frozen directories");
    let mut found: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    found.sort();
    found
}

fn unpacked(archive: &Path) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(directory.path()).status();
    assert!(status.expect("tar runs").success());
    directory
}

/// What make.sh sent: messages of the numbers, with zeros up to a length that follows from the number.
fn lines(what: &str, numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| format!("{what} {number:06} {:01$}\n", 0, number % 700)).collect()
}

fn offline(directory: &TempDir, arguments: &[&str]) -> Run {
    run(levada(directory.path()).current_dir(directory.path()).args(arguments), b"")
}

#[test]
fn what_earlier_servers_wrote_is_read_appended_to_and_sound() {
    let archives = archives();
    assert!(2 <= archives.len(), "the frozen directories are gone");
    for archive in archives {
        let was_killed = archive.to_string_lossy().ends_with("-killed.tar.gz");
        let (orders, purged) = if was_killed { (20, 10) } else { (10, 0) };
        let server = Server::start_in(unpacked(&archive));
        let all = |topic| server.must(&["consume", topic, "--from", "earliest"]);
        assert_eq!(all("shop/orders:0"), lines("order", 0..4000), "{}", archive.display());
        assert_eq!(all("shop/orders:1"), lines("order", 0..orders), "{}", archive.display());
        assert_eq!(all("shop/clicks"), lines("click", 0..500));
        assert_eq!(all("shop/views"), lines("view", 0..500));
        assert_eq!(all("shop/purged"), lines("purged", 500..500 + purged), "what was purged stays purged");
        server.run(&["topic", "describe", "shop/gone"]).failed(1, &["TOPIC_NOT_FOUND"]);

        for topic in ["shop/orders:0", "shop/orders:1", "shop/clicks", "shop/views", "shop/purged"] {
            assert_eq!(server.produce(topic, &[], b"one of today\n"), 1);
        }
        let offsets: Vec<_> = server.consume(&["shop/purged"]).iter().map(|one| one["offset"].clone()).collect();
        assert_eq!(offsets.last(), Some(&serde_json::json!(500 + purged)), "offsets go on from where they were");
        let password = server.directory.path().join("password");
        std::fs::write(&password, "a password of anna").expect("written");
        let password = password.to_str().expect("text");
        server.must(&["topic", "list", "--login", "anna", "--login-password-file", password]);

        let directory = server.stop();
        let verified = offline(&directory, &["verify", "data"]).succeeded(&["verify"]).text();
        assert!(verified.ends_with("No defects.\n"), "{verified}");
        let again = Server::start_in(directory);
        let views = again.must(&["consume", "shop/views", "--from", "earliest"]);
        assert_eq!(views, lines("view", 0..500) + "one of today\n");

        // What the server before could not read waits for whoever runs it to say that there is no way back.
        let member = ["consume", "shop/views", "--group", "g", "--from", "earliest", "--max", "1", "--commit"];
        again.run(&member).failed(1, &["UNSUPPORTED", "levada-server finalize-upgrade DIR"]);
        let directory = again.stop();
        let mut finalize = Command::new(server_binary());
        finalize.current_dir(directory.path()).args(["finalize-upgrade", "data"]);
        for said in ["from format level 1 to 2", "format level 2 already"] {
            let run = run(&mut finalize, b"");
            assert!(run.status.success() && run.stderr.contains(said), "{}", run.stderr);
        }
        let finalized = Server::start_in(directory);
        assert_eq!(finalized.must(&member), lines("view", 0..1));
    }
}
