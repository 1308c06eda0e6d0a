//! CSV: the first row names the fields, each row becomes a JSON object in the same order. All values are strings unless
//! numbers, true, false and null (an empty field) are to be inferred; a number keeps its digits. A row may span lines
//! within quotes, up to the limit. The key is the field's text; no key if null was inferred.

use super::{BLOCK_BYTES, Chunk, End, InputFault, Record, Source};
use crate::args::CsvTypes;
use bytes::Bytes;
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct CsvSource<R> {
    reader: Reader<Fenced<R>>,
    fence: Arc<Fence>,
    types: CsvTypes,
    key_field: Option<String>,
    max_payload_bytes: usize,
    /// `"name":` of each field, once the first row is read.
    names: Vec<Vec<u8>>,
    key_index: Option<usize>,
    row: ByteRecord,
}

/// How far the input may be read before a row must have ended; the parser itself would collect an endless row.
#[derive(Debug, Default)]
struct Fence {
    read_bytes: AtomicU64,
    allowed_bytes: AtomicU64,
}

struct Fenced<R> {
    input: R,
    fence: Arc<Fence>,
}

const ROW_TOO_LONG: &str = "row over the limit";

impl<R: Read> Read for Fenced<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.fence.read_bytes.load(Ordering::Relaxed) > self.fence.allowed_bytes.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, ROW_TOO_LONG));
        }
        let read = self.input.read(out)?;
        self.fence.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Read> CsvSource<R> {
    pub(crate) fn new(input: R, key_field: Option<String>, types: CsvTypes, max_payload_bytes: usize) -> Self {
        let fence = Arc::new(Fence::default());
        fence.allowed_bytes.store(Self::reach(max_payload_bytes), Ordering::Relaxed);
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .buffer_capacity(BLOCK_BYTES)
            .from_reader(Fenced { input, fence: Arc::clone(&fence) });
        Self {
            reader,
            fence,
            types,
            key_field,
            max_payload_bytes,
            names: Vec::new(),
            key_index: None,
            row: ByteRecord::new(),
        }
    }

    /// Bytes a row and the block around it may take.
    fn reach(max_payload_bytes: usize) -> u64 {
        (max_payload_bytes + BLOCK_BYTES) as u64
    }

    /// Reads the next row into `self.row`; false at the end.
    fn read_row(&mut self) -> Result<bool, InputFault> {
        let line = self.reader.position().line();
        let more =
            self.reader.read_byte_record(&mut self.row).map_err(|error| fault(error, line, self.max_payload_bytes))?;
        let allowed = self.reader.position().byte() + Self::reach(self.max_payload_bytes);
        self.fence.allowed_bytes.store(allowed, Ordering::Relaxed);
        Ok(more)
    }

    /// Whether all that was read is used up, so that asking for more may wait. One byte of `\r\n` may be left.
    fn is_drained(&self) -> bool {
        self.fence.read_bytes.load(Ordering::Relaxed).saturating_sub(self.reader.position().byte()) <= 1
    }

    fn line(&self) -> u64 {
        self.row.position().map_or(0, csv::Position::line)
    }

    fn wrong(&self, problem: String) -> InputFault {
        InputFault::Record { line: self.line(), problem }
    }

    fn read_names(&mut self) -> Result<bool, InputFault> {
        if !self.read_row()? {
            return Ok(false);
        }
        let mut names: Vec<String> = Vec::with_capacity(self.row.len());
        for field in &self.row {
            let name =
                str::from_utf8(field).map_err(|_| self.wrong("has a field name that is not UTF-8".to_owned()))?;
            if names.iter().any(|other| other == name) {
                return Err(self.wrong(format!("names the field `{name}` twice")));
            }
            names.push(name.to_owned());
        }
        if let Some(field) = &self.key_field {
            self.key_index = names.iter().position(|name| name == field);
            if self.key_index.is_none() {
                return Err(self.wrong(format!("has no field `{field}`; the fields are {}", names.join(", "))));
            }
        }
        self.names = names.iter().map(|name| prefix(name)).collect();
        Ok(true)
    }

    fn record(&self) -> Result<Record, InputFault> {
        let mut json = Vec::with_capacity(self.row.as_slice().len() + 16 * self.names.len());
        let mut key = None;
        json.push(b'{');
        for (index, (name, field)) in self.names.iter().zip(&self.row).enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.extend_from_slice(name);
            let text = str::from_utf8(field)
                .map_err(|_| self.wrong(format!("has text that is not UTF-8 in field {}", index + 1)))?;
            let is_null = push_value(&mut json, text, self.types);
            if self.key_index == Some(index) && !is_null {
                key = Some(Bytes::copy_from_slice(field));
            }
        }
        json.push(b'}');
        if json.len() > self.max_payload_bytes {
            return Err(self.wrong(too_long(self.max_payload_bytes)));
        }
        Ok(Record { payload: Bytes::from(json), key })
    }

    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, InputFault> {
        if self.names.is_empty() && !self.read_names()? {
            return Ok(false);
        }
        let mut bytes = 0;
        while self.read_row()? {
            let record = self.record()?;
            bytes += record.payload.len();
            chunk.records.push(record);
            if bytes >= BLOCK_BYTES || self.is_drained() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<R: Read + Send> Source for CsvSource<R> {
    fn next_chunk(&mut self) -> Chunk {
        let before = self.reader.position().byte();
        let mut chunk = Chunk::default();
        chunk.end = match self.fill(&mut chunk) {
            Ok(true) => None,
            Ok(false) => Some(End::OfInput),
            Err(fault) => Some(End::Fault(fault)),
        };
        chunk.input_bytes = self.reader.position().byte() - before;
        chunk
    }
}

fn too_long(max_payload_bytes: usize) -> String {
    format!("makes a payload longer than the server's largest, {max_payload_bytes} bytes")
}

fn fault(error: csv::Error, line: u64, max_payload_bytes: usize) -> InputFault {
    let line = error.position().map_or(line, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(error) if error.kind() == io::ErrorKind::InvalidData && error.to_string() == ROW_TOO_LONG => {
            InputFault::Record { line, problem: too_long(max_payload_bytes) + " (a quote that is never closed?)" }
        }
        ErrorKind::Io(error) => InputFault::Read(error),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            InputFault::Record { line, problem: format!("has {len} fields; the first row has {expected_len}") }
        }
        _ => InputFault::Record { line, problem: "is not CSV".to_owned() },
    }
}

fn prefix(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 3);
    push_string(&mut out, name);
    out.push(b':');
    out
}

