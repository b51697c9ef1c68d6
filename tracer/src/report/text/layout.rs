//! How does text fit the page?

use super::{super::words::TIE, Style};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Columns of a label, of a count, of a name.
const LABEL: usize = 10;
const COUNT: usize = 9;
const NAME: usize = 22;

/// The report so far.
pub(super) struct Page<'a> {
    pub(super) style: &'a Style,
    pub(super) text: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(style: &'a Style) -> Self {
        Self {
            style,
            text: String::new(),
        }
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    pub(super) fn line(&mut self, text: &str) {
        self.hang("", text, "");
    }

    /// Text under a heading.
    pub(super) fn indented(&mut self, text: &str) {
        self.hang("   ", text, "   ");
    }

    /// Text behind a mark, under a heading.
    pub(super) fn item(&mut self, mark: &str, text: &str) {
        self.hang(&format!("   {mark} "), text, "     ");
    }

    pub(super) fn labelled(&mut self, label: &str, text: &str) {
        self.hang(&format!("{label:<LABEL$}"), text, &" ".repeat(LABEL));
    }

    /// A count, whose it is, and what about it.
    pub(super) fn row(&mut self, count: &str, name: &str, text: &str) {
        let start = format!("{count:>COUNT$}  {name:<NAME$}  ");
        if text.is_empty() {
            self.text.push_str(start.trim_end());
            self.blank();
            return;
        }
        self.hang(&start, text, &" ".repeat(COUNT + 2 + NAME + 2));
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.blank();
        let painted = self.paint(BOLD, text);
        self.text.push_str(&painted);
        self.blank();
    }

    /// A finding's first line.
    pub(super) fn headline(&mut self, number: usize, text: &str) {
        let start = self.text.len();
        self.hang(&format!("{number}  "), text, "   ");
        if self.style.colour {
            let line = self.text.split_off(start);
            let painted = self.paint(BOLD, line.trim_end());
            self.text.push_str(&painted);
            self.blank();
        }
    }

    /// A line that is not wrapped.
    pub(super) fn verbatim(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.blank();
    }

    pub(super) fn dim(&self, text: &str) -> String {
        self.paint(DIM, text)
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        match self.style.colour {
            true => format!("{colour}{text}{RESET}"),
            false => text.to_owned(),
        }
    }

    /// Breaks `text` between words; lines after the first begin with `rest`.
    /// A word that is too long stays whole: an address is there to be copied.
    fn hang(&mut self, start: &str, text: &str, rest: &str) {
        let mut line = start.to_owned();
        let mut used = width(start);
        let mut is_fresh = true;
        for word in text.split(' ') {
            let length = width(word);
            if !is_fresh && used + 1 + length > self.style.width {
                self.text.push_str(line.trim_end());
                self.text.push('\n');
                rest.clone_into(&mut line);
                used = width(rest);
                is_fresh = true;
            }
            if !is_fresh {
                line.push(' ');
                used += 1;
            }
            line.push_str(&word.replace(TIE, " "));
            used += length;
            is_fresh = false;
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

/// Columns that text takes; an escape sequence takes none.
fn width(text: &str) -> usize {
    let mut count = 0;
    let mut is_escape = false;
    for character in text.chars() {
        match (is_escape, character) {
            (false, '\x1b') => is_escape = true,
            (true, 'm') => is_escape = false,
            (true, _) => {}
            (false, _) => count += 1,
        }
    }
    count
}
