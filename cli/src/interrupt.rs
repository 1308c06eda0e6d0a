//! Ctrl-C and SIGTERM: the first asks a command to stop in good order, the second ends the process at once.

use std::process;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::{Exit, Failure, plain};

/// Tells when the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: Arc<watch::Sender<bool>>,
}

impl Interrupt {
    /// Takes over the signals from here on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let open =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot watch signals: {}", plain(&error))));
        let (interrupt, terminate) = (open(SignalKind::interrupt())?, open(SignalKind::terminate())?);
        let asked = Arc::new(watch::Sender::new(false));
        tokio::spawn(watch_signals(interrupt, terminate, Arc::clone(&asked)));
        Ok(Self { asked })
    }

    /// Ends when the user has asked to stop.
    pub(crate) async fn asked(&self) {
        let mut asked = self.asked.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = asked.wait_for(|asked| *asked).await;
    }

    pub(crate) fn was_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

async fn watch_signals(mut interrupt: Signal, mut terminate: Signal, asked: Arc<watch::Sender<bool>>) {
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if asked.send_replace(true) {
            process::exit(Exit::Failed as i32);
        }
    }
}
