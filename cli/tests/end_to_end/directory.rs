//! `verify` and `repair` on the directory of a stopped server.

use crate::vocabulary::{Run, Server, levada, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn offline(directory: &TempDir, arguments: &[&str]) -> Run {
    run(levada(directory.path()).current_dir(directory.path()).args(arguments), b"")
}

/// A stopped server's directory with `count` flushed messages in topic 1, partition 0, each its own batch.
fn stopped_with_messages(count: usize) -> TempDir {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    for i in 0..count {
        server.produce("a/b", &[], format!("message {i}\n").as_bytes());
    }
    server.stop()
}

fn segment(directory: &TempDir) -> PathBuf {
    let folder = directory.path().join("data/topics/1/0");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a partition").map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    files.remove(0)
}

/// Flips a byte of the message with that text.
fn damage(path: &Path, text: &str) {
    let bytes = fs::read(path).expect("a segment");
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the message is stored");
    let file = fs::File::options().write(true).open(path).expect("writable");
    file.write_all_at(&[bytes[at] ^ 0x40], at as u64).expect("damaged");
}

#[test]
fn a_sound_directory_has_no_defects() {
    let directory = stopped_with_messages(3);
    let text = offline(&directory, &["verify", "data"]).succeeded(&["verify"]).text();
    assert!(text.contains("1:0") && text.ends_with("No defects.\n"), "{text}");
    let json = offline(&directory, &["verify", "data", "-o", "json"]).succeeded(&["verify"]).text();
    let view: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(view["defect_count"], 0);
    let log =
        view["logs"].as_array().expect("logs").iter().find(|log| log["partition"] == "1:0").expect("the partition");
    assert_eq!(log["end_offset"], 3);
    let untouched =
        offline(&directory, &["repair", "data", "--partition", "1:0", "--accept-loss"]).succeeded(&["repair"]);
    assert!(untouched.text().contains("nothing was changed"));
}

#[test]
fn damage_is_named_by_file_and_position_and_repaired_at_a_told_loss() {
    let directory = stopped_with_messages(5);
    let segment = segment(&directory);
    damage(&segment, "message 3");
    let verify = offline(&directory, &["verify", "data"]);
    assert_eq!(verify.status.code(), Some(1), "{}", verify.stderr);
    let text = verify.text();
    let name = segment.file_name().expect("a name").to_str().expect("text");
    assert!(text.contains(&format!("data/topics/1/0/{name} at byte ")), "{text}");
    assert!(text.contains("1 defect. `levada repair data --partition ID --accept-loss`"), "{text}");

    let json = offline(&directory, &["--output", "json", "repair", "data", "--partition", "1:0", "--accept-loss"]);
    let view: Value = serde_json::from_str(&json.succeeded(&["repair"]).text()).expect("JSON");
    assert_eq!((&view["lost_from_offset"], &view["lost_to_offset"]), (&3.into(), &5.into()));
    assert!(directory.path().join(view["audit"].as_str().expect("an audit record")).exists());
    offline(&directory, &["verify", "data"]).succeeded(&["the repaired directory is sound"]);

    let server = Server::start_in(directory);
    assert_eq!(server.must(&["consume", "a/b", "--from", "earliest"]), "message 0\nmessage 1\nmessage 2\n");
    assert_eq!(server.produce("a/b", &[], b"after the repair\n"), 1);
}

#[test]
fn what_is_not_a_stopped_servers_directory_is_refused() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    let running =
        run(levada(server.directory.path()).current_dir(server.directory.path()).args(["verify", "data"]), b"");
    running.failed(1, &["a server is running on data. Stop it first"]);
    let directory = server.stop();
    offline(&directory, &["verify", "nowhere"]).failed(1, &["cannot read nowhere: No such file or directory"]);
    offline(&directory, &["verify", "."]).failed(1, &["is not a data directory"]);
    offline(&directory, &["repair", "data", "--partition", "99:0", "--accept-loss"])
        .failed(1, &["there is no partition `99:0`", "`levada verify data`"]);
}
