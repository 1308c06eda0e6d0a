//! The Levada server: partitions, metadata and users behind the native protocol, one shared-nothing loop per core.
//!
//! Reading order: [`mod@env`] is everything the server takes from outside; [`config`] what an operator may say; [`metadata`],
//! [`auth`], [`admin`] and [`groups`] live on the control thread; [`edge`] and [`broker`] on every core.
//! [`pattern`] is how topics are named by the many.

pub mod admin;
pub mod audit;
pub mod auth;
pub mod broker;
pub mod config;
pub mod discovery;
pub mod edge;
pub mod env;
pub mod failure;
pub mod groups;
pub mod metadata;
pub mod pattern;
pub mod program;
pub mod server;
mod shard_core;
pub mod upgrade;
