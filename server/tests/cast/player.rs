//! One member of the group: it reads, commits after processing, and goes when told to, with or without a word.

use std::sync::Arc;
use std::time::Duration;

use levada::{Client, ClientOptions, Consumer, ErrorCode, GroupConsumerOptions, Position};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::ledger::Ledger;
use super::tap::Tap;
use super::{GROUP, Pace, TOPICS};
use crate::random::Seeded;

/// How a member ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It commits and leaves.
    Leave,
    /// Its process ends: nothing is said.
    Vanish,
}

/// A running member.
pub(crate) struct Player {
    pub(crate) tap: Arc<Tap>,
    lazy: watch::Sender<bool>,
    exit: oneshot::Sender<Exit>,
    task: JoinHandle<()>,
}

/// What a member does with its messages.
struct Part {
    ledger: Arc<Ledger>,
    options: ClientOptions,
    terms: GroupConsumerOptions,
    /// Commits by itself after so many messages; otherwise the client library does.
    commit_every: Option<u64>,
    lazy: watch::Receiver<bool>,
    patience: Duration,
}

impl Player {
    /// Starts a member whose way to the server is `tap`.
    pub(crate) fn start(
        ledger: &Arc<Ledger>,
        tap: Arc<Tap>,
        options: ClientOptions,
        instance: Option<String>,
        pace: Pace,
        random: &mut Seeded,
    ) -> Self {
        let mut terms = GroupConsumerOptions::new(GROUP, TOPICS)
            .from(Position::EARLIEST)
            .session_timeout(pace.session)
            .release_timeout(pace.release);
        let commit_every = random.one_in(2).then(|| random.below(1..9));
        terms = match commit_every {
            Some(_) => terms.auto_commit(false),
            None => terms.commit_interval(random.millis(5..60)),
        };
        if let Some(instance) = &instance {
            terms = terms.instance(instance.clone());
        }
        let (lazy, is_lazy) = watch::channel(false);
        let (exit, told) = oneshot::channel();
        let part =
            Part { ledger: Arc::clone(ledger), options, terms, commit_every, lazy: is_lazy, patience: pace.patience };
        let task = tokio::task::spawn_local(part.play(told));
        Self { tap, lazy, exit, task }
    }

    /// Whether it takes its time: it gets nothing more until it is told otherwise.
    pub(crate) fn be_lazy(&self, lazy: bool) {
        self.lazy.send_replace(lazy);
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it. The way to the server is open for a farewell, or gone before anything can be said.
    pub(crate) async fn end(self, exit: Exit) {
        match exit {
            Exit::Leave => {
                self.tap.hold(false, false);
                self.be_lazy(false);
            }
            Exit::Vanish => self.tap.kill(),
        }
        // It may have ended by itself.
        let _ = self.exit.send(exit);
        let outcome = self.task.await;
        outcome.expect("a member that panics fails the test");
    }
}

impl Part {
    async fn play(self, mut told: oneshot::Receiver<Exit>) {
        let client = loop {
            tokio::select! {
                biased;
                _ = &mut told => return,
                client = Client::connect(self.options.clone()) => match client {
                    Ok(client) => break client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        };
        let consumer = loop {
            tokio::select! {
                biased;
                _ = &mut told => return,
                consumer = client.group_consumer(self.terms.clone()) => match consumer {
                    Ok(consumer) => break consumer,
                    Err(error) if error.is(ErrorCode::UnknownMember) => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        };
        let exit = tokio::select! {
            biased;
            exit = &mut told => exit.unwrap_or(Exit::Vanish),
            () = self.read(&consumer) => return,
        };
        if exit == Exit::Leave {
            if self.commit_every.is_some() {
                // What is not committed is read again.
                let _ = consumer.commit().await;
            }
            let _ = consumer.close(self.patience).await;
            let _ = client.close(self.patience).await;
        }
    }

    /// Until another takes its place.
    async fn read(&self, consumer: &Consumer) {
        let mut lazy = self.lazy.clone();
        let mut count = 0;
        loop {
            if lazy.wait_for(|lazy| !lazy).await.is_err() {
                return;
            }
            match consumer.receive().await {
                Ok(Some(message)) => {
                    self.ledger.handed(&message);
                    count += 1;
                    if self.commit_every.is_some_and(|every| count % every == 0) {
                        // Refused where the partition has gone to another: whoever has it reads the message again.
                        let _ = consumer.commit().await;
                    }
                }
                Ok(None) => return self.ledger.note("a member's reading came to an end by itself".into()),
                // Another instance of the static member.
                Err(error) if error.is(ErrorCode::UnknownMember) => return,
                Err(error) => return self.ledger.note(format!("a member met {error}")),
            }
        }
    }
}
