//! Lines of JSON on standard output: faithful to every byte in files and pipes, and
//! on a terminal such that it acts on nothing in them.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
};

use super::sanitize::json_harmless;

/// Standard output.
pub(crate) struct JsonLines {
    out: BufWriter<Stdout>,
    is_terminal: bool,
}

impl JsonLines {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        Self {
            is_terminal: out.is_terminal(),
            out: BufWriter::new(out),
        }
    }

    /// Writes one record; `line` has no end of line.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.out.write_all(&shown(line, self.is_terminal))?;
        self.out.write_all(b"\n")
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line as it is written. Escaped is as good for whoever parses it.
pub(crate) fn shown(line: &[u8], is_terminal: bool) -> Cow<'_, [u8]> {
    if is_terminal {
        Cow::Owned(json_harmless(line).into_bytes())
    } else {
        Cow::Borrowed(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_gets_escapes() -> serde_json::Result<()> {
        // C1 controls and bidirectional ones may stand in JSON as they are.
        let line = "{\"comm\":\"a\u{9b}31m\u{202e}\u{7f}ü\"}".as_bytes();
        assert_eq!(*shown(line, false), *line);
        let escaped = shown(line, true);
        let text = String::from_utf8_lossy(&escaped);
        assert_eq!(text, r#"{"comm":"a\u009b31m\u202e\u007fü"}"#);
        let parse = serde_json::from_slice::<serde_json::Value>;
        assert_eq!(parse(&escaped)?, parse(line)?);
        Ok(())
    }
}
