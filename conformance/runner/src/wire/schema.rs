//! The tables of spec.md, read from the page itself: a table that says something else than the product does is then
//! found by the first case that sends it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const PAGE: &str = include_str!("../../../../protocol-spec/spec.md");

/// Type of a field (section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Unsigned, of so many bytes.
    Unsigned(usize),
    /// 64 bits in two's complement.
    I64,
    /// 0 or 1.
    Bool,
    /// u16 length and UTF-8.
    String,
    /// u32 length and bytes.
    Bytes,
    /// Absent, or the type.
    Optional(Box<Type>),
    /// Count and elements.
    List(Box<Type>),
    /// One of named numbers.
    Enum(String),
    /// Fields in order.
    Struct(String),
}

/// A field of a message or struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Type,
}

/// What a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Asks; the reply's name.
    Request(String),
    /// Answers.
    Reply,
    /// Sent by the client, without an answer.
    Notice,
    /// Sent by the server unasked.
    Push,
}

/// A message of section 8.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageType {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: u16,
    /// What it is for.
    pub nature: Nature,
    /// Whether its frames have a body.
    pub body: bool,
    /// The first version that has it.
    pub since: u16,
    /// Its fields in order.
    pub fields: Vec<Field>,
    /// Its tagged fields with their tags, ascending; their types without the `?`.
    pub tagged: Vec<(u16, Field)>,
}

/// A row of section 10.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// Its number.
    pub code: u16,
    /// Its name.
    pub name: String,
    /// Its class, by name.
    pub class: String,
    /// Whether a server sends it as retriable.
    pub retriable: bool,
    /// `no`, `yes` or `varies`.
    pub maybe_applied: String,
    /// Names of its details.
    pub details: Vec<String>,
}

/// All tables.
#[derive(Debug)]
pub struct Schema {
    enums: BTreeMap<String, Vec<(u8, String)>>,
    structs: BTreeMap<String, Vec<Field>>,
    messages: Vec<MessageType>,
    limits: BTreeMap<String, u64>,
    classes: Vec<(u8, String)>,
    errors: Vec<ErrorCode>,
}

/// The tables of the page this program was built with.
///
/// # Panics
/// If the page is not in its form, which a test checks.
pub fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::parse(PAGE).expect("the tables of spec.md have their form"))
}

impl Schema {
    /// Message by name.
    #[must_use]
    pub fn message(&self, name: &str) -> Option<&MessageType> {
        self.messages.iter().find(|message| message.name == name)
    }

    /// Message by kind.
    #[must_use]
    pub fn message_of_kind(&self, kind: u16) -> Option<&MessageType> {
        self.messages.iter().find(|message| message.kind == kind)
    }

    /// The newest version of the protocol.
    #[must_use]
    pub fn newest_version(&self) -> u16 {
        self.messages.iter().map(|message| message.since).max().unwrap_or(1)
    }

    /// Name of a kind, or `kind_n`.
    #[must_use]
    pub fn kind_name(&self, kind: u16) -> String {
        self.message_of_kind(kind).map_or_else(|| format!("kind_{kind}"), |message| message.name.clone())
    }

    /// All messages.
    #[must_use]
    pub fn messages(&self) -> &[MessageType] {
        &self.messages
    }

    /// Values of an enum.
    #[must_use]
    pub fn values(&self, name: &str) -> &[(u8, String)] {
        self.enums.get(name).map_or(&[], Vec::as_slice)
    }

    /// Fields of a struct.
    #[must_use]
    pub fn fields(&self, name: &str) -> &[Field] {
        self.structs.get(name).map_or(&[], Vec::as_slice)
    }

    /// A limit of section 9.
    ///
    /// # Panics
    /// If the page lists no such limit.
    #[must_use]
    pub fn limit(&self, name: &str) -> u64 {
        *self.limits.get(name).expect("a limit that spec.md lists")
    }

    /// Name of a class.
    #[must_use]
    pub fn class_name(&self, class: u8) -> Option<&str> {
        self.classes.iter().find(|(number, _)| *number == class).map(|(_, name)| name.as_str())
    }