fn push_string(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("writing a string into memory cannot fail");
}

/// Appends a value; tells whether it is null.
fn push_value(json: &mut Vec<u8>, text: &str, types: CsvTypes) -> bool {
    match types {
        CsvTypes::Infer if text.is_empty() => json.extend_from_slice(b"null"),
        CsvTypes::Infer if matches!(text, "true" | "false") || is_json_number(text.as_bytes()) => {
            json.extend_from_slice(text.as_bytes());
        }
        CsvTypes::Infer | CsvTypes::Text => push_string(json, text),
    }
    types == CsvTypes::Infer && text.is_empty()
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_json_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Dribble, drain, pairs, problem};
    use super::*;

    fn read(input: &[u8], key: Option<&str>, types: CsvTypes) -> (Vec<(String, Option<String>)>, Option<InputFault>) {
        let mut results = [1, 3, 1000].map(|step| {
            let source = Dribble { rest: input, step };
            let (records, bytes, fault) = drain(&mut CsvSource::new(source, key.map(str::to_owned), types, 10_000));
            (pairs(&records), bytes, fault)
        });
        assert_eq!(results[0].0, results[1].0);
        assert_eq!(results[0].0, results[2].0);
        let (records, bytes, fault) = std::mem::take(&mut results[0]);
        if fault.is_none() {
            assert_eq!(bytes, input.len() as u64);
        }
        (records, fault)
    }

    #[test]
    fn rows_become_objects_in_the_order_of_the_fields() {
        let (records, fault) =
            read(b"carrier,n,note\nAA,1,\"a \"\"b\"\",\nc\"\r\nUA,,x", Some("carrier"), CsvTypes::Text);
        assert!(fault.is_none(), "{fault:?}");
        assert_eq!(
            records,
            [
                (r#"{"carrier":"AA","n":"1","note":"a \"b\",\nc"}"#.to_owned(), Some("AA".to_owned())),
                (r#"{"carrier":"UA","n":"","note":"x"}"#.to_owned(), Some("UA".to_owned())),
            ]
        );
    }

    #[test]
    fn inferred_types_keep_the_digits_of_numbers() {
        let (records, fault) = read(b"a,b,c,d,e\n1.50,007,true,,1e9\n", Some("d"), CsvTypes::Infer);
        assert!(fault.is_none());
        assert_eq!(records, [(r#"{"a":1.50,"b":"007","c":true,"d":null,"e":1e9}"#.to_owned(), None)]);
        for number in ["0", "-0", "10", "1.0", "-1.5e-3", "2E+5"] {
            assert!(is_json_number(number.as_bytes()), "{number}");
        }
        for text in ["", "-", "01", "1.", ".5", "+1", "1e", "1e5x", "0x1", "NaN", "1 "] {
            assert!(!is_json_number(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn wrong_rows_are_named_by_line() {
        let (records, fault) = read(b"a,b\n1,\"x\ny\"\n3\n", None, CsvTypes::Text);
        assert_eq!(records.len(), 1);
        let (line, text) = problem(fault);
        assert_eq!((line, text.as_str()), (4, "has 1 fields; the first row has 2"));

        let (_, fault) = read(b"a,a\n", None, CsvTypes::Text);
        assert_eq!(problem(fault), (1, "names the field `a` twice".to_owned()));
        let (_, fault) = read(b"a,b\n", Some("c"), CsvTypes::Text);
        assert_eq!(problem(fault), (1, "has no field `c`; the fields are a, b".to_owned()));
        let (_, fault) = read(b"a\n\xff\n", None, CsvTypes::Text);
        assert_eq!(problem(fault).0, 2);
    }

    #[test]
    fn an_unclosed_quote_is_refused_with_bounded_memory() {
        let endless = Read::chain(&b"a\n\""[..], io::repeat(b'x'));
        let (records, _, fault) = drain(&mut CsvSource::new(endless, None, CsvTypes::Text, 2 << 20));
        assert!(records.is_empty());
        assert!(problem(fault).1.contains("never closed"));
    }

    #[test]
    fn an_empty_file_and_a_lone_header_hold_no_messages() {
        assert!(read(b"", Some("a"), CsvTypes::Text).0.is_empty());
        assert!(read(b"a,b\n", Some("a"), CsvTypes::Text).0.is_empty());
    }
}
