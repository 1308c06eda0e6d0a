//! Password hashes: argon2id, off the control thread, one at a time, behind a bounded queue.
//!
//! Each check takes the configured memory for a while; one at a time is what makes a flood of logins cost time, not memory.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{CustomizedPasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use bytes::Bytes;
use levada_protocol::ErrorCode;
use tokio::sync::{Semaphore, oneshot};

use crate::config::PasswordCost;
use crate::env::{Platform, Random};
use crate::failure::Failure;

/// Checks that may wait; at some 30 ms each, the last one waits for about a second.
const MAX_WAITING: usize = 32;

/// Hashes and verifies.
pub struct Hasher {
    platform: Rc<dyn Platform>,
    random: Arc<dyn Random>,
    params: Params,
    turn: Semaphore,
    waiting: Cell<usize>,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hasher").field("waiting", &self.waiting.get()).finish_non_exhaustive()
    }
}

impl Hasher {
    /// A hasher of this cost.
    #[must_use]
    pub fn new(platform: Rc<dyn Platform>, random: Arc<dyn Random>, cost: PasswordCost) -> Self {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None).unwrap_or_default();
        Self { platform, random, params, turn: Semaphore::new(1), waiting: Cell::new(0) }
    }

    /// The hash of a password in PHC form.
    ///
    /// # Errors
    /// `AUTH_BUSY`.
    pub async fn hash(&self, password: Bytes) -> Result<String, Failure> {
        let mut salt = [0; 16];
        self.random.fill(&mut salt);
        let params = self.params.clone();
        self.run(move || {
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
            let hash = argon2.hash_password_with_params(&password, &salt, params);
            hash.map(|hash: PasswordHash| hash.to_string()).ok()
        })
        .await?
        .ok_or_else(|| Failure::because(ErrorCode::Internal, "the password could not be hashed"))
    }

    /// Whether `password` has this hash.
    ///
    /// # Errors
    /// `AUTH_BUSY`.
    pub async fn verify(&self, hash: String, password: Bytes) -> Result<bool, Failure> {
        self.run(move || {
            PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        if MAX_WAITING <= self.waiting.get() {
            return Err(Failure::new(ErrorCode::AuthBusy).retry_after_ms(1000));
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        let _turn = self.turn.acquire().await.map_err(|_| Failure::new(ErrorCode::ShuttingDown))?;
        let (done, result) = oneshot::channel();
        self.platform.run_blocking(Box::new(move || drop(done.send(job()))));
        result.await.map_err(|_| Failure::new(ErrorCode::ShuttingDown))
    }
}

struct Waiting<'a>(&'a Cell<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
