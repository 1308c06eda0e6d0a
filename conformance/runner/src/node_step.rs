//! `node:` steps: what happens to the server's process, and to its files while it is down.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::node::Node;
use crate::server_step::StepError;
use crate::values;

/// Does a step: `stop`, `start`, `kill` (as `kill -9`), `restart`, `crash` (kill and start), `pause`, `resume`, `damage`.
///
/// # Errors
/// As [`StepError`].
pub fn act(node: &mut Node, action: &str, args: &Map<String, Value>) -> Result<Value, StepError> {
    match action {
        "stop" => node.stop()?,
        "start" => node.launch()?,
        "kill" => node.kill(),
        "restart" => {
            node.stop()?;
            node.launch()?;
        }
        "crash" => {
            node.kill();
            node.launch()?;
        }
        "pause" => node.pause()?,
        "resume" => node.resume()?,
        "damage" => damage(node, args.get("find").unwrap_or(&Value::Null))?,
        other => {
            let known = "stop, start, kill, restart, crash, pause, resume, damage";
            return Err(StepError::Broken(format!("there is no node action {other:?}; there are: {known}")));
        }
    }
    Ok(json!({}))
}

/// Turns over one bit where these bytes are on disk, in every file that has them.
fn damage(node: &mut Node, find: &Value) -> Result<(), String> {
    if node.is_up() {
        return Err("damage is done while the server is down".to_owned());
    }
    let needle = values::bytes(find, 0)?;
    if needle.len() < 8 {
        return Err("damage needs at least 8 bytes to find".to_owned());
    }
    let mut hits = 0;
    damage_under(&node.data_dir(), &needle, &mut hits).map_err(|error| error.to_string())?;
    if hits == 0 { Err("no file has these bytes".to_owned()) } else { Ok(()) }
}

fn damage_under(folder: &Path, needle: &[u8], hits: &mut usize) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            damage_under(&path, needle, hits)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes)?;
            *hits += 1;
        }
    }
    Ok(())
}
