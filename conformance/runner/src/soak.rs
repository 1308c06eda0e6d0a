//! Soaking a client: many connections one after the other, many messages through one, and its process must look afterwards as it
//! did when it was warm. The system says how it looks; expectations of behaviour are the cases' business.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::adapter::{Adapter, Fault, Reply};
use crate::client::Description;
use crate::expect;
use crate::generate::as_u64;
use crate::node::Node;
use crate::process::{self, Usage};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Connections opened and closed.
    pub connects: u64,
    /// Messages sent and received.
    pub messages: u64,
}

/// What one half of a soak came to.
#[derive(Clone, Copy, Debug)]
pub struct Soaked {
    /// The process when a tenth was done.
    pub warm: Usage,
    /// The process at the end.
    pub end: Usage,
    /// How long it took.
    pub took: Duration,
}

/// Resident memory may grow by this much, or by a tenth of what it was: allocators and collectors settle late.
const MAY_GROW_BYTES: u64 = 16 << 20;
/// Descriptors and threads may grow by this much: runtimes that keep threads for later add one now and then. A leak of each
/// connection is far more.
const MAY_GROW_COUNT: u64 = 4;
/// Messages of one call.
const CALL: u64 = 1000;
const MESSAGE_BYTES: u64 = 100;
const DEADLINE: Duration = Duration::from_secs(30);

impl Soaked {
    /// What has grown that should not have.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let allowed = self.warm.resident_bytes + MAY_GROW_BYTES.max(self.warm.resident_bytes / 10);
        if allowed < self.end.resident_bytes {
            leaks.push(format!("memory grew from {} to {} MiB", mib(self.warm), mib(self.end)));
        }
        for (what, before, after) in [
            ("descriptors", self.warm.descriptors, self.end.descriptors),
            ("threads", self.warm.threads, self.end.threads),
        ] {
            if before + MAY_GROW_COUNT < after {
                leaks.push(format!("{what} grew from {before} to {after}"));
            }
        }
        leaks
    }
}

/// Resident memory in MiB.
pub fn mib(usage: Usage) -> u64 {
    usage.resident_bytes >> 20
}

/// A client on a server of its own.
#[derive(Debug)]
pub struct Bath {
    adapter: Adapter,
    node: Node,
}

impl Bath {
    /// Starts both in a folder.
    ///
    /// # Errors
    /// Why one does not start.
    pub fn fill(description: &Description, folder: &std::path::Path) -> Result<Bath, String> {
        let node = Node::start(&folder.join(format!("{}-server", description.name)), &[])?;
        let home = folder.join(format!("{}-home", description.name));
        std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        let adapter = Adapter::start(&description.launch(&home), "soak", DEADLINE).map_err(|fault| text(&fault))?;
        Ok(Bath { adapter, node })
    }

    /// Connects and closes, again and again.
    ///
    /// # Errors
    /// A call that fails.
    pub fn connect(&mut self, amount: Amount) -> Result<Soaked, String> {
        let began = Instant::now();
        let options = self.options();
        let mut warm = None;
        for index in 0..amount.connects {
            let name = format!("c{index}");
            self.call("connect", None, Some(&name), &json!({"options": options}))?;
            self.call("ping", Some(&name), None, &json!({}))?;
            self.call("close", Some(&name), None, &json!({}))?;
            // Forgets the names: an adapter keeps closed handles until then.
            if index % 100 == 99 || index + 1 == amount.connects {
                self.call("reset", None, None, &json!({}))?;
            }
            if index == amount.connects / 10 {
                self.call("reset", None, None, &json!({}))?;
                warm = self.settled(None);
            }
        }
        self.soaked(warm, began)
    }

