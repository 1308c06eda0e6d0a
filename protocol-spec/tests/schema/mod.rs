//! A second implementation of the type grammar for tests: it reads `messages.toml` and encodes JSON by it, sharing no code
//! with the crate. Numbers are JSON numbers, bytes hex, absent values null, enums their names.

use serde_json::{Map, Value, json};

/// `messages.toml`.
pub(crate) struct Schema {
    pub(crate) tables: toml::Table,
}

/// Numbers from a seed (SplitMix64).
pub(crate) struct Source(pub(crate) u64);

impl Source {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// How large the values of a sample are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Least,
    Most,
    Any,
}

fn text<'a>(value: &'a toml::Value, key: &str) -> &'a str {
    value.get(key).and_then(toml::Value::as_str).unwrap()
}

impl Schema {
    pub(crate) fn load() -> Self {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/messages.toml")).unwrap();
        Self { tables: toml::from_str(&text).unwrap() }
    }

    fn table(&self, section: &str, name: &str) -> Option<&toml::Value> {
        self.tables[section].get(name)
    }

    pub(crate) fn message_names(&self) -> Vec<String> {
        self.tables["message"].as_table().unwrap().keys().cloned().collect()
    }

    pub(crate) fn kind(&self, message: &str) -> u16 {
        let kind = self.table("message", message).unwrap()["kind"].as_integer().unwrap();
        u16::try_from(kind).unwrap()
    }

    fn entries(&self, section: &str, name: &str, tagged: bool) -> Vec<&toml::Value> {
        let fields = self.table(section, name).unwrap()["fields"].as_array().unwrap();
        fields.iter().filter(|field| field.get("tag").is_some() == tagged).collect()
    }

    /// Fields that are always there.
    fn fields(&self, section: &str, name: &str) -> Vec<(String, String)> {
        let entries = self.entries(section, name, false).into_iter();
        entries.map(|field| (text(field, "name").to_owned(), text(field, "type").to_owned())).collect()
    }

    /// Tagged fields of a message: tag, name, type.
    fn tagged(&self, message: &str) -> Vec<(u16, String, String)> {
        let entries = self.entries("message", message, true).into_iter();
        entries
            .map(|field| {
                let tag = u16::try_from(field["tag"].as_integer().unwrap()).unwrap();
                let kind = text(field, "type").strip_suffix('?').unwrap();
                (tag, text(field, "name").to_owned(), kind.to_owned())
            })
            .collect()
    }

    /// The control part of a message with these fields.
    pub(crate) fn encode(&self, message: &str, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_fields("message", message, value, &mut out);
        let (mut count, mut tags) = (0_u16, Vec::new());
        for (tag, name, kind) in self.tagged(message) {
            if value[&name].is_null() {
                continue;
            }
            let mut bytes = Vec::new();
            self.put(&kind, &value[&name], &mut bytes);
            tags.extend_from_slice(&tag.to_le_bytes());
            tags.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            tags.extend_from_slice(&bytes);
            count += 1;
        }
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&tags);
        out
    }

    fn put_fields(&self, section: &str, name: &str, value: &Value, out: &mut Vec<u8>) {
        for (field, kind) in self.fields(section, name) {
            self.put(&kind, &value[&field], out);
        }
    }

    fn put(&self, kind: &str, value: &Value, out: &mut Vec<u8>) {
        if let Some(inner) = kind.strip_suffix('?') {
            out.push(u8::from(!value.is_null()));
            if !value.is_null() {
                self.put(inner, value, out);
            }
            return;
        }
        if let Some(inner) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let elements = value.as_array().unwrap();
            out.extend_from_slice(&u32::try_from(elements.len()).unwrap().to_le_bytes());
            for element in elements {
                let mut bytes = Vec::new();
                self.put(inner, element, &mut bytes);
                if self.table("struct", inner).is_some() {
                    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
                }
                out.extend_from_slice(&bytes);
            }
            return;
        }
        match kind {
            "u8" | "u16" | "u32" | "u64" => {
                let width = kind[1..].parse::<usize>().unwrap() / 8;
                out.extend_from_slice(&value.as_u64().unwrap().to_le_bytes()[..width]);
            }
            "i64" => out.extend_from_slice(&value.as_i64().unwrap().to_le_bytes()),
            "bool" => out.push(u8::from(value.as_bool().unwrap())),
            "string" => {
                let text = value.as_str().unwrap();
                out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            "bytes" => {
                let bytes = unhex(value.as_str().unwrap());
                out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
                out.extend_from_slice(&bytes);
            }
            name => match self.table("enum", name) {
                Some(item) => {
                    let number = item["values"][value.as_str().unwrap()].as_integer().unwrap();
                    out.push(u8::try_from(number).unwrap());
                }
                None => self.put_fields("struct", name, value, out),
            },
        }
    }

    /// Fields of a message: the least, the most, or any by the source.
    pub(crate) fn sample(&self, message: &str, size: Size, source: &mut Source) -> Value {
        let mut fields = self.sample_fields("message", message, size, source);
        for (_, name, kind) in self.tagged(message) {
            fields[&name] = self.sample_of(&format!("{kind}?"), size, source);
        }
        fields
    }

    fn sample_fields(&self, section: &str, name: &str, size: Size, source: &mut Source) -> Value {
        let fields = self.fields(section, name);
        Value::Object(
            fields.into_iter().map(|(field, kind)| (field, self.sample_of(&kind, size, source))).collect::<Map<_, _>>(),
        )
    }

    fn sample_of(&self, kind: &str, size: Size, source: &mut Source) -> Value {
        if let Some(inner) = kind.strip_suffix('?') {
            let present = size == Size::Most || size == Size::Any && source.below(2) == 0;
            return if present { self.sample_of(inner, size, source) } else { Value::Null };
        }
        if let Some(inner) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let count = match size {
                Size::Least => 0,
                Size::Most => 2,
                Size::Any => source.below(5),
            };
            return (0..count).map(|_| self.sample_of(inner, size, source)).collect();
        }
        let choice = match size {
            Size::Least => 0,
            Size::Most => u64::MAX,
            Size::Any => source.next() >> source.below(64),
        };
        match kind {
            "u8" | "u16" | "u32" | "u64" => json!(choice & (u64::MAX >> (64 - kind[1..].parse::<u32>().unwrap()))),
            "i64" if size == Size::Most => json!(i64::MAX),
            "i64" if size == Size::Least => json!(i64::MIN),
            "i64" => json!(choice.cast_signed()),
            "bool" => json!(choice & 1 == 1),
            "string" => json!(match size {
                Size::Least => String::new(),
                Size::Most => "n".repeat(255),
                Size::Any => "aé€🌊".chars().cycle().skip((choice % 4) as usize).take((choice % 40) as usize).collect(),
            }),
            "bytes" => json!(match size {
                Size::Least => String::new(),
                Size::Most => "ff".repeat(64),
                Size::Any => hex(&choice.to_le_bytes()[..(choice % 9) as usize]),
            }),
            name => match self.table("enum", name) {
                Some(item) => {
                    let values: Vec<_> = item["values"].as_table().unwrap().keys().collect();
                    json!(values[usize::try_from(choice % values.len() as u64).unwrap()])
                }
                None => self.sample_fields("struct", name, size, source),
            },
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
