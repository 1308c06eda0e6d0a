//! The acknowledgement of an enqueued message, to come.

use std::fmt;
use std::sync::Arc;

use levada::{Receipt, Result};

use crate::operation::{Operation, Output, To};
use crate::process::{Handle, Kind};

/// The acknowledgement of one message, to come. Dropping it does not take the message back.
#[derive(Clone)]
pub struct Delivery {
    inner: Handle<levada::Delivery>,
}

impl Delivery {
    pub(crate) fn new(delivery: levada::Delivery) -> Delivery {
        Delivery { inner: Handle::new(Kind::Operation, Arc::new(delivery)) }
    }

    /// The outcome, if it is known.
    pub fn try_receipt(&self) -> Option<Result<Receipt>> {
        match self.inner.get() {
            Ok(delivery) => delivery.try_receipt(),
            Err(error) => Some(Err(error)),
        }
    }

    /// Waits for the outcome: `Output::Receipt`. May be asked for any number of times.
    pub fn wait(&self, to: To) -> Operation {
        match self.inner.get() {
            Ok(delivery) => Operation::deliver(to, levada::Delivery::clone(delivery)),
            Err(error) => Operation::settled(to, Err(error).map(Output::Receipt)),
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
