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

const ACTIONS: &str = "open, script, send, count, wait, seen, accepted, refusals, close";

impl FakeSide {
    /// Where it listens.
    pub fn address(&self) -> Option<String> {
        self.fake.as_ref().map(|fake| fake.address().to_string())
    }

    /// Does a step. `open` and `script` take a script; `send` does steps on every open connection.
    ///
    /// # Errors
    /// As [`StepError`].
    pub fn act(&mut self, action: &str, args: &Map<String, Value>, limit: Duration) -> Result<Value, StepError> {
        let broken = |text: String| StepError::Broken(text);
        let given = Value::Object(args.clone());
        if action == "open" {
            let script = Script::from_value(&given)?;
            self.fake = Some(Fake::start(script).map_err(|error| broken(error.to_string()))?);
            return Ok(json!({}));
        }
        let fake = self.fake.as_ref().ok_or_else(|| broken("`wire: open` comes first".to_owned()))?;
        let name = args.get("counter").or(args.get("kind")).and_then(Value::as_str).unwrap_or_default().to_owned();
        let counter = || fake.counter(&name).ok_or_else(|| broken(format!("the server has no counter {name:?}")));
        match action {
            "script" => fake.set_script(Script::from_value(&given)?),
            "send" => fake.take_steps(&steps_from_value(args.get("steps").unwrap_or(&Value::Null))?)?,
            "close" => self.fake = None,
            "count" => return Ok(json!({"value": counter()?})),
            "accepted" => return Ok(json!({"items": fake.accept_times_ms()})),
            "refusals" => return Ok(json!({"items": fake.refusals()})),
            "seen" => {
                let index =
                    args.get("index").and_then(as_u64).and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
                return Ok(json!({"fields": fake.seen(&name, index)}));
            }
            "wait" => {
                let least = args.get("at_least").and_then(as_u64).unwrap_or(1);
                counter()?;
                let came = fake.wait(limit, |fake| fake.counter(&name).is_some_and(|count| least <= count));
                // What the case waits for is the client's to do: a case expects `timed_out` to be absent.
                return Ok(json!({"value": counter()?, "timed_out": (!came).then_some(true)}));
            }
            other => return Err(broken(format!("there is no wire action {other:?}; there are: {ACTIONS}"))),
        }
        Ok(json!({}))
    }
}
