//! What the live tests speak: a server in a temporary directory, killed when dropped, and calls that must succeed.

use std::borrow::Cow;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use levada::{MessageRef, Result};
use levada_ffi::{Batch, Client, Consumer, Named, Operation, Output, Producer, Queue, To, Value};
use tempfile::TempDir;

pub(crate) const LONG: Option<Duration> = Some(Duration::from_secs(60));

pub(crate) struct Server {
    process: Child,
    address: String,
    _directory: TempDir,
}

/// The server's binary lies beside this test's folder: the same profile builds both.
fn server_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let binary = own.ancestors().nth(2).unwrap().join("levada-server");
    assert!(binary.exists(), "{} is not there: build it with `cargo build -p levada-server`", binary.display());
    binary
}

impl Server {
    pub(crate) fn start() -> Server {
        let directory = TempDir::new().unwrap();
        let mut process = Command::new(server_binary())
            .args(["--listen", "127.0.0.1:0", "--insecure-dev", "--cores", "1", "--data-dir"])
            .arg(directory.path().join("data"))
            .env("HOME", directory.path())
            .env("XDG_RUNTIME_DIR", directory.path().join("run"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp=")).expect("a ready server");
        Server { process, address: address.to_owned(), _directory: directory }
    }

    pub(crate) fn client(&self) -> Client {
        let mut options = named(&[("server", &self.address)]);
        options.push((Cow::Borrowed("anonymous"), Value::Bool(true)));
        match here(&Client::connect(options, "levada-test", To::Here)) {
            Output::Client(client) => client,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn topic(&self, client: &Client, topic: &str) -> Value {
        match here(&client.call("create_topic", named(&[("topic", topic)]), To::Here)) {
            Output::Value(created) => created,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn producer(&self, client: &Client, topic: &str, acks: Option<Queue>) -> Producer {
        match here(&client.producer(topic, Vec::new(), acks, To::Here)) {
            Output::Producer(producer) => producer,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn consumer(&self, client: &Client, topic: &str, options: &[(&'static str, &str)]) -> Consumer {
        match here(&client.consumer(topic, named(options), To::Here)) {
            Output::Consumer(consumer) => consumer,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Options and arguments; `true` is a truth value.
pub(crate) fn named(pairs: &[(&'static str, &str)]) -> Named {
    let value = |text: &str| if text == "true" { Value::Bool(true) } else { Value::Text(text.to_owned()) };
    pairs.iter().map(|(name, text)| (Cow::Borrowed(*name), value(text))).collect()
}

pub(crate) fn message(payload: &[u8]) -> MessageRef<'_> {
    MessageRef { payload: Some(payload), ..MessageRef::default() }
}

pub(crate) fn waiting(operation: &Operation) -> Result<Output> {
    operation.wait(LONG, &mut || true).expect("an outcome in time")
}

pub(crate) fn here(operation: &Operation) -> Output {
    waiting(operation).unwrap()
}

pub(crate) fn offsets(batches: &[Batch]) -> Vec<u64> {
    batches.iter().flat_map(|batch| (0..batch.message_count()).map(|i| batch.message(i).unwrap().offset)).collect()
}

pub(crate) fn record_of(value: &Value, name: &str) -> Value {
    let Value::Record(fields) = value else { panic!("not a record: {value:?}") };
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).expect(name)
}

/// Whether `holds` fails, or panics, in a child of this process.
#[expect(unsafe_code, reason = "the standard library has no fork")]
pub(crate) fn fails_in_child(holds: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `holds` and leaves without unwinding out of this function; glibc makes its allocator usable in
    // a child, and the crate under test claims the same of itself.
    match unsafe { libc::fork() } {
        0 => {
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(holds)).unwrap_or(false);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!held)) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is alive during the call.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            !(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
        }
    }
}
