//! `sdk-rust/api.toml`: its model, with types resolved against itself and the wire's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::files::read_toml;
use super::names::{bytes, capitalised, either, time};
use super::protocol::{self, Errors, Messages, Protocol, by_code, by_number};

/// What a client can do, for every language.
pub(super) struct Api {
    /// Enums of the API and those of the wire that the API uses.
    pub(super) enums: BTreeMap<String, Enum>,
    /// What is passed by name.
    pub(super) options: BTreeMap<String, Options>,
    /// Records of the API and those of the wire that the API uses.
    pub(super) records: BTreeMap<String, Record>,
    /// Classes of errors, by number.
    pub(super) error_classes: Vec<ErrorClass>,
    /// Errors, by code.
    pub(super) errors: Vec<ErrorCode>,
    /// In the order of the source.
    pub(super) operations: Vec<Operation>,
}

/// A type of the grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I64,
    F64,
    String,
    Bytes,
    Duration,
    Path,
    Position,
    Headers,
    HeaderValue,
    Enum(String),
    Record(String),
    Options(String),
    /// What stays behind the boundary: `Client`, `Producer`, `Consumer`, `Delivery`.
    Handle(String),
    List(Box<Type>),
    Optional(Box<Type>),
    ByPartition(Box<Type>),
}

impl Type {
    /// Without the question mark.
    pub(super) fn required(&self) -> &Type {
        match self {
            Type::Optional(inner) => inner,
            other => other,
        }
    }

    pub(super) fn is_optional(&self) -> bool {
        matches!(self, Type::Optional(_))
    }
}

pub(super) struct Enum {
    pub(super) doc: String,
    pub(super) values: Vec<EnumValue>,
    /// Whether it is one of messages.toml.
    pub(super) wire: bool,
    /// Its name in Rust.
    pub(super) rust: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnumValue {
    pub(super) name: String,
    pub(super) doc: String,
}

/// A class of errors: what languages raise.
pub(super) struct ErrorClass {
    pub(super) name: String,
    pub(super) number: u8,
    pub(super) doc: String,
    pub(super) python: Option<String>,
}

/// An error of the closed table.
pub(super) struct ErrorCode {
    pub(super) name: String,
    pub(super) number: u16,
    pub(super) class: String,
    pub(super) retriable: bool,
    pub(super) maybe_applied: String,
    pub(super) text: String,
    pub(super) details: Vec<String>,
}

pub(super) struct Options {
    pub(super) doc: String,
    pub(super) fields: Vec<Field>,
    /// At most one of these may be given.
    pub(super) exclusive: Vec<String>,
    /// Whether it is a struct of messages.toml.
    pub(super) wire: bool,
    pub(super) rust_fields: Vec<RustField>,
    pub(super) rust_example: Option<String>,
}

pub(super) struct Record {
    pub(super) doc: String,
    pub(super) fields: Vec<Field>,
    /// The struct or message of messages.toml that it is.
    pub(super) wire: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) doc: String,
    pub(super) default: Option<toml::Value>,
    pub(super) min: Option<u64>,
    pub(super) max: Option<u64>,
    pub(super) secret: bool,
    pub(super) needs: Option<Needs>,
    pub(super) rust: Option<String>,
    pub(super) rust_through: Option<String>,
}

/// What a field is an error without.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Needs {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RustField {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) new: bool,
}

/// Whether an operation changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Effect {
    Read,
    Change,
    Local,
}

pub(super) struct Operation {
    pub(super) on: String,
    pub(super) name: String,
    pub(super) adapter: String,
    pub(super) effect: Effect,
    pub(super) feature: String,
    pub(super) call: bool,
    pub(super) arguments: Vec<Field>,
    pub(super) returns: Option<Type>,
    pub(super) names: BTreeMap<String, String>,
    pub(super) doc: String,
}

