//! What is read fast is what serde_json reads, too.

use serde_json::Value;

use super::{Event, Skipped, event, record};
use crate::{
    explain::advice::tests::dice::Dice,
    output::replayed::{failure, line},
};

/// The event in a line, read without haste.
fn slowly(line: &[u8]) -> Option<Event> {
    let record: Value = serde_json::from_slice(line).ok()?;
    if record["v"] != 1 || record["type"] != "event" {
        return None;
    }
    record::event(&record)
}

#[test]
fn what_tracer_writes_is_read_fast() {
    let mut dice = Dice(7);
    let (mut fast, mut skipped) = (0, Skipped::default());
    for _ in 0..2_000 {
        let line = line(&failure(&mut dice));
        let read = event(line.as_bytes(), &mut skipped);
        let is_unusual = line.contains("\\u") || line.contains(r#""comm":"a b\"#);
        assert!(read.is_some() || is_unusual, "{line}");
        if read.is_some() {
            assert_eq!(read, slowly(line.as_bytes()), "{line}");
            fast += 1;
        }
    }
    assert!(fast > 200, "{fast}");
}

#[test]
fn what_is_changed_is_read_right_or_left_to_others() {
    let mut dice = Dice(8);
    let (mut fast, mut left, mut skipped) = (0, 0, Skipped::default());
    for _ in 0..20_000 {
        let mut line = line(&failure(&mut dice)).into_bytes();
        for _ in 0..=dice.roll(2) {
            change(&mut line, &mut dice);
        }
        // Twice: what was skipped is known now.
        for _ in 0..2 {
            match event(&line, &mut skipped) {
                None => left += 1,
                read => {
                    let text = String::from_utf8_lossy(&line);
                    assert_eq!(read, slowly(&line), "{text}");
                    fast += 1;
                }
            }
        }
    }
    assert!(fast > 300 && left > 300, "{fast} {left}");
}

/// Changes, adds, removes or repeats some bytes.
fn change(line: &mut Vec<u8>, dice: &mut Dice) {
    let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
    let mut place = || usize::try_from(dice.roll(length)).unwrap_or_default();
    let (from, to) = (place(), place());
    let (from, to) = (from.min(to), from.max(to));
    let bytes = b"\"\\{}[],:.-+0123456789eEnulltruefalse \t\n\x01\x7f\xff\xc3";
    let Some(byte) = dice.of(bytes) else { return };
    match dice.roll(6) {
        0 => drop(line.drain(from..to.min(from + 9))),
        1 => {
            let part = line[from..to.min(from + 99)].to_vec();
            drop(line.splice(to..to, part));
        }
        2 => line.truncate(to),
        3 => line.insert(from, byte),
        _ => {
            if let Some(changed) = line.get_mut(from) {
                *changed = byte;
            }
        }
    }
}
