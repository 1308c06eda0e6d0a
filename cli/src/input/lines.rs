//! Lines: each is a payload, byte for byte without its `\n`. An empty line is an empty payload, `\r` stays, and a last
//! line without `\n` counts. A line over the limit is a fault, found after reading no more than the limit of it.

use super::{BLOCK_BYTES, Chunk, End, InputFault, Record, Source};
use bytes::{Bytes, BytesMut};
use memchr::{memchr_iter, memrchr};
use std::io::{self, Read};

#[derive(Debug)]
pub(crate) struct LineSource<R> {
    input: R,
    /// Read, but not yet known to be whole lines.
    rest: BytesMut,
    block: Vec<u8>,
    max_line_bytes: usize,
    lines_before: u64,
}

impl<R: Read> LineSource<R> {
    pub(crate) fn new(input: R, max_line_bytes: usize) -> Self {
        Self { input, rest: BytesMut::new(), block: vec![0; BLOCK_BYTES], max_line_bytes, lines_before: 0 }
    }

    /// Number of the line that follows those returned so far.
    pub(crate) fn next_line_number(&self) -> u64 {
        self.lines_before + 1
    }

    fn cut(&mut self, block: Bytes, chunk: &mut Chunk) {
        chunk.input_bytes += block.len() as u64;
        let mut start = 0;
        for end in memchr_iter(b'\n', &block) {
            if !self.push(block.slice(start..end), chunk) {
                return;
            }
            start = end + 1;
        }
    }

    fn push(&mut self, line: Bytes, chunk: &mut Chunk) -> bool {
        if line.len() > self.max_line_bytes {
            chunk.end = Some(self.too_long());
            return false;
        }
        self.lines_before += 1;
        chunk.records.push(Record { payload: line, key: None });
        true
    }

    fn too_long(&self) -> End {
        let problem = format!("is longer than the server's largest payload, {} bytes", self.max_line_bytes);
        End::Fault(InputFault::Record { line: self.next_line_number(), problem })
    }

    fn read_block(&mut self) -> io::Result<usize> {
        loop {
            match self.input.read(&mut self.block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl<R: Read + Send> Source for LineSource<R> {
    fn next_chunk(&mut self) -> Chunk {
        let mut chunk = Chunk::default();
        while chunk.records.is_empty() && chunk.end.is_none() {
            match self.read_block() {
                Err(error) => chunk.end = Some(End::Fault(InputFault::Read(error))),
                Ok(0) => {
                    let last = self.rest.split().freeze();
                    chunk.input_bytes += last.len() as u64;
                    if last.is_empty() || self.push(last, &mut chunk) {
                        chunk.end = Some(End::OfInput);
                    }
                }
                Ok(read) => {
                    let whole = memrchr(b'\n', &self.block[..read]).map(|at| self.rest.len() + at + 1);
                    self.rest.extend_from_slice(&self.block[..read]);
                    if let Some(whole) = whole {
                        let lines = self.rest.split_to(whole).freeze();
                        self.cut(lines, &mut chunk);
                    }
                    if chunk.end.is_none() && self.rest.len() > self.max_line_bytes {
                        chunk.end = Some(self.too_long());
                    }
                }
            }
        }
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Dribble, drain, problem};
    use super::*;

    fn lines(input: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (records, bytes, fault) = drain(&mut LineSource::new(Dribble { rest: input, step }, 100));
        assert!(fault.is_none());
        assert_eq!(bytes, input.len() as u64);
        assert!(records.iter().all(|r| r.key.is_none()));
        records.iter().map(|r| r.payload.to_vec()).collect()
    }

    #[test]
    fn every_line_is_a_payload_byte_for_byte_however_it_arrives() {
        for step in [1, 2, 3, 7, 1000] {
            assert_eq!(lines(b"a\nbc\n", step), [b"a".to_vec(), b"bc".to_vec()]);
            assert_eq!(lines(b"a\nbc", step), [b"a".to_vec(), b"bc".to_vec()]);
            assert_eq!(lines(b"a\r\n\n\xff\x00 \r", step), [b"a\r".to_vec(), b"".to_vec(), b"\xff\x00 \r".to_vec()]);
            assert_eq!(lines(b"\n\n", step), [b"".to_vec(), b"".to_vec()]);
            assert!(lines(b"", step).is_empty());
        }
    }

    #[test]
    fn a_line_over_the_limit_names_its_number_after_those_before_it() {
        for tail in ["\n", "", "\nnext\n"] {
            for step in [1, 5, 1000] {
                let input = format!("one\ntwo\n{}{tail}", "x".repeat(101));
                let (records, _, fault) = drain(&mut LineSource::new(Dribble { rest: input.as_bytes(), step }, 100));
                assert_eq!(records.len(), 2);
                let (line, text) = problem(fault);
                assert_eq!(line, 3);
                assert!(text.contains("100 bytes"), "{text}");
            }
        }
        let (records, _, fault) = drain(&mut LineSource::new("x".repeat(100).as_bytes(), 100));
        assert!(fault.is_none());
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn an_endless_line_is_refused_with_bounded_memory() {
        let mut source = LineSource::new(io::repeat(b'x'), 3 << 20);
        let (records, _, fault) = drain(&mut source);
        assert!(records.is_empty());
        assert_eq!(problem(fault).0, 1);
        assert!(source.rest.capacity() <= 16 << 20, "{}", source.rest.capacity());
    }

    #[test]
    fn a_read_error_comes_after_the_lines_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(5))
            }
        }
        let (records, _, fault) = drain(&mut LineSource::new(Read::chain(&b"a\n"[..], Broken), 10));
        assert_eq!(records.len(), 1);
        assert!(matches!(fault, Some(InputFault::Read(_))));
    }
}