    /// Number of a class.
    #[must_use]
    pub fn class_number(&self, name: &str) -> Option<u8> {
        self.classes.iter().find(|(_, known)| known == name).map(|(number, _)| *number)
    }

    /// All codes.
    #[must_use]
    pub fn errors(&self) -> &[ErrorCode] {
        &self.errors
    }

    /// Code by name.
    #[must_use]
    pub fn error(&self, name: &str) -> Option<&ErrorCode> {
        self.errors.iter().find(|error| error.name == name)
    }

    /// Code by number.
    #[must_use]
    pub fn error_by_code(&self, code: u16) -> Option<&ErrorCode> {
        self.errors.iter().find(|error| error.code == code)
    }

    /// Reads the tables of a page. The error is for a person.
    pub(crate) fn parse(page: &str) -> Result<Self, String> {
        let region = |name: &str| {
            let start = format!("<!-- generated: {name} -->");
            let from = page.find(&start).ok_or_else(|| format!("no region {name}"))? + start.len();
            let length = page[from..].find("<!-- /generated -->").ok_or_else(|| format!("region {name} has no end"))?;
            Ok::<_, String>(&page[from..from + length])
        };
        let enums = parse_enums(region("enums")?)?;
        let struct_names: Vec<&str> = headings(region("structs")?).map(|(name, _)| name).collect();
        let types = Types { enums: &enums, structs: &struct_names };
        let mut structs = BTreeMap::new();
        for (name, text) in headings(region("structs")?) {
            structs.insert(name.to_owned(), types.fields(text)?);
        }
        let messages =
            headings(region("messages")?).map(|(name, text)| types.message(name, text)).collect::<Result<_, _>>()?;
        let mut limits = BTreeMap::new();
        for row in rows(region("limits")?) {
            let [name, value, ..] = row.as_slice() else { return Err("a limit has a name and a value".into()) };
            limits.insert(plain(name), value.parse().map_err(|_| format!("limit {name}: {value}"))?);
        }
        let mut classes = Vec::new();
        for row in rows(region("classes")?) {
            let [number, name] = row.as_slice() else { return Err("a class has a number and a name".into()) };
            classes.push((number.parse().map_err(|_| format!("class {number}"))?, plain(name)));
        }
        let errors = rows(region("errors")?).iter().map(|row| parse_error(row)).collect::<Result<_, _>>()?;
        Ok(Self { enums, structs, messages, limits, classes, errors })
    }
}

fn plain(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// Sections of `#### NAME`.
fn headings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("\n#### ").skip(1).map(|section| section.split_once('\n').unwrap_or((section, "")))
}

/// Rows of the tables in a text, without heads.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut rows: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.iter().all(|cell| cell.starts_with("---")) {
            rows.pop();
        } else {
            rows.push(cells);
        }
    }
    rows
}

fn parse_enums(text: &str) -> Result<BTreeMap<String, Vec<(u8, String)>>, String> {
    let mut enums = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("- **")) {
        let (name, rest) = line[4..].split_once("**: ").ok_or_else(|| format!("enum: {line}"))?;
        let (list, _) = rest.split_once(". ").unwrap_or((rest, ""));
        let values = list.split(", ").map(|value| {
            let (number, word) = value.split_once(' ').ok_or_else(|| format!("value of {name}: {value}"))?;
            Ok((number.parse().map_err(|_| format!("value of {name}: {value}"))?, plain(word)))
        });
        enums.insert(name.to_owned(), values.collect::<Result<_, String>>()?);
    }
    Ok(enums)
}

fn parse_error(row: &[&str]) -> Result<ErrorCode, String> {
    let [code, name, class, retriable, maybe_applied, details, _] = row else {
        return Err(format!("error row: {row:?}"));
    };
    Ok(ErrorCode {
        code: code.parse().map_err(|_| format!("error code {code}"))?,
        name: plain(name),
        class: plain(class),
        retriable: *retriable == "yes",
        maybe_applied: (*maybe_applied).to_owned(),
        details: details.split_whitespace().map(plain).collect(),
    })
}

/// Cells of a row of plain fields; one of tagged fields has more.
const FIELD_CELLS: usize = 3;

struct Types<'a> {
    enums: &'a BTreeMap<String, Vec<(u8, String)>>,
    structs: &'a [&'a str],
}

