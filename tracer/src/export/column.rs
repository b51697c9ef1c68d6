//! What is a column of a table, and what stands in it for one record?

use std::{borrow::Cow, net::SocketAddr};

use jiff::Timestamp;
use serde_json::Value;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    from: From,
    /// The field of that object, and of those within.
    path: &'static [&'static str],
}

/// What a column holds; every one may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Time,
    /// A name of tracer's own vocabulary, or a short one. What is longer does not
    /// belong there: these are repeated from row to row, and a file must not make
    /// much of little.
    Word,
    /// A sentence of tracer's, which may be repeated as well.
    Sentence,
    /// What somebody else chose; as long as it is.
    Text,
    /// The text of a list or an object.
    Json,
    /// The ids of a list of advice.
    Ids,
    /// The address of `address:port`.
    Address,
    /// The port of `address:port`.
    Port,
    /// How many entries a list has.
    Length,
    Bool,
    U16,
    U32,
    U64,
    I32,
    I64,
    F64,
}

/// Which object a column's field is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The `startup` record of the run.
    Run,
    Record,
    /// One part of the record, if the table has a row for each.
    Part,
    /// One part of that part.
    Inner,
}

/// What one row is made of; what there is not is `null`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) run: &'a Value,
    pub(super) record: &'a Value,
    pub(super) part: &'a Value,
    pub(super) inner: &'a Value,
}

/// What stands in a column of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    /// Something stands there that does not belong there.
    Wrong,
    /// Microseconds since 1970.
    Time(i64),
    Text(Cow<'a, str>),
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// Most bytes of a word: the longest name of a host.
const WORD: usize = 64;
const SENTENCE: usize = 1024;
/// Most pieces of advice.
const IDS: usize = 16;

/// A column's definition.
pub(super) const fn column(
    name: &'static str,
    holds: Holds,
    from: From,
    path: &'static [&'static str],
) -> Column {
    Column {
        name,
        holds,
        from,
        path,
    }
}

impl Column {
    /// What stands in this column.
    pub(super) fn cell<'a>(&self, row: &Row<'a>) -> Cell<'a> {
        let mut value = match self.from {
            From::Run => row.run,
            From::Record => row.record,
            From::Part => row.part,
            From::Inner => row.inner,
        };
        for name in self.path {
            value = match value {
                Value::Null => return Cell::Null,
                Value::Object(fields) => match fields.get(*name) {
                    Some(value) => value,
                    None => return Cell::Null,
                },
                Value::Array(list) => match name.parse().map(|at: usize| list.get(at)) {
                    Ok(Some(value)) => value,
                    Ok(None) => return Cell::Null,
                    Err(_) => return Cell::Wrong,
                },
                _ => return Cell::Wrong,
            };
        }
        if value.is_null() {
            return Cell::Null;
        }
        self.holds.read(value).unwrap_or(Cell::Wrong)
    }
}

impl Holds {
    fn read(self, value: &Value) -> Option<Cell<'_>> {
        let unsigned = |most: u64| {
            let number = value.as_u64().filter(|number| *number <= most)?;
            Some(Cell::Unsigned(number))
        };
        match self {
            Self::Time => {
                let time: Timestamp = value.as_str()?.parse().ok()?;
                Some(Cell::Time(time.as_microsecond()))
            }
            Self::Word => word(value).map(|text| Cell::Text(text.into())),
            Self::Sentence => {
                let text = value.as_str().filter(|text| text.len() <= SENTENCE)?;
                Some(Cell::Text(text.into()))
            }
            Self::Text => value.as_str().map(|text| Cell::Text(text.into())),
            Self::Ids => {
                let list = value.as_array().filter(|list| list.len() <= IDS)?;
                let ids = list.iter().map(|advice| word(advice.get("id")?));
                let ids = ids.collect::<Option<Vec<_>>>()?;
                Some(if ids.is_empty() {
                    Cell::Null
                } else {
                    Cell::Text(ids.join(" ").into())
                })
            }
            Self::Json => Some(match value {
                Value::Array(list) if list.is_empty() => Cell::Null,
                Value::Array(_) | Value::Object(_) => Cell::Text(value.to_string().into()),
                _ => return None,
            }),
            Self::Address => {
                let (address, _) = split(value.as_str()?)?;
                Some(Cell::Text(address.into()))
            }
            Self::Port => {
                let (_, port) = split(value.as_str()?)?;
                Some(Cell::Unsigned(port.into()))
            }
            Self::Length => {
                let length = value.as_array()?.len();
                u64::try_from(length).ok().map(Cell::Unsigned)
            }
            Self::Bool => value.as_bool().map(Cell::Bool),
            Self::U16 => unsigned(u16::MAX.into()),
            Self::U32 => unsigned(u32::MAX.into()),
            Self::U64 => unsigned(u64::MAX),
            Self::I32 => {
                let number = i32::try_from(value.as_i64()?).ok()?;
                Some(Cell::Signed(number.into()))
            }
            Self::I64 => value.as_i64().map(Cell::Signed),
            Self::F64 => value.as_f64().map(Cell::Float),
        }
    }
}

