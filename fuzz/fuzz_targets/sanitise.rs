//! Any bytes for a terminal: only visible characters arrive, no two names look the same,
//! and JSON stays the same value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tracer::fuzz::terminal::{harmless, json_line, printable};
use unicode_properties::{GeneralCategory as Category, UnicodeGeneralCategory as _};

fuzz_target!(|bytes: &[u8]| {
    let shown = printable(bytes);
    check(&shown);
    assert_eq!(unescape(&shown), bytes);
    // Sentences hold what is printable already.
    assert_eq!(harmless(&shown), shown);
    let sentence = harmless(&String::from_utf8_lossy(bytes));
    check(&sentence);
    assert_eq!(harmless(&sentence), sentence);
    for line in bytes.split(|byte| *byte == b'\n') {
        check_json(line);
    }
    // As part of a value: what a process calls itself, for example.
    let value = Value::from(String::from_utf8_lossy(bytes));
    check_json(value.to_string().as_bytes());
});

fn check(text: &str) {
    for character in text.chars() {
        let is_bad = matches!(
            character.general_category(),
            Category::Control
                | Category::Format
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::Surrogate
        );
        assert!(!is_bad, "{text:?}");
    }
}

fn check_json(line: &[u8]) {
    assert_eq!(*json_line(line, false), *line);
    let shown = json_line(line, true);
    check(std::str::from_utf8(&shown).expect("a terminal gets text"));
    if let Ok(value) = serde_json::from_slice::<Value>(line) {
        let again: Value = serde_json::from_slice(&shown).expect("it is JSON still");
        assert_eq!(again, value);
    }
}

/// Undoes what [`printable`] does.
fn unescape(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = shown;
    while let Some(at) = rest.find('\\') {
        bytes.extend(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (digits, end) = match escape.as_bytes().first().expect("an escape") {
            b'\\' => {
                bytes.push(b'\\');
                rest = &escape[1..];
                continue;
            }
            b'x' => (&escape[1..3], 3),
            b'u' => {
                let end = escape.find('}').expect("an end");
                (&escape[2..end], end + 1)
            }
            other => panic!("no such escape: {other:?}"),
        };
        let code = u32::from_str_radix(digits, 16).expect("a number");
        match u8::try_from(code) {
            Ok(byte) if end == 3 => bytes.push(byte),
            _ => {
                let character = char::from_u32(code).expect("a character");
                bytes.extend(character.to_string().as_bytes());
            }
        }
        rest = &escape[end..];
    }
    bytes.extend(rest.as_bytes());
    bytes
}
