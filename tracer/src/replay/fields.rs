//! Fields of JSON records as the types of the model. Total: what does not fit
//! is `None`.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use serde_json::Value;
use tracer_common::{Cause, Family, Hook, Kind};

use crate::{
    host::plan::{Exactness, Purpose, Tier},
    model::Role,
    output::sanitize::harmless,
};

/// What a field can be read as.
pub(super) trait Field: Sized {
    fn read(value: &Value) -> Option<Self>;
}

/// Reads a field; one that is missing is like `null`.
pub(super) fn get<T: Field>(record: &Value, name: &str) -> Option<T> {
    T::read(record.get(name).unwrap_or(&Value::Null))
}

/// `null` is `None`, and nothing else is.
impl<T: Field> Field for Option<T> {
    fn read(value: &Value) -> Option<Self> {
        if value.is_null() {
            return Some(None);
        }
        T::read(value).map(Some)
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::read).collect()
    }
}

impl Field for bool {
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Field for f64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Field for u64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Field for u32 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Field for u16 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Field for u8 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Field for i32 {
    fn read(value: &Value) -> Option<Self> {
        value.as_i64()?.try_into().ok()
    }
}

/// A sentence of tracer's own. It is printed as it is, so nothing in it may
/// act on a terminal, whoever wrote the file.
impl Field for String {
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(harmless)
    }
}

/// The same.
impl Field for Cow<'static, str> {
    fn read(value: &Value) -> Option<Self> {
        String::read(value).map(Self::Owned)
    }
}

/// A name that somebody chose. It is made harmless when it is printed.
pub(super) struct Untrusted(pub(super) Vec<u8>);

impl Field for Untrusted {
    fn read(value: &Value) -> Option<Self> {
        Some(Self(value.as_str()?.as_bytes().to_vec()))
    }
}

/// The same, where invalid UTF-8 was replaced before.
pub(super) struct Chosen(pub(super) String);

impl Field for Chosen {
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(|text| Self(text.to_owned()))
    }
}

impl Field for Timestamp {
    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl Field for IpAddr {
    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl Field for SocketAddr {
    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

/// The one of `all` that has this name.
pub(super) fn named<T: Copy>(
    all: &[T],
    name: impl Fn(T) -> &'static str,
    value: &Value,
) -> Option<T> {
    let wanted = value.as_str()?;
    all.iter().copied().find(|one| name(*one) == wanted)
}

impl Field for Kind {
    fn read(value: &Value) -> Option<Self> {
        named(Self::ALL, Self::name, value)
    }
}

impl Field for Cause {
    fn read(value: &Value) -> Option<Self> {
        named(Self::ALL, Self::name, value)
    }
}

impl Field for Family {
    fn read(value: &Value) -> Option<Self> {
        named(Self::ALL, Self::name, value)
    }
}

impl Field for Hook {
    fn read(value: &Value) -> Option<Self> {
        named(Self::ALL, Self::name, value)
    }
}

impl Field for Role {
    fn read(value: &Value) -> Option<Self> {
        let all = [Self::Caller, Self::Acceptor, Self::Listener, Self::Holder];
        named(&all, Self::name, value)
    }
}

impl Field for Tier {
    fn read(value: &Value) -> Option<Self> {
        let all = [Self::Function, Self::Kprobe, Self::Portable];
        named(&all, Self::name, value)
    }
}

impl Field for Exactness {
    fn read(value: &Value) -> Option<Self> {
        named(&[Self::Exact, Self::Near], Self::name, value)
    }
}

impl Field for Purpose {
    fn read(value: &Value) -> Option<Self> {
        named(&Self::ALL, Self::name, value)
    }
}

#[cfg(test)]
mod purposes {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_purpose_is_read_again() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::read(&json!(purpose.name())), Some(purpose));
        }
        // A new one is missing in the list above otherwise.
        let last = Purpose::ALL.last().map(|last| *last as usize);
        assert_eq!(last.map(|last| last + 1), Some(Purpose::ALL.len()));
    }
}
