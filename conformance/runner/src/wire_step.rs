//! `wire:` steps: a server that speaks exactly the frames a case writes. `$fake` is its address.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::fake::{Fake, Script, steps_from_value};
use crate::generate::as_u64;
use crate::server_step::StepError;

/// The server of a case, if it opened one.
#[derive(Debug, Default)]
pub struct FakeSide {
    fake: Option<Fake>,
}

const ACTIONS: &str = "open, script, send, disconnect, count, wait, stay, seen, refusals, close";

impl FakeSide {
    /// Where it listens.
    pub fn address(&self) -> Option<String> {
        self.fake.as_ref().map(|fake| fake.address().to_string())
    }

    /// What the client did that no client may: the fault of a client in any case, whatever the case is about.
    pub fn objection(&self) -> Option<String> {
        self.fake.as_ref()?.refusals().first().map(|why| format!("the client broke the protocol: {why}"))
    }

    /// Does a step. `open` and `script` take a script, `send` takes `steps` for every open connection. `wait` and `stay`
    /// watch a `counter`: until it is `at_least` so much, or that it is `at_most` so much for `for_ms`. `seen` gives the
    /// fields of the `index`th frame of a `message`, from 0, or from -1 for the last.
    ///
    /// # Errors
    /// As [`StepError`].
    pub fn act(&mut self, action: &str, args: &Map<String, Value>, limit: Duration) -> Result<Value, StepError> {
        let script = || Script::from_value(&Value::Object(args.clone()));
        if action == "open" {
            let fake = Fake::start(script()?).map_err(|error| StepError::Broken(error.to_string()))?;
            self.fake = Some(fake);
            return Ok(json!({}));
        }
        let fake = self.fake.as_ref().ok_or_else(|| StepError::Broken("`wire: open` comes first".to_owned()))?;
        let text = |name: &str| args.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| args.get(name).and_then(as_u64);
        let name = text("counter");
        let count = || fake.counter(&name).ok_or_else(|| format!("the fake server has no counter {name:?}"));
        match action {
            "script" => fake.set_script(script()?),
            "send" => fake.take_steps(&steps_from_value(args.get("steps").unwrap_or(&Value::Null))?)?,
            "disconnect" => fake.disconnect(),
            "count" => return Ok(json!({"value": count()?})),
            "refusals" => return Ok(json!({"value": fake.refusals()})),
            "wait" => {
                let least = number("at_least").unwrap_or(1);
                let most = number("at_most").unwrap_or(u64::MAX);
                count()?;
                let holds = |fake: &Fake| fake.counter(&name).is_some_and(|count| (least..=most).contains(&count));
                if !fake.wait(limit, holds) {
                    return Err(missed(&format!("{name} did not become {least}: it is {}", count()?)));
                }
            }
            "stay" => {
                let most = number("at_most").ok_or_else(|| "stay needs `at_most`".to_owned())?;
                let time = Duration::from_millis(number("for_ms").unwrap_or(300));
                count()?;
                if fake.wait(time, |fake| fake.counter(&name).is_some_and(|count| most < count)) {
                    return Err(missed(&format!("{name} did not stay at {most}: it is {}", count()?)));
                }
            }
            "seen" => {
                let index = args.get("index").and_then(Value::as_i64).unwrap_or(0);
                let seen = fake.seen(&text("message"), index);
                return seen.ok_or_else(|| missed(&format!("the client sent no {} {index}", text("message"))));
            }
            "close" => self.fake = None,
            other => return Err(StepError::Broken(format!("there is no wire action {other:?}; there are: {ACTIONS}"))),
        }
        Ok(json!({}))
    }
}

/// The client did not do what the case waits for: that is its failure, not the runner's.
fn missed(text: &str) -> StepError {
    StepError::Refused(json!({ "message": text }))
}
