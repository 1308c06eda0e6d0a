//! `levada verify` and `levada repair`: a data directory without its server.

use crate::args::{RepairArgs, VerifyArgs};
use crate::failure::Failure;
use crate::session::Session;

pub(crate) async fn verify(_: &Session, args: VerifyArgs) -> Result<(), Failure> {
    Err(Failure::failed(format!("{} cannot be verified by this version", args.directory.display())))
}

pub(crate) async fn repair(_: &Session, args: RepairArgs) -> Result<(), Failure> {
    let RepairArgs { directory, partition, accept_loss: _ } = args;
    Err(Failure::failed(format!("{partition} of {} cannot be repaired by this version", directory.display())))
}