impl Types<'_> {
    fn of(&self, text: &str) -> Result<Type, String> {
        if let Some(inner) = text.strip_suffix('?') {
            return Ok(Type::Optional(Box::new(self.of(inner)?)));
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Ok(Type::List(Box::new(self.of(inner)?)));
        }
        Ok(match text {
            "u8" => Type::Unsigned(1),
            "u16" => Type::Unsigned(2),
            "u32" => Type::Unsigned(4),
            "u64" => Type::Unsigned(8),
            "i64" => Type::I64,
            "bool" => Type::Bool,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            name if self.enums.contains_key(name) => Type::Enum(name.to_owned()),
            name if self.structs.contains(&name) => Type::Struct(name.to_owned()),
            other => return Err(format!("type {other}")),
        })
    }

    fn fields(&self, text: &str) -> Result<Vec<Field>, String> {
        let field = |row: Vec<&str>| {
            let [name, kind, ..] = row.as_slice() else { return Err(format!("field row: {row:?}")) };
            Ok(Field { name: plain(name), kind: self.of(&plain(kind))? })
        };
        rows(text).into_iter().filter(|row| row.len() == FIELD_CELLS).map(field).collect()
    }

    fn tagged(&self, text: &str) -> Result<Vec<(u16, Field)>, String> {
        let field = |row: Vec<&str>| {
            let [tag, _, name, kind, _] = row.as_slice() else { return Err(format!("tagged row: {row:?}")) };
            let tag = tag.parse().map_err(|_| format!("tag {tag}"))?;
            Ok((tag, Field { name: plain(name), kind: self.of(&plain(kind))? }))
        };
        rows(text).into_iter().filter(|row| row.len() != FIELD_CELLS).map(field).collect()
    }

    fn message(&self, name: &str, text: &str) -> Result<MessageType, String> {
        let about = text.lines().find(|line| line.starts_with("Kind `0x")).ok_or_else(|| format!("kind of {name}"))?;
        let (digits, rest) = about["Kind `0x".len()..].split_once("`, ").ok_or_else(|| format!("kind of {name}"))?;
        // The attributes end at the first full stop; what follows is prose.
        let attributes: Vec<&str> = rest.split_once('.').unwrap_or((rest, "")).0.split(", ").collect();
        let nature = match attributes.first().copied() {
            Some("request") => {
                let reply = attributes.iter().find_map(|word| word.strip_prefix("answered by "));
                Nature::Request(reply.ok_or_else(|| format!("reply of {name}"))?.to_owned())
            }
            Some("reply") => Nature::Reply,
            Some("notice of the client") => Nature::Notice,
            Some("push of the server") => Nature::Push,
            other => return Err(format!("nature of {name}: {other:?}")),
        };
        Ok(MessageType {
            name: name.to_owned(),
            kind: u16::from_str_radix(digits, 16).map_err(|_| format!("kind of {name}"))?,
            nature,
            body: attributes.contains(&"with a body"),
            since: match attributes.iter().find_map(|word| word.strip_prefix("since version ")) {
                Some(version) => version.parse().map_err(|_| format!("version of {name}"))?,
                None => 1,
            },
            fields: self.fields(text)?,
            tagged: self.tagged(text)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_read_whole() {
        let schema = schema();
        assert_eq!(schema.message("Hello").map(|m| (m.kind, m.fields.len())), Some((1, 8)));
        assert_eq!(schema.messages().iter().filter(|m| m.body).count(), 3, "Produce, Deliver and Fetched");
        assert_eq!(schema.limit("max_in_flight"), 64);
        assert_eq!(schema.class_name(16), Some("internal"));
        assert_eq!(schema.error("LOG_TRUNCATED").map(|e| e.details.len()), Some(2));
    }

    #[test]
    fn a_reply_has_the_kind_of_its_request_with_the_high_bit() {
        for message in schema().messages() {
            if let Nature::Request(reply) = &message.nature {
                let reply = schema().message(reply).expect("a reply that is on the page");
                assert_eq!((reply.kind, &reply.nature), (message.kind | 0x8000, &Nature::Reply), "{}", message.name);
            }
        }
    }
}
