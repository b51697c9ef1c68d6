//! Untrusted bytes → text that no terminal acts on.
//!
//! A process chooses its own name, arguments and paths. Control characters
//! (C0, DEL, C1) would let it drive the terminal of whoever watches, and
//! bidirectional controls would let it reorder what is read (Unicode TR 36).

use std::fmt::Write;

/// A sentence of tracer's own that came through a file: as it was, unless
/// somebody put something dangerous into it.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => shown.push(character),
            _ => push(&mut shown, character),
        }
    }
    shown
}

/// Shows `bytes` with everything dangerous escaped as `\xNN` or `\u{N}`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push(&mut shown, character);
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A line of JSON that means the same, and that no terminal acts on: what would
/// be dangerous is escaped as JSON escapes it.
pub(crate) fn json_harmless(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        // In JSON these stand between tokens only.
        if matches!(character, '\t' | '\r') {
            shown.push(' ');
        } else if character.is_control() || reorders(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

fn push(shown: &mut String, character: char) {
    let code = u32::from(character);
    let _ = match character {
        '\\' => write!(shown, "\\\\"),
        _ if character.is_ascii_control() => write!(shown, "\\x{code:02x}"),
        _ if character.is_control() || reorders(character) => write!(shown, "\\u{{{code:x}}}"),
        _ => write!(shown, "{character}"),
    };
}

/// Bidirectional controls, line and paragraph separators, and the invisible
/// characters that hide text.
fn reorders(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_names_alone() {
        for name in ["nginx", "java worker", "größe", "プロセス"] {
            assert_eq!(printable(name.as_bytes()), name);
        }
    }

    #[test]
    fn escapes_what_terminals_act_on() {
        let table: &[(&[u8], &str)] = &[
            (b"\x1b[31m", "\\x1b[31m"),
            (b"\x1b]52;c;AAAA\x07", "\\x1b]52;c;AAAA\\x07"),
            (b"a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"),
            (b"\x7f", "\\x7f"),
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            ("\u{202e}gpj.exe".as_bytes(), "\\u{202e}gpj.exe"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"a\\b", "a\\\\b"),
        ];
        for (bytes, expected) in table {
            assert_eq!(printable(bytes), *expected);
        }
    }

    #[test]
    fn json_means_the_same() -> serde_json::Result<()> {
        let line = "{\t\"a\":\r\"\u{9b}2J\u{7f}\\u001b\u{202e}\u{e0001}größe\"}";
        let shown = json_harmless(line.as_bytes());
        assert_eq!(
            shown,
            r#"{ "a": "\u009b2J\u007f\u001b\u202e\udb40\udc01größe"}"#
        );
        let parse = serde_json::from_str::<serde_json::Value>;
        assert_eq!(parse(&shown)?, parse(line)?);
        Ok(())
    }

    #[test]
    fn sentences_stay_as_they_are() {
        let ours = r"a name: x\x1b → größe";
        assert_eq!(harmless(ours), ours);
        assert_eq!(harmless("\x1b[2J\n\u{202e}"), r"\x1b[2J\x0a\u{202e}");
    }

    #[test]
    fn no_byte_pair_yields_a_control_character() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let shown = printable(&[first, second]);
                assert!(
                    !shown.chars().any(char::is_control),
                    "{first:02x} {second:02x}"
                );
            }
        }
    }
}
