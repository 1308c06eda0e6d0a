//! A change is answered when every core has it, and not before.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::messages::{CreateStream, ListStreams, PartitionInfo, Position, Request};
use levada_storage::buffer::BufferPool;
use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::disk::{Disk as _, LocalFuture};
use levada_storage::{FatalError, Storage, StorageLimits};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::LocalSet;

use super::{AdminHandle, AdminReply, MetadataOwner, ShardFigures, Shards};
use crate::auth::{Hasher, Principal};
use crate::config::PasswordCost;
use crate::env::{BlockingJob, Clock, Core, CoreEnv, CoreMain, Fatal, Listener, Offload, Platform, Random};
use crate::failure::Failure;
use crate::metadata::event::ClusterBorn;
use crate::metadata::{Layout, MetadataStore, Snapshot};

/// Shards that install a version when they are let.
#[derive(Default)]
struct Slow {
    installed: RefCell<Vec<u64>>,
    turns: RefCell<Option<Rc<Semaphore>>>,
}

impl Shards for Slow {
    fn count(&self) -> u16 {
        1
    }

    fn install(&self, snapshot: Arc<Snapshot>) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            let turns = self.turns.borrow().clone().expect("the test sets it");
            turns.acquire().await.expect("it is never closed").forget();
            self.installed.borrow_mut().push(snapshot.version());
        })
    }

    fn describe(&self, _topic_id: u32) -> LocalFuture<'_, Result<Vec<PartitionInfo>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn purge(&self, _topic_id: u32, _partition: Option<u32>) -> LocalFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn trim(&self, _topic_id: u32, _partition: u32, _before: Position) -> LocalFuture<'_, Result<u64, Failure>> {
        Box::pin(async { Ok(0) })
    }

    fn append(&self, _topic_id: u32, _partition: u32, _batch: Bytes) -> LocalFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn figures(&self) -> LocalFuture<'_, Vec<ShardFigures>> {
        Box::pin(async { Vec::new() })
    }
}

/// Everything a test of metadata does not need.
#[derive(Debug)]
struct Nothing;

impl Clock for Nothing {
    fn now_us(&self) -> i64 {
        1
    }
}

impl Random for Nothing {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

impl Fatal for Nothing {
    fn on_fatal(&self, error: FatalError) {
        panic!("{error:?}");
    }
}

impl Offload for Nothing {
    fn run(&self, job: BlockingJob) {
        job();
    }
}

impl Platform for Nothing {
    fn start_core(&self, _core: Core, _main: CoreMain) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn join_cores(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }

    fn listen(&self, _address: SocketAddr) -> LocalFuture<'_, io::Result<Rc<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn run_blocking(&self, job: BlockingJob) {
        job();
    }

    fn offload(&self) -> Arc<dyn Offload> {
        Arc::new(Nothing)
    }

    fn write_private(&self, _path: &Path, _content: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

async fn owner(shards: Rc<Slow>) -> MetadataOwner {
    let disk = CrashDisk::new(1, CrashOptions::default());
    disk.create_dir_all(&Layout.metadata_dir()).await.unwrap();
    let env = CoreEnv {
        core: Core::Control,
        clock: Arc::new(Nothing),
        random: Arc::new(Nothing),
        disk: Rc::new(disk),
        pool: BufferPool::new(1 << 20),
        fatal: Arc::new(Nothing),
    };
    let options = env.storage_options(Layout.metadata_checkpoint_dir(), StorageLimits::default());
    let storage = Storage::open(options).await.unwrap();
    let mut store = MetadataStore::open(&storage, Layout).await.unwrap();
    store.commit(&[ClusterBorn { cluster_id: 7, node_id: 1, format_level: 1, at_us: 0 }.into()]).await.unwrap();
    let hasher = Hasher::new(Rc::new(Nothing), Arc::new(Nothing), PasswordCost { memory_kib: 8, passes: 1 });
    let published = watch::channel(Arc::clone(store.snapshot())).0;
    MetadataOwner::new(env, Layout, store, published, shards, Rc::new(hasher))
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_change_is_answered_when_every_core_has_it_and_not_before() {
    LocalSet::new()
        .run_until(async {
            let (shards, turns) = (Rc::new(Slow::default()), Rc::new(Semaphore::new(0)));
            *shards.turns.borrow_mut() = Some(Rc::clone(&turns));
            let (inbox, requests) = mpsc::channel(8);
            let (stop, stopped) = oneshot::channel();
            let owner = owner(Rc::clone(&shards)).await;
            let running = tokio::task::spawn_local(owner.run(requests, stopped));
            let admin = AdminHandle::new(inbox);
            let ask = |request: Request| {
                let admin = admin.clone();
                tokio::task::spawn_local(async move { admin.handle(Principal::insecure_dev(), request).await })
            };
            let change = ask(Request::CreateStream(CreateStream { stream: "s".into() }));
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(!change.is_finished(), "no core has it yet");
            turns.add_permits(1);
            assert!(matches!(change.await.unwrap(), Ok(AdminReply::StreamCreated(_))));
            assert_eq!(shards.installed.borrow().len(), 1);
            let listed = ask(Request::ListStreams(ListStreams {})).await.unwrap();
            assert!(matches!(listed, Ok(AdminReply::Streams(streams)) if streams.streams.len() == 1));
            drop(stop);
            running.await.unwrap();
        })
        .await;
}
