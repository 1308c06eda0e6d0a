//! What `produce` reads: a stream of bytes cut into messages, in chunks of bounded size.
//!
//! A source reads a block, returns the messages whole within it and keeps the rest, so memory stays within a block plus
//! one message whatever the size of the input. A fault comes with the messages before it, which are still to be sent.
//! Sources know neither server nor terminal.

mod csv;
mod json;
mod lines;

pub(crate) use self::csv::CsvSource;
pub(crate) use json::JsonSource;
pub(crate) use lines::LineSource;

use bytes::Bytes;
use std::io;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) payload: Bytes,
    pub(crate) key: Option<Bytes>,
}

/// What one read gave.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) records: Vec<Record>,
    /// Bytes of input that these records and what is between them took.
    pub(crate) input_bytes: u64,
    /// No more comes after these records.
    pub(crate) end: Option<End>,
}

#[derive(Debug)]
pub(crate) enum End {
    OfInput,
    Fault(InputFault),
}

#[derive(Debug)]
pub(crate) enum InputFault {
    /// The input could not be read.
    Read(io::Error),
    /// A record that cannot be sent; `line` counts from 1.
    Record { line: u64, problem: String },
}

/// Cuts input into records.
pub(crate) trait Source: Send {
    /// Reads once, blocking. Not to be called again after an `end`.
    fn next_chunk(&mut self) -> Chunk;
}

/// Bytes read at once, and the most a chunk holds beyond one record.
const BLOCK_BYTES: usize = 1 << 20;

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Reads all, `step` bytes at a time.
    pub(crate) struct Dribble<'a> {
        pub(crate) rest: &'a [u8],
        pub(crate) step: usize,
    }

    impl io::Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.step.min(self.rest.len()).min(out.len());
            out[..n].copy_from_slice(&self.rest[..n]);
            self.rest = &self.rest[n..];
            Ok(n)
        }
    }

    /// All records, the bytes they took, and the fault if there was one.
    pub(crate) fn drain(source: &mut dyn Source) -> (Vec<Record>, u64, Option<InputFault>) {
        let (mut records, mut input_bytes) = (Vec::new(), 0);
        loop {
            let chunk = source.next_chunk();
            records.extend(chunk.records);
            input_bytes += chunk.input_bytes;
            match chunk.end {
                None => {}
                Some(End::OfInput) => return (records, input_bytes, None),
                Some(End::Fault(fault)) => return (records, input_bytes, Some(fault)),
            }
        }
    }

    pub(crate) fn pairs(records: &[Record]) -> Vec<(String, Option<String>)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        records.iter().map(|r| (text(&r.payload), r.key.as_ref().map(text))).collect()
    }

    pub(crate) fn problem(fault: Option<InputFault>) -> (u64, String) {
        match fault {
            Some(InputFault::Record { line, problem }) => (line, problem),
            other => panic!("expected a wrong record, got {other:?}"),
        }
    }
}
