//! Names and values, as OTLP writes them. Pure.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};

/// A list of them that takes what is known and leaves out the rest.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, name: &str, text: impl Into<String>) {
        self.put(name, Value::StringValue(text.into()));
    }

    /// What a process chose: as it is, but invalid UTF-8, which OTLP has no room for.
    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.text(name, String::from_utf8_lossy(bytes));
    }

    pub(super) fn number(&mut self, name: &str, number: impl Into<i64>) {
        self.put(name, Value::IntValue(number.into()));
    }

    /// A number of the kernel's or a count; none comes near to the end of `i64`.
    pub(super) fn count(&mut self, name: &str, count: u64) {
        self.number(name, i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn flag(&mut self, name: &str, flag: bool) {
        self.put(name, Value::BoolValue(flag));
    }

    pub(super) fn list(&mut self, name: &str, values: impl Iterator<Item = Value>) {
        let values = values.map(any).collect();
        self.put(name, Value::ArrayValue(ArrayValue { values }));
    }

    fn put(&mut self, name: &str, value: Value) {
        self.0.push(KeyValue {
            key: name.to_owned(),
            value: Some(any(value)),
            ..KeyValue::default()
        });
    }

    pub(super) fn into_inner(self) -> Vec<KeyValue> {
        self.0
    }
}

pub(super) fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}
