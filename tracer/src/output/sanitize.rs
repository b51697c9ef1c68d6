//! Untrusted bytes → text that no terminal acts on.
//!
//! A process chooses its own name, arguments and paths. Control characters
//! (C0, DEL, C1) would let it drive the terminal of whoever watches, and
//! bidirectional controls would let it reorder what is read (Unicode TR 36). What is
//! not seen at all would let it look like another.

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
        } else if character.is_control() || misleads(character) {
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
        _ if character.is_control() || misleads(character) => write!(shown, "\\u{{{code:x}}}"),
        _ => write!(shown, "{character}"),
    };
}

/// Bidirectional controls and all other format characters, line and paragraph
/// separators (Unicode's categories Cf, Zl, Zp), and what else is drawn as nothing
/// (Default_Ignorable_Code_Point): fillers and variation selectors.
fn misleads(character: char) -> bool {
    // Nearly everything.
    if character.is_ascii() {
        return false;
    }
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
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
            (
                "ngi\u{ad}nx\u{fe0f}\u{3164}".as_bytes(),
                "ngi\\u{ad}nx\\u{fe0f}\\u{3164}",
            ),
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
