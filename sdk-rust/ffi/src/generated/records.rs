//! Records as values.

use levada::{ServerInfo, Value};

pub(crate) trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for ServerInfo {
    fn into_value(self) -> Value {
        Value::Record(vec![("server_version".into(), Value::Text(self.server_version))])
    }
}