// ---------------------------------------------------------------- the file as it is written

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApi {
    #[serde(rename = "enum")]
    enums: BTreeMap<String, RawEnum>,
    options: BTreeMap<String, RawOptions>,
    error_class: BTreeMap<String, RawErrorClass>,
    record: BTreeMap<String, RawRecord>,
    operation: Vec<RawOperation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnum {
    doc: String,
    rust: Option<String>,
    values: Vec<EnumValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOptions {
    doc: String,
    #[serde(default)]
    wire: bool,
    #[serde(default)]
    exclusive: Vec<String>,
    #[serde(default)]
    rust_fields: Vec<RustField>,
    rust_example: Option<String>,
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawErrorClass {
    doc: String,
    python: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecord {
    doc: String,
    wire: Option<String>,
    #[serde(default)]
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    doc: String,
    default: Option<toml::Value>,
    min: Option<u64>,
    max: Option<u64>,
    #[serde(default)]
    secret: bool,
    needs: Option<Needs>,
    rust: Option<String>,
    rust_through: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperation {
    on: String,
    name: String,
    adapter: String,
    effect: Effect,
    feature: String,
    #[serde(default)]
    call: bool,
    arguments: Vec<RawField>,
    returns: Option<String>,
    #[serde(default)]
    names: BTreeMap<String, String>,
    doc: String,
}

// ---------------------------------------------------------------- resolving

const HANDLES: [&str; 4] = ["Client", "Producer", "Consumer", "Delivery"];

/// The names a type may use.
struct Scope<'a> {
    raw: &'a RawApi,
    messages: &'a Messages,
}

impl Scope<'_> {
    fn resolve(&self, text: &str) -> Result<Type> {
        if let Some(inner) = text.strip_suffix('?') {
            return Ok(Type::Optional(Box::new(self.resolve(inner)?)));
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Ok(Type::List(Box::new(self.resolve(inner)?)));
        }
        if let Some(inner) = text.strip_prefix("{u32: ").and_then(|rest| rest.strip_suffix('}')) {
            return Ok(Type::ByPartition(Box::new(self.resolve(inner)?)));
        }
        Ok(match text {
            "bool" => Type::Bool,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "i64" => Type::I64,
            "f64" => Type::F64,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "duration" => Type::Duration,
            "path" => Type::Path,
            "position" => Type::Position,
            "headers" => Type::Headers,
            "header_value" => Type::HeaderValue,
            name => self.resolve_name(name)?,
        })
    }

    fn resolve_name(&self, name: &str) -> Result<Type> {
        let owned = name.to_owned();
        if self.raw.enums.contains_key(name) || self.messages.enums.contains_key(name) {
            return Ok(Type::Enum(owned));
        }
        if self.raw.options.contains_key(name) {
            return Ok(Type::Options(owned));
        }
        if self.raw.record.contains_key(name) || self.wire_fields(name).is_some() {
            return Ok(Type::Record(owned));
        }
        ensure!(HANDLES.contains(&name), "no type {name}");
        Ok(Type::Handle(owned))
    }

    fn wire_fields(&self, name: &str) -> Option<(&str, &[protocol::Field])> {
        if let Some(item) = self.messages.structs.get(name) {
            return Some((&item.doc, &item.fields));
        }
        self.messages.message.get(name).map(|item| (item.doc.as_str(), item.fields.as_slice()))
    }

    fn field(&self, raw: &RawField) -> Result<Field> {
        Ok(Field {
            name: raw.name.clone(),
            kind: self.resolve(&raw.kind).with_context(|| raw.name.clone())?,
            doc: raw.doc.clone(),
            default: raw.default.clone(),
            min: raw.min,
            max: raw.max,
            secret: raw.secret,
            needs: raw.needs.clone(),
            rust: raw.rust.clone(),
            rust_through: raw.rust_through.clone(),
        })
    }

    fn fields(&self, raw: &[RawField]) -> Result<Vec<Field>> {
        raw.iter().map(|field| self.field(field)).collect()
    }

    /// The record that a struct or message of the wire is. What the wire calls by the name of an option struct, which is
    /// written by the caller, is a record of another name when it is read.
    fn wire_record(&self, name: &str, doc: Option<&str>) -> Result<Record> {
        let (wire_doc, wire_fields) = self.wire_fields(name).with_context(|| format!("the wire has no {name}"))?;
        let mut fields = Vec::new();
        for field in wire_fields {
            let kind = match self.resolve(&field.kind).with_context(|| format!("{name}.{}", field.name))? {
                Type::Options(options) => Type::Record(self.record_of_wire(&options)?),
                other => other,
            };
            fields.push(Field {
                name: field.name.clone(),
                kind,
                doc: field.doc.clone(),
                default: None,
                min: None,
                max: None,
                secret: field.secret,
                needs: None,
                rust: None,
                rust_through: None,
            });
        }
        Ok(Record { doc: doc.unwrap_or(wire_doc).to_owned(), fields, wire: Some(name.to_owned()) })
    }

    fn record_of_wire(&self, wire: &str) -> Result<String> {
        let mut named = self.raw.record.iter().filter(|(_, record)| record.wire.as_deref() == Some(wire));
        let (name, _) = named.next().with_context(|| format!("no record says wire = \"{wire}\""))?;
        Ok(name.clone())
    }
}

impl Api {
    /// Reads and checks it.
    pub(super) fn read(root: &Path, protocol: &Protocol) -> Result<Api> {
        let raw: RawApi = read_toml(&root.join("sdk-rust/api.toml"))?;
        let mut api = Api::resolve(&raw, &protocol.messages).context("in api.toml")?;
        api.take_in_the_errors(&raw, &protocol.errors).context("in api.toml")?;
        api.check().context("in api.toml")?;
        Ok(api)
    }

    fn resolve(raw: &RawApi, messages: &Messages) -> Result<Api> {
        let scope = Scope { raw, messages };
        let mut api = Api {
            enums: BTreeMap::new(),
            options: BTreeMap::new(),
            records: BTreeMap::new(),
            error_classes: Vec::new(),
            errors: Vec::new(),
            operations: Vec::new(),
        };
        for (name, item) in &raw.enums {
            let rust = item.rust.clone().unwrap_or_else(|| name.clone());
            let item = Enum { doc: item.doc.clone(), values: item.values.clone(), wire: false, rust };
            api.enums.insert(name.clone(), item);
        }
        for (name, item) in &raw.options {
            let fields = scope.fields(&item.fields).with_context(|| name.clone())?;
            let (exclusive, rust_fields) = (item.exclusive.clone(), item.rust_fields.clone());
            let options = Options {
                doc: item.doc.clone(),
                fields,
                exclusive,
                wire: item.wire,
                rust_fields,
                rust_example: item.rust_example.clone(),
            };
            api.options.insert(name.clone(), options);
        }
        for (name, item) in &raw.record {
            let record = match &item.wire {
                Some(wire) => scope.wire_record(wire, Some(&item.doc))?,
                None => {
                    let fields = scope.fields(&item.fields).with_context(|| name.clone())?;
                    Record { doc: item.doc.clone(), fields, wire: None }
                }
            };
            api.records.insert(name.clone(), record);
        }
        for item in &raw.operation {
            let operation = Operation {
                on: item.on.clone(),
                name: item.name.clone(),
                adapter: item.adapter.clone(),
                effect: item.effect,
                feature: item.feature.clone(),
                call: item.call,
                arguments: scope.fields(&item.arguments).with_context(|| item.name.clone())?,
                returns: item.returns.as_deref().map(|text| scope.resolve(text)).transpose()?,
                names: item.names.clone(),
                doc: item.doc.clone(),
            };
            api.operations.push(operation);
        }
        api.take_in_the_wire(&scope)?;
        Ok(api)
    }

    fn take_in_the_errors(&mut self, raw: &RawApi, errors: &Errors) -> Result<()> {
        for (name, number) in by_number(&errors.classes) {
            let item = raw.error_class.get(name).with_context(|| format!("no error_class {name}"))?;
            let (doc, python) = (item.doc.clone(), item.python.clone());
            self.error_classes.push(ErrorClass { name: name.clone(), number, doc, python });
        }
        ensure!(raw.error_class.len() == self.error_classes.len(), "an error_class is not in errors.toml");
        for (name, error) in by_code(errors) {
            self.errors.push(ErrorCode {
                name: name.clone(),
                number: error.code,
                class: error.class.clone(),
                retriable: error.retriable,
                maybe_applied: error.maybe_applied.clone(),
                text: error.text.clone(),
                details: error.details.clone(),
            });
        }
        Ok(())
    }

    /// Adds the records and enums of the wire that anything here refers to.
    fn take_in_the_wire(&mut self, scope: &Scope<'_>) -> Result<()> {
        loop {
            let (enums, records) = self.named();
            let enums: Vec<_> = enums.into_iter().filter(|name| !self.enums.contains_key(name)).collect();
            let records: Vec<_> = records.into_iter().filter(|name| !self.records.contains_key(name)).collect();
            if enums.is_empty() && records.is_empty() {
                return Ok(());
            }
            for name in enums {
                let item = scope.messages.enums.get(&name).with_context(|| format!("no enum {name}"))?;
                let value = |(name, _): (&String, u8)| EnumValue { name: name.clone(), doc: String::new() };
                let values = by_number(&item.values).into_iter().map(value).collect();
                let item = Enum { doc: item.doc.clone(), values, wire: true, rust: name.clone() };
                self.enums.insert(name, item);
            }
            for name in records {
                let record = scope.wire_record(&name, None)?;
                self.records.insert(name, record);
            }
        }
    }

    /// The enums and records that anything names.
    fn named(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut enums, mut records) = (BTreeSet::new(), BTreeSet::new());
        let fields = self.options.values().flat_map(|item| &item.fields);
        let fields = fields.chain(self.records.values().flat_map(|item| &item.fields));
        let fields = fields.chain(self.operations.iter().flat_map(|item| &item.arguments));
        let kinds = fields.map(|field| &field.kind);
        for kind in kinds.chain(self.operations.iter().filter_map(|item| item.returns.as_ref())) {
            let mut kind = kind;
            while let Type::List(inner) | Type::Optional(inner) | Type::ByPartition(inner) = kind {
                kind = inner;
            }
            match kind {
                Type::Enum(name) => enums.insert(name.clone()),
                Type::Record(name) => records.insert(name.clone()),
                _ => false,
            };
        }
        (enums, records)
    }

    fn check(&self) -> Result<()> {
        for (name, options) in &self.options {
            let known = |wanted: &str| options.fields.iter().any(|field| field.name == wanted);
            for other in &options.exclusive {
                ensure!(known(other), "{name}: exclusive names {other}");
            }
            for field in &options.fields {
                if let Some(needs) = &field.needs {
                    ensure!(known(&needs.name), "{name}.{} needs {}", field.name, needs.name);
                }
                ensure!(!field.doc.is_empty(), "{name}.{}: say what it is", field.name);
                let is_duration = *field.kind.required() == Type::Duration;
                ensure!(
                    is_duration == field.name.ends_with("_ms"),
                    "{name}.{}: durations and only they are _ms",
                    field.name
                );
                if is_duration && !options.wire {
                    ensure!(field.max.is_some(), "{name}.{}: a duration without a bound overflows clocks", field.name);
                }
                self.check_default(field).with_context(|| format!("{name}.{}", field.name))?;
            }
        }
        let mut adapters = BTreeSet::new();
        for operation in &self.operations {
            ensure!(adapters.insert(&operation.adapter), "{} twice", operation.adapter);
            let on = ["module", "client", "admin", "producer", "delivery", "consumer"];
            ensure!(on.contains(&operation.on.as_str()), "{}: on {}", operation.name, operation.on);
            ensure!(operation.call || operation.on != "admin", "{}: admin operations are calls", operation.name);
            for field in &operation.arguments {
                self.check_default(field).with_context(|| format!("{}.{}", operation.name, field.name))?;
            }
        }
        Ok(())
    }

    fn check_default(&self, field: &Field) -> Result<()> {
        let Some(default) = &field.default else {
            return Ok(());
        };
        match (field.kind.required(), default) {
            (Type::List(_), toml::Value::Array(none)) if none.is_empty() => Ok(()),
            (Type::Bool, toml::Value::Boolean(_)) | (Type::Position, toml::Value::String(_)) => Ok(()),
            (Type::U32 | Type::U64 | Type::Duration, toml::Value::Integer(value)) => {
                let value = u64::try_from(*value)?;
                ensure!(
                    field.min.is_none_or(|min| min <= value) && field.max.is_none_or(|max| value <= max),
                    "default"
                );
                Ok(())
            }
            (Type::Enum(name), toml::Value::String(value)) => {
                let known = self.enums.get(name).is_some_and(|item| item.values.iter().any(|one| one.name == *value));
                ensure!(known, "{name} has no {value}");
                Ok(())
            }
            (kind, default) => bail!("{default} is no default for {kind:?}"),
        }
    }

    /// The calls that the `admin` of a client offers.
    pub(super) fn admin_calls(&self) -> impl Iterator<Item = &Operation> {
        self.calls().filter(|operation| operation.on == "admin")
    }

    /// Whether records say that enum to the caller, and no option or argument is of it.
    pub(super) fn is_told(&self, name: &str) -> bool {
        let is_it = |field: &Field| matches!(field.kind.required(), Type::Enum(known) if known == name);
        let taken = self.options.values().flat_map(|options| &options.fields);
        let mut taken = taken.chain(self.operations.iter().flat_map(|operation| &operation.arguments));
        self.records.values().flat_map(|record| &record.fields).any(is_it) && !taken.any(is_it)
    }

    /// Records that languages have a type for: messages and headers have hand-written ones.
    pub(super) fn plain_records(&self) -> impl Iterator<Item = (&String, &Record)> {
        let plain = |record: &Record| {
            !record.fields.iter().any(|field| matches!(field.kind, Type::Headers | Type::HeaderValue))
        };
        self.records.iter().filter(move |(_, record)| plain(record))
    }

    /// The calls that cross the boundary by name.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|operation| operation.call)
    }
}

impl Enum {
    /// `a, b or c`.
    pub(super) fn choices(&self) -> String {
        either(&self.values.iter().map(|value| value.name.clone()).collect::<Vec<_>>())
    }
}

impl Field {
    /// Its name without the unit, for languages with a type for durations.
    pub(super) fn plain_name(&self) -> &str {
        match self.kind.required() {
            Type::Duration => self.name.trim_end_matches("_ms"),
            _ => &self.name,
        }
    }

    fn measure(&self, value: u64) -> String {
        match self.kind.required() {
            Type::Duration => time(value),
            Type::String | Type::Path => bytes(value),
            _ if self.name.ends_with("_bytes") => bytes(value),
            _ => value.to_string(),
        }
    }

    /// Its default for a person, if it has one that says something.
    pub(super) fn default_text(&self) -> Option<String> {
        Some(match self.default.as_ref()? {
            toml::Value::Integer(value) => self.measure(u64::try_from(*value).ok()?),
            toml::Value::String(value) => value.clone(),
            value => value.to_string(),
        })
    }

    /// Its range for a person, if it has one that a caller could miss.
    pub(super) fn range_text(&self) -> Option<String> {
        if matches!(self.kind.required(), Type::String | Type::Path) {
            return self.max.map(|max| format!("at most {}", bytes(max)));
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) => Some(format!("{} to {}", self.measure(min), self.measure(max))),
            (Some(1), None) => Some("more than 0".to_owned()),
            (Some(min), None) => Some(format!("at least {}", self.measure(min))),
            (None, Some(max)) => Some(format!("at most {}", self.measure(max))),
            (None, None) => None,
        }
    }

    /// Its doc as a sentence, then the default and the range.
    pub(super) fn full_doc(&self) -> String {
        let mut out = super::names::sentence(&self.doc, &self.name);
        let facts: Vec<String> =
            self.default_text().map(|text| format!("default {text}")).into_iter().chain(self.range_text()).collect();
        if !facts.is_empty() {
            out.push(' ');
            out.push_str(&capitalised(&facts.join("; ")));
            out.push('.');
        }
        out
    }
}
