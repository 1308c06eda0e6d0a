//! `proxy:` steps: a TCP proxy between client and server that mistreats frames by rules. `$proxy` is its address.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::generate::as_u64;
use crate::proxy::{Proxy, Rule};
use crate::server_step::StepError;

/// The proxy of a case, if it opened one.
#[derive(Debug, Default)]
pub struct ProxySide {
    proxy: Option<Proxy>,
}

const ACTIONS: &str = "open, rule, clear, split, refuse, accept, reset, count, wait, close";

impl ProxySide {
    /// Where it listens.
    pub fn address(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| proxy.address().to_string())
    }

    /// Does a step. `open` starts the proxy in front of the server, or of `upstream`.
    ///
    /// # Errors
    /// As [`StepError`].
    pub fn act(
        &mut self,
        action: &str,
        args: &Map<String, Value>,
        server: &str,
        limit: Duration,
    ) -> Result<Value, StepError> {
        let broken = |text: String| StepError::Broken(text);
        if action == "open" {
            let upstream = args.get("upstream").and_then(Value::as_str).unwrap_or(server);
            let upstream = upstream.to_socket_addrs().map_err(|error| broken(format!("{upstream}: {error}")))?.next();
            let upstream = upstream.ok_or_else(|| broken("the server has no address".to_owned()))?;
            let proxy = Proxy::start(upstream).map_err(|error| broken(error.to_string()))?;
            self.proxy = Some(proxy);
            return Ok(json!({}));
        }
        let proxy = self.proxy.as_ref().ok_or_else(|| broken("`proxy: open` comes first".to_owned()))?;
        let counter = || {
            let name = args.get("counter").and_then(Value::as_str).unwrap_or_default();
            proxy.counter(name).ok_or_else(|| broken(format!("the proxy has no counter {name:?}")))
        };
        match action {
            "rule" => proxy.add_rule(Rule::from_value(&Value::Object(args.clone()))?),
            "clear" => proxy.clear_rules(),
            "split" => proxy.set_split(args.get("on").is_none_or(|on| on == true)),
            "refuse" => proxy.set_refuse(true),
            "accept" => proxy.set_refuse(false),
            "reset" => proxy.reset_connections(),
            "close" => self.proxy = None,
            "count" => return Ok(json!({"value": counter()?})),
            "wait" => {
                let least = args.get("at_least").and_then(as_u64).unwrap_or(1);
                let name = args.get("counter").and_then(Value::as_str).unwrap_or_default().to_owned();
                counter()?;
                let came = proxy.wait(limit, |proxy| proxy.counter(&name).is_some_and(|count| least <= count));
                // What the case waits for is the client's to do: that it did not come is the client's failure.
                return Ok(json!({"value": counter()?, "timed_out": (!came).then_some(true)}));
            }
            other => return Err(broken(format!("there is no proxy action {other:?}; there are: {ACTIONS}"))),
        }
        Ok(json!({}))
    }
}
