//! How does text become HTML that shows this text and does nothing else?
//!
//! Whatever is not written in this program's source goes through [`escape`]:
//! tags, names of attributes and raw HTML can only be literals.

use crate::output::sanitize::harmless;

/// Names and values.
type Attributes<'a> = &'a [(&'static str, &'a str)];

/// HTML so far.
#[derive(Debug, Default)]
pub(super) struct Markup {
    html: String,
    /// Numbers ids.
    ids: u32,
}

impl Markup {
    pub(super) fn finish(self) -> String {
        self.html
    }

    /// HTML of our own.
    pub(super) fn raw(&mut self, html: &'static str) {
        self.html.push_str(html);
    }

    pub(super) fn text(&mut self, text: &str) {
        escape(&mut self.html, text);
    }

    /// An element around what `inside` writes.
    pub(super) fn within(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.open(tag, attributes);
        self.html.push('>');
        inside(self);
        self.html.push_str("</");
        self.html.push_str(tag);
        self.html.push_str(">\n");
    }

    /// An element with text.
    pub(super) fn element(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) {
        self.within(tag, attributes, |inside| inside.text(text));
    }

    /// An element with nothing in it.
    pub(super) fn leaf(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.open(tag, attributes);
        self.html.push_str("/>\n");
    }

    /// A drawing that is as wide as there is room, with a title and a
    /// description for those who do not see it. In it, across is in percent,
    /// down in pixels: it is never distorted.
    pub(super) fn drawing(
        &mut self,
        class: &'static str,
        height: u32,
        (title, description): (&str, &str),
        inside: impl FnOnce(&mut Self),
    ) {
        self.ids = self.ids.saturating_add(1);
        let (title_id, description_id) = (format!("t{}", self.ids), format!("d{}", self.ids));
        let attributes = [
            ("class", class),
            ("role", "img"),
            ("width", "100%"),
            ("height", &height.to_string()),
            ("aria-labelledby", &format!("{title_id} {description_id}")),
        ];
        self.within("svg", &attributes, |svg| {
            svg.element("title", &[("id", &title_id)], title);
            svg.element("desc", &[("id", &description_id)], description);
            inside(svg);
        });
    }

    fn open(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.html.push('<');
        self.html.push_str(tag);
        for (name, value) in attributes {
            self.html.push(' ');
            self.html.push_str(name);
            self.html.push_str("=\"");
            escape(&mut self.html, value);
            self.html.push('"');
        }
    }
}

/// The one place where text becomes HTML. Control characters and those that
/// hide or reorder text are shown as on a terminal, once more: what comes here
/// should be printable already.
fn escape(html: &mut String, text: &str) {
    for character in harmless(text).chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(character),
        }
    }
}

/// A share in percent, as a coordinate.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.3}", share.clamp(0.0, 1.0) * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}%")
}

/// What part of `whole` is `part`?
#[expect(
    clippy::cast_precision_loss,
    reason = "a drawing has no room for the 53rd bit"
)]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let table = [
            ("nginx[812]", "nginx[812]"),
            ("größe → プロセス", "größe → プロセス"),
            (
                "<script>alert(1)</script>",
                "&lt;script&gt;alert(1)&lt;/script&gt;",
            ),
            ("\"onload='x'&amp;", "&quot;onload=&#39;x&#39;&amp;amp;"),
            (
                "a\u{202e}b\u{9b}c\x1b[2J\n",
                r"a\u{202e}b\u{9b}c\x1b[2J\x0a",
            ),
            (r"shown\x1b already", r"shown\x1b already"),
        ];
        for (text, expected) in table {
            let mut markup = Markup::default();
            markup.text(text);
            markup.leaf("p", &[("title", text)]);
            let expected = format!("{expected}<p title=\"{expected}\"/>\n");
            assert_eq!(markup.finish(), expected);
        }
    }

    #[test]
    fn no_character_leaves_its_place() {
        for character in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let mut html = String::new();
            escape(&mut html, &character.to_string());
            let is_entity = html.starts_with('&') && html.ends_with(';');
            assert!(is_entity || !html.contains(['&', '<', '>', '"', '\'']));
            assert!(!html.chars().any(char::is_control), "{character:?}");
        }
    }

    #[test]
    fn shares_are_percents() {
        assert_eq!(percent(share(1, 8)), "12.5%");
        assert_eq!(percent(share(0, 0)), "0%");
        assert_eq!(percent(share(u64::MAX, 1)), "100%");
    }
}
