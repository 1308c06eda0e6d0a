//! A client's way to the server, on which somebody listens: every frame goes into the ledger. It can be cut, made deaf or
//! shut for a while, and commits can be put on it that the client never made.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use levada::{ByteStream, ConnectFuture, Connector, ServerAddress};
use levada_protocol::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

use super::ledger::Ledger;
use crate::random::Seeded;

/// Bytes between the client and the tap.
const WINDOW_BYTES: usize = 256 << 10;
/// The length field of a frame, which counts what comes after it.
const LENGTH_BYTES: usize = 4;

/// What may pass.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// Nothing comes from the server.
    deaf: bool,
    /// Nothing goes to the server.
    mute: bool,
    /// There is no way to the server any more.
    dead: bool,
    /// Connections made before the last cut are over.
    cuts: u64,
}

/// See the module.
pub(crate) struct Tap {
    ledger: Arc<Ledger>,
    inner: Arc<dyn Connector>,
    gate: watch::Sender<Gate>,
    /// The newest connection, and the way to put commits on it.
    forged: Mutex<Option<(u64, mpsc::UnboundedSender<Bytes>)>>,
}

impl Tap {
    pub(crate) fn new(ledger: Arc<Ledger>, inner: Arc<dyn Connector>) -> Arc<Self> {
        Arc::new(Self { ledger, inner, gate: watch::Sender::default(), forged: Mutex::default() })
    }

    /// Ends the connection; the client may make another.
    pub(crate) fn cut(&self) {
        self.gate.send_modify(|gate| gate.cuts += 1);
    }

    /// Ends the connection for ever, as the end of the process would.
    pub(crate) fn kill(&self) {
        self.gate.send_modify(|gate| gate.dead = true);
    }

    /// Holds back what the server says, and what the client says too.
    pub(crate) fn hold(&self, deaf: bool, mute: bool) {
        self.gate.send_modify(|gate| (gate.deaf, gate.mute) = (deaf, mute));
    }

    /// Puts a commit on the connection that must be refused.
    pub(crate) fn forge(&self, random: &mut Seeded) {
        let newest = self.forged.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((connection, sender)) = &*newest else { return };
        if let Some(frame) = self.ledger.forge(*connection, random) {
            // The connection may have ended.
            let _ = sender.send(frame);
        }
    }
}

impl Connector for Tap {
    fn connect<'a>(&'a self, address: &'a ServerAddress) -> ConnectFuture<'a> {
        Box::pin(async move {
            if self.gate.borrow().dead {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let far = self.inner.connect(address).await?;
            let (client, near) = tokio::io::duplex(WINDOW_BYTES);
            let (sender, forged) = mpsc::unbounded_channel();
            let wire =
                Wire { id: self.ledger.connection(), ledger: Arc::clone(&self.ledger), gate: self.gate.subscribe() };
            *self.forged.lock().unwrap_or_else(PoisonError::into_inner) = Some((wire.id, sender));
            tokio::spawn(pump(near, far, wire, forged));
            Ok(Box::new(client) as Box<dyn ByteStream>)
        })
    }
}

/// A connection.
#[derive(Clone)]
struct Wire {
    id: u64,
    ledger: Arc<Ledger>,
    gate: watch::Receiver<Gate>,
}

impl Wire {
    /// Waits until the gate lets something pass.
    async fn pass(&mut self, is_open: impl FnMut(&Gate) -> bool) -> io::Result<()> {
        self.gate.wait_for(is_open).await.map(|_| ()).map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }
}

async fn pump(near: DuplexStream, far: Box<dyn ByteStream>, wire: Wire, forged: mpsc::UnboundedReceiver<Bytes>) {
    let mut cut = wire.gate.clone();
    let cuts = cut.borrow().cuts;
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    tokio::select! {
        biased;
        _ = cut.wait_for(|gate| gate.dead || gate.cuts != cuts) => {}
        _ = up(near_read, far_write, wire.clone(), forged) => {}
        _ = down(far_read, near_write, wire) => {}
    }
}

/// From the client to the server.
async fn up(
    mut near: ReadHalf<DuplexStream>,
    mut far: WriteHalf<Box<dyn ByteStream>>,
    mut wire: Wire,
    mut forged: mpsc::UnboundedReceiver<Bytes>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while buffer.len() < limits::PREFACE.len() {
        if near.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    far.write_all(&buffer.split_to(limits::PREFACE.len())).await?;
    loop {
        while let Some(frame) = split(&mut buffer) {
            wire.pass(|gate| !gate.mute).await?;
            wire.ledger.sent(wire.id, &frame);
            far.write_all(&frame).await?;
        }
        far.flush().await?;
        tokio::select! {
            biased;
            Some(frame) = forged.recv() => {
                wire.pass(|gate| !gate.mute).await?;
                wire.ledger.sent(wire.id, &frame);
                far.write_all(&frame).await?;
            }
            count = near.read_buf(&mut buffer) => if count? == 0 {
                return Ok(());
            },
        }
    }
}

/// From the server to the client. What the server has said is known at once, when the client hears it or not.
async fn down(
    mut far: ReadHalf<Box<dyn ByteStream>>,
    mut near: WriteHalf<DuplexStream>,
    mut wire: Wire,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = split(&mut buffer) {
            if wire.ledger.received(wire.id, &frame) {
                wire.pass(|gate| !gate.deaf).await?;
                near.write_all(&frame).await?;
            }
        }
        if far.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// The first frame, if all of it is there.
fn split(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_le_bytes(*buffer.first_chunk::<LENGTH_BYTES>()?);
    let bytes = usize::try_from(length).ok()?.checked_add(LENGTH_BYTES)?;
    (bytes <= buffer.len()).then(|| buffer.split_to(bytes).freeze())
}
