//! Any lines as records: whatever they hold, what is shown of them moves no
//! terminal, and the fast way to read them gives what the slow one gives.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::fuzz::{report, shown};

fuzz_target!(|bytes: &[u8]| {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    for line in &lines {
        if let Some(text) = shown(line) {
            check(&text);
        }
    }
    let told = report(&lines);
    check(&told.text);
    check(&told.html);
    assert!(!told.html.contains("<script"), "{}", told.html);
    let is_control = |byte: u8| byte < 0x20;
    assert!(!told.json.bytes().any(is_control), "{:?}", told.json);
    // What JSON does not allow may pass the fast way, in fields that nobody reads.
    if lines.iter().all(|line| is_json(line)) {
        assert_eq!(told.json, told.json_slow);
    }
});

fn check(text: &str) {
    let is_bad = |character: char| character.is_control() && character != '\n';
    assert!(!text.chars().any(is_bad), "{text:?}");
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(line).is_ok()
}