    /// Sends and receives through one client.
    ///
    /// # Errors
    /// A call that fails, or a message that is not there.
    pub fn stream(&mut self, amount: Amount) -> Result<Soaked, String> {
        let began = Instant::now();
        let options = self.options();
        self.call("connect", None, Some("c"), &json!({"options": options}))?;
        self.call("topic.create", Some("c"), None, &json!({"topic": "soak/t", "options": {}}))?;
        self.call("producer.open", Some("c"), Some("p"), &json!({"topic": "soak/t", "options": {}}))?;
        let earliest = json!({"topic": "soak/t", "options": {"from": "earliest"}});
        self.call("consumer.open", Some("c"), Some("k"), &earliest)?;
        let mut warm = None;
        let calls = amount.messages.div_ceil(CALL);
        for index in 0..calls {
            let payload = json!({"gen": "seq", "size": MESSAGE_BYTES, "index": (index * CALL).to_string()});
            let sent = json!({"messages": [{"payload": payload, "count": CALL}]});
            self.call("producer.send_batch", Some("p"), None, &sent)?;
            let mut missing = CALL;
            while missing != 0 {
                let wanted = json!({"max_messages": missing.to_string(), "timeout_ms": 10_000});
                let got = self.call("consumer.receive_batch", Some("k"), None, &wanted)?;
                let messages = got["messages"].as_array().cloned().unwrap_or_default();
                let next = (index + 1) * CALL - missing;
                let is_next = messages.first().and_then(|message| as_u64(&message["offset"])) == Some(next);
                if !is_next || missing < messages.len() as u64 {
                    return Err(format!("message {next} was to come, and did not"));
                }
                missing -= messages.len() as u64;
            }
            if index == calls / 10 {
                warm = process::usage(self.adapter.pid());
            }
        }
        let end = process::usage(self.adapter.pid());
        self.call("reset", None, None, &json!({}))?;
        let (Some(warm), Some(end)) = (warm, end) else { return Err("the adapter's process is gone".to_owned()) };
        Ok(Soaked { warm, end, took: began.elapsed() })
    }

    /// Ends both.
    ///
    /// # Errors
    /// An adapter that does not end.
    pub fn drain(mut self) -> Result<(), String> {
        let ended = self.adapter.shut_down(Duration::from_secs(5)).map_err(|fault| text(&fault));
        self.node.kill();
        ended
    }

    fn options(&self) -> Value {
        json!({"server": self.node.address().to_string(), "token_file": self.node.token_file().display().to_string()})
    }

    fn call(&mut self, op: &str, on: Option<&str>, makes: Option<&str>, args: &Value) -> Result<Value, String> {
        let pending = self.adapter.send(op, on, makes, args, false, DEADLINE).map_err(|fault| text(&fault))?;
        match self.adapter.wait(&pending).map_err(|fault| text(&fault))? {
            (Reply::Ok(ok), _) => Ok(ok),
            (other, _) => Err(format!("{op}: {}", expect::show(&other))),
        }
    }

    fn soaked(&self, warm: Option<Usage>, began: Instant) -> Result<Soaked, String> {
        match (warm, self.settled(warm)) {
            (Some(warm), Some(end)) => Ok(Soaked { warm, end, took: began.elapsed() }),
            _ => Err("the adapter's process is gone".to_owned()),
        }
    }

    /// The process once threads that were ending have ended: when it looks like `before`, or stays the same for a while.
    fn settled(&self, before: Option<Usage>) -> Option<Usage> {
        let mut last = process::usage(self.adapter.pid())?;
        let mut same = 0;
        while same < 10 {
            if before.is_some_and(|before| last.threads <= before.threads && last.descriptors <= before.descriptors) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            let now = process::usage(self.adapter.pid())?;
            same = if (now.threads, now.descriptors) == (last.threads, last.descriptors) { same + 1 } else { 0 };
            last = now;
        }
        Some(last)
    }
}

fn text(fault: &Fault) -> String {
    match fault {
        Fault::Crash(text) | Fault::Timeout(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soaked(warm: Usage, end: Usage) -> Vec<String> {
        Soaked { warm, end, took: Duration::ZERO }.leaks()
    }

    #[test]
    fn growth_beyond_what_settles_is_a_leak() {
        let warm = Usage { descriptors: 10, threads: 3, resident_bytes: 100 << 20 };
        assert_eq!(soaked(warm, Usage { resident_bytes: 115 << 20, ..warm }), Vec::<String>::new());
        assert_eq!(soaked(warm, Usage { resident_bytes: 117 << 20, ..warm }).len(), 1);
        assert_eq!(soaked(warm, Usage { descriptors: 15, threads: 8, ..warm }).len(), 2);
    }
}
