//! JSON as tracer writes it, from left to right: no blanks, no fractions, and no
//! escapes in what is taken. Everything else is `None`, so what is read here is
//! what serde_json would read, and the rest is left to it.

use super::skipped::Skipped;

/// Objects and arrays within each other. tracer's own have three levels.
const DEPTH: u8 = 8;

/// What is left of a line.
pub(super) struct Scan<'a> {
    rest: &'a str,
    depth: u8,
}

impl<'a> Scan<'a> {
    pub(super) fn new(line: &'a [u8]) -> Option<Self> {
        let rest = std::str::from_utf8(line).ok()?;
        // Control characters are not allowed, even in strings. All bytes are looked
        // at, always: so the processor takes many at once.
        let is_plain = line.iter().fold(true, |all, byte| all & (*byte >= b' '));
        is_plain.then_some(Self { rest, depth: 0 })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads the members of an object; `each` takes the value of the one it is
    /// given the name of.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &'a str) -> Option<()>,
    ) -> Option<()> {
        self.list("{", "}", |scan| {
            let name = scan.string()?;
            scan.pass(":")?;
            each(scan, name)
        })
    }

    /// Reads the elements of an array; `each` takes one.
    pub(super) fn array(&mut self, each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.list("[", "]", each)
    }

    fn list(
        &mut self,
        open: &str,
        close: &str,
        mut each: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.pass(open)?;
        if self.pass(close).is_some() {
            return Some(());
        }
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        loop {
            each(self)?;
            if self.pass(",").is_none() {
                break;
            }
        }
        self.depth -= 1;
        self.pass(close)
    }

    /// A string without any escape.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let text = self.rest.strip_prefix('"')?;
        // Most are short.
        let end = text.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (text, rest) = text.split_at_checked(end)?;
        self.rest = rest.strip_prefix('"')?;
        Some(text)
    }

    /// A number that is not negative.
    pub(super) fn number(&mut self) -> Option<u64> {
        let (mut number, mut digits) = (0_u64, 0);
        for byte in self.rest.bytes().take_while(u8::is_ascii_digit) {
            let digit = u64::from(byte - b'0');
            number = number.checked_mul(10)?.checked_add(digit)?;
            digits += 1;
        }
        let (text, rest) = self.rest.split_at_checked(digits)?;
        let is_usual = digits == 1 || digits > 1 && !text.starts_with('0');
        // It could go on as a fraction.
        let is_whole = !rest.starts_with(['.', 'e', 'E']);
        self.rest = rest;
        (is_usual && is_whole).then_some(number)
    }

    pub(super) fn boolean(&mut self) -> Option<bool> {
        match self.pass("true") {
            Some(()) => Some(true),
            None => self.pass("false").map(|()| false),
        }
    }

    /// `null`, or what `read` reads.
    pub(super) fn nullable<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.pass("null") {
            Some(()) => Some(None),
            None => read(self).map(Some),
        }
    }

    /// Skips a value.
    pub(super) fn skip(&mut self) -> Option<()> {
        match self.rest.bytes().next()? {
            b'"' => self.skip_string(),
            b'{' => self.object(|scan, _| scan.skip()),
            b'[' => self.array(Self::skip),
            b'n' => self.pass("null"),
            b't' | b'f' => self.boolean().map(drop),
            b'-' => {
                self.pass("-")?;
                self.number().map(drop)
            }
            _ => self.number().map(drop),
        }
    }

    /// Skips an array that is often the same.
    pub(super) fn skip_again(&mut self, skipped: &mut Skipped) -> Option<()> {
        let before = self.rest;
        if let Some(length) = skipped.length(before) {
            self.rest = before.get(length..)?;
            return Some(());
        }
        self.array(Self::skip)?;
        skipped.keep(before.strip_suffix(self.rest)?);
        Some(())
    }

    /// The same for a string, which may have the short escapes in it.
    fn skip_string(&mut self) -> Option<()> {
        self.pass("\"")?;
        loop {
            let end = memchr::memchr2(b'"', b'\\', self.rest.as_bytes())?;
            self.rest = self.rest.get(end..)?;
            if self.pass("\"").is_some() {
                return Some(());
            }
            self.pass("\\")?;
            let escaped = self.rest.chars().next()?;
            self.rest = self.rest.strip_prefix(escaped)?;
            if !"\"\\/bfnrt".contains(escaped) {
                return None;
            }
        }
    }

    fn pass(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }
}
