//! One file per command: it asks the server, or a directory, and shows the answer.

mod access;
mod bench;
mod completions;
mod consume;
mod context;
mod directory;
mod group;
mod partition;
mod ping;
mod produce;
mod status;
mod stream;
mod token;
mod topic;
mod user;

use crate::args::Command;
use crate::failure::Failure;
use crate::session::Session;

/// Does what was asked. Those that need no server need no runtime either, but it does not hurt them.
pub(crate) async fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Stream(command) => stream::run(session, command).await,
        Command::Topic(command) => topic::run(session, command).await,
        Command::Partition(command) => partition::run(session, command).await,
        Command::Group(command) => group::run(session, command).await,
        Command::User(command) => user::run(session, command).await,
        Command::Token(command) => token::run(session, command).await,
        Command::Access(command) => access::access(session, command).await,
        Command::Role(command) => access::role(session, command).await,
        Command::Quota(command) => access::quota(session, command).await,
        Command::Produce(args) => produce::run(session, args).await,
        Command::Consume(args) => consume::run(session, args).await,
        Command::Status => status::run(session).await,
        Command::Ping(args) => ping::run(session, args).await,
        Command::Bench(command) => bench::run(session, command).await,
        Command::Verify(args) => directory::verify(session, args).await,
        Command::Repair(args) => directory::repair(session, args).await,
        Command::Context(command) => context::run(session, command),
        Command::Completions(args) => completions::run(session, args),
    }
}