fn word(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| text.len() <= WORD)
}

/// The address, as it is written, and the port.
fn split(text: &str) -> Option<(&str, u16)> {
    let parsed: SocketAddr = text.parse().ok()?;
    let (address, _) = text.rsplit_once(':')?;
    let address = address.strip_prefix('[').unwrap_or(address);
    let address = address.strip_suffix(']').unwrap_or(address);
    Some((address, parsed.port()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cell(holds: Holds, value: &Value) -> String {
        let row = Row {
            run: &Value::Null,
            record: value,
            part: &Value::Null,
            inner: &Value::Null,
        };
        format!(
            "{:?}",
            column("x", holds, From::Record, &["a", "b"]).cell(&row)
        )
    }

    #[test]
    fn what_stands_there() {
        let of = |holds, value: Value| cell(holds, &json!({ "a": { "b": value } }));
        for (holds, value, expected) in [
            (
                Holds::Time,
                json!("1970-01-01T00:00:01.000002Z"),
                "Time(1000002)",
            ),
            (Holds::Time, json!("soon"), "Wrong"),
            (Holds::Time, json!(7), "Wrong"),
            (Holds::Text, json!("a\u{0}\"b"), "Text(\"a\\0\\\"b\")"),
            (Holds::Text, json!(1), "Wrong"),
            (Holds::Word, json!("tcp"), "Text(\"tcp\")"),
            (Holds::Word, json!("x".repeat(65)), "Wrong"),
            (Holds::Sentence, json!("x".repeat(1025)), "Wrong"),
            (
                Holds::Ids,
                json!([{ "id": "a" }, { "id": "b" }]),
                "Text(\"a b\")",
            ),
            (Holds::Ids, json!([]), "Null"),
            (Holds::Ids, json!([1]), "Wrong"),
            (
                Holds::Json,
                json!([{ "pid": 1 }]),
                r#"Text("[{\"pid\":1}]")"#,
            ),
            (Holds::Json, json!([]), "Null"),
            (Holds::Json, json!("[]"), "Wrong"),
            (Holds::Length, json!([1, 2]), "Unsigned(2)"),
            (Holds::Length, json!({}), "Wrong"),
            (Holds::Address, json!("10.0.0.1:80"), "Text(\"10.0.0.1\")"),
            (
                Holds::Address,
                json!("[fe80::1%2]:80"),
                "Text(\"fe80::1%2\")",
            ),
            (Holds::Address, json!("10.0.0.1"), "Wrong"),
            (Holds::Port, json!("[::]:65535"), "Unsigned(65535)"),
            (Holds::Port, json!("10.0.0.1:65536"), "Wrong"),
            (Holds::U16, json!(65535), "Unsigned(65535)"),
            (Holds::U16, json!(65536), "Wrong"),
            (Holds::U32, json!(-1), "Wrong"),
            (Holds::U32, json!(1.5), "Wrong"),
            (
                Holds::U64,
                json!(u64::MAX),
                "Unsigned(18446744073709551615)",
            ),
            (Holds::U64, json!(1e30), "Wrong"),
            (Holds::I32, json!(-1), "Signed(-1)"),
            (Holds::I32, json!(1_u64 << 31), "Wrong"),
            (Holds::I64, json!(u64::MAX), "Wrong"),
            (Holds::F64, json!(2.5), "Float(2.5)"),
            (Holds::F64, json!(3), "Float(3.0)"),
            (Holds::Bool, json!(true), "Bool(true)"),
            (Holds::Bool, json!("true"), "Wrong"),
            (Holds::Bool, json!(null), "Null"),
        ] {
            assert_eq!(of(holds, value.clone()), expected, "{holds:?} {value}");
        }
    }

    #[test]
    fn what_is_missing_is_null_and_what_is_in_its_place_is_wrong() {
        for (record, expected) in [
            (json!({}), "Null"),
            (json!({ "a": null }), "Null"),
            (json!({ "a": {} }), "Null"),
            (json!({ "a": 1 }), "Wrong"),
            (json!({ "a": [] }), "Wrong"),
        ] {
            assert_eq!(cell(Holds::Text, &record), expected, "{record}");
        }
    }
}
