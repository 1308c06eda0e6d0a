//! A server that does as a case tells it: a small obedient one by default, and for the nth frame of a kind whatever the
//! script says instead, malformed frames included.
//!
//! Connections have a thread each; what they share is one state under a lock. It keeps no files and checks no credentials.

mod answer;
mod batches;
mod script;
mod state;

pub use batches::batch_from_value;
pub(crate) use batches::flaw_from_value;
pub use script::{Outgoing, Script, Step, steps_from_value};

use crate::wire::{Frame, PREFACE, WireError};
use serde_json::Value;
use socket2::SockRef;
use state::{Shared, State};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A scripted server, listening on a port of its own until dropped.
#[derive(Debug)]
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Fake {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// Of the socket.
    pub fn start(script: Script) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(script));
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Follows another script from now on; counters and what was produced stay.
    pub fn set_script(&self, script: Script) {
        self.shared.change(|state| state.set_script(script));
    }

    /// Takes steps on every open connection, as if a frame without correlation had asked for them.
    ///
    /// # Errors
    /// What is wrong with the steps, for a person.
    pub fn take_steps(&self, steps: &[Step]) -> Result<(), String> {
        let connections = self.shared.lock().connections();
        for (number, mut stream) in connections {
            let mut connection = Connection { number, stream: &mut stream, shared: &self.shared };
            connection.steps(steps, None).map_err(|end| format!("{end:?}"))?;
        }
        Ok(())
    }

    /// A counter by its name in cases: `connections`, `open`, `seen.NAME` (frames of a message; `seen.kind_n` for unknown
    /// ones), `refused` (connections whose client broke the protocol).
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.shared.lock().counter(name)
    }

    /// Fields of the nth frame of a message, from 0, or from -1 for the last. Those of Produce have `batch` besides: what its
    /// body says of itself.
    #[must_use]
    pub fn seen(&self, name: &str, index: i64) -> Option<Value> {
        self.shared.lock().seen(name, index)
    }

    /// Closes every connection there is.
    pub fn disconnect(&self) {
        self.shared.lock().disconnect();
    }

    /// When each connection was accepted, in milliseconds since the first.
    #[must_use]
    pub fn accept_times_ms(&self) -> Vec<u64> {
        self.shared.lock().accept_times_ms()
    }

    /// Why clients were cut off for breaking the protocol.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        self.shared.lock().refusals.clone()
    }

    /// Waits until `condition` holds; false if it did not in time.
    #[must_use]
    pub fn wait(&self, timeout: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.shared.nap(left.min(Duration::from_millis(20)));
        }
        true
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.change(State::stop);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let Ok(kept) = stream.try_clone() else { continue };
        drop(stream.set_nodelay(true));
        let Some(number) = shared.lock().accepted(kept) else { return };
        shared.notify();
        let shared = Arc::clone(shared);
        thread::spawn(move || serve(number, stream, &shared));
    }
}

fn serve(number: u64, mut stream: TcpStream, shared: &Arc<Shared>) {
    let end = Connection { number, stream: &mut stream, shared }.run();
    if matches!(end, End::Reset) {
        drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
    }
    shared.change(|state| {
        if let End::Refused(why) = end {
            state.refusals.push(why);
        }
        state.closed(number);
    });
    drop(stream.shutdown(Shutdown::Both));
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// Closed by either side.
    Closed,
    /// To be reset by this side.
    Reset,
    /// The client broke the protocol.
    Refused(String),
}

struct Connection<'a> {
    number: u64,
    stream: &'a mut TcpStream,
    shared: &'a Shared,
}

impl Connection<'_> {
    fn run(&mut self) -> End {
        let mut preface = [0; 8];
        if self.stream.read_exact(&mut preface).is_err() {
            return End::Closed;
        }
        if preface != PREFACE {
            return End::Refused("another preface".to_owned());
        }
        loop {
            let frame = match Frame::read(self.stream) {
                Ok(frame) => frame,
                Err(WireError::Refused(why)) => return End::Refused(why),
                Err(_) => return End::Closed,
            };
            if let Err(end) = self.frame(&frame) {
                return end;
            }
        }
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), End> {
        let name = frame.name();
        let fields = match frame.fields() {
            Ok(fields) => fields,
            // An unknown kind may have any control part; a known one may not.
            Err(_) if crate::wire::schema().message(&name).is_none() => Value::Null,
            Err(error) => return Err(End::Refused(format!("{name}: {error}"))),
        };
        let mut noted = fields.clone();
        if name == "Produce" {
            noted["batch"] = batches::summary(frame.body.as_deref().unwrap_or_default())
                .map_err(|error| End::Refused(format!("Produce: {error}")))?;
        }
        let steps = self.shared.lock().on_frame(&name, noted);
        self.shared.notify();
        self.steps(&steps, Some((frame, &fields)))
    }

    fn steps(&mut self, steps: &[Step], request: Option<(&Frame, &Value)>) -> Result<(), End> {
        for step in steps {
            match step {
                Step::Default => {
                    let Some((frame, fields)) = request else { continue };
                    self.answer(frame, fields)?;
                }
                Step::Defer => {
                    let Some((frame, fields)) = request else { continue };
                    self.shared.lock().deferred.push((self.number, frame.clone(), fields.clone()));
                }
                Step::Deferred => {
                    let kept = self.shared.lock().take_deferred(self.number);
                    for (frame, fields) in kept.iter().rev() {
                        self.answer(frame, fields)?;
                    }
                }
                Step::Send(outgoing) => {
                    self.write(&outgoing.bytes(request.map_or(0, |(frame, _)| frame.correlation)))?;
                }
                Step::Raw(bytes) => self.write(bytes)?,
                Step::Delay(time) => thread::sleep(*time),
                Step::Ignore => {}
                Step::Close => return Err(End::Closed),
                Step::Reset => return Err(End::Reset),
            }
        }
        Ok(())
    }

    fn answer(&mut self, frame: &Frame, fields: &Value) -> Result<(), End> {
        let answers = self.shared.lock().answer(self.number, frame, fields);
        self.shared.notify();
        for answer in answers.map_err(|error| End::Refused(error.to_string()))? {
            self.write(&answer.encode())?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.stream.write_all(bytes).map_err(|_| End::Closed)
    }
}
