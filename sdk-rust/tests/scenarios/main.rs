//! Scenarios of the client against a scripted server, in virtual time.

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod client;
#[cfg(test)]
mod consumer;
#[cfg(test)]
mod coordinator;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod names;
#[cfg(test)]
mod producer;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod unknown;

use std::time::Duration;

/// Lets every task run until all of them wait.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
