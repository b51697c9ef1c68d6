//! Any words as a command line: it is understood, and then means the same when it is said
//! in tracer's words; or one line says what is wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::fuzz::words::{Line, VALUES, line, understood};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check_values(text);
    }
    // One word is a value; there is more to a command line.
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if words.len() > 1 && words.len() < 64 && !words.iter().any(|word| word.contains(&0)) {
        check_line(&words);
    }
});

fn check_values(text: &str) {
    for value in VALUES {
        match understood(value, text) {
            Ok(said) => {
                assert_eq!(
                    understood(value, &said),
                    Ok(said.clone()),
                    "{value:?} {text:?}"
                );
            }
            Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{value:?} {why:?}"),
        }
    }
}

fn check_line(words: &[&[u8]]) {
    let said = match line(words) {
        Line::Filter(said) => said,
        Line::Other | Line::Answered => return,
        Line::Wrong(why) => {
            let is_one_line = !why.is_empty() && !why.contains(char::is_control);
            assert!(is_one_line, "{why:?}");
            return;
        }
    };
    let flags = said.iter().map(|words| {
        let (name, value) = words.split_once(' ').expect("a name and a value");
        format!("--{name}={value}")
    });
    let flags: Vec<String> = flags.collect();
    let again = [b"replay".as_slice(), b"x"].into_iter();
    let again: Vec<&[u8]> = again
        .chain(flags.iter().map(|flag| flag.as_bytes()))
        .collect();
    assert_eq!(line(&again), Line::Filter(said));
}
