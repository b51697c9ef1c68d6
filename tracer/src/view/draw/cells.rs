//! Text that fits into columns, measured as terminals measure it. Pure.

use ratatui::{
    style::Style,
    text::{Line, Span},
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Exactly `width` columns: with blanks, or with `…` for what does not fit.
pub(super) fn cell(text: &str, width: usize, side: Side) -> String {
    let text = clip(text, width);
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    match side {
        Side::Left => text + &blanks,
        Side::Right => blanks + &text,
    }
}

/// At most `width` columns.
pub(super) fn clip(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let mut clipped = String::new();
    for character in text.chars() {
        clipped.push(character);
        if clipped.width() > width - 1 {
            clipped.pop();
            break;
        }
    }
    clipped.push('…');
    clipped
}

/// A line of these, no wider than the screen.
pub(super) fn fit(spans: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let mut room = width;
    let mut fitted = Vec::with_capacity(spans.len());
    for span in spans {
        let text = clip(&span.content, room);
        room -= text.width().min(room);
        fitted.push(Span::styled(text, span.style));
    }
    Line::from(fitted)
}

/// Some on the left, some on the right; the left gives way.
pub(super) fn apart(
    left: Vec<Span<'static>>,
    right: Vec<Span<'static>>,
    width: usize,
) -> Line<'static> {
    let right = fit(right, width);
    let room = width.saturating_sub(right.width());
    let mut line = fit(left, room.saturating_sub(1));
    let blanks = " ".repeat(room.saturating_sub(line.width()));
    line.spans.push(Span::raw(blanks));
    line.spans.extend(right.spans);
    line
}

/// Broken between words; lines after the first are indented, and the first is as
/// it is.
pub(super) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let width = width.max(8);
    let indent = indent.min(width / 2);
    let mut lines = Vec::new();
    let words = text.trim_start_matches(' ');
    let mut used = (text.len() - words.len()).min(width / 2);
    let mut line = " ".repeat(used);
    for word in words.split(' ') {
        let mut word = word;
        let blank = usize::from(!line.trim_start().is_empty());
        if used + blank + word.width() > width && blank == 1 {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            used = indent;
        } else if blank == 1 {
            line.push(' ');
            used += 1;
        }
        while used + word.width() > width {
            let end = split(word, width - used);
            line.push_str(&word[..end]);
            word = &word[end..];
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            used = indent;
        }
        line.push_str(word);
        used += word.width();
    }
    lines.push(line);
    lines
}

/// Where so many columns of a text end; after one character at least.
fn split(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (index, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > width && index > 0 {
            return index;
        }
    }
    text.len()
}

/// The same as lines of one style.
pub(super) fn paragraph(
    text: &str,
    width: usize,
    indent: usize,
    style: Style,
) -> Vec<Line<'static>> {
    let lines = wrap(text, width, indent);
    lines
        .into_iter()
        .map(|line| Line::styled(line, style))
        .collect()
}

/// `812`, `12.3k`, `4.1M`
pub(super) fn count(number: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    let unit = units.iter().find(|(size, _)| number >= *size);
    match unit {
        Some((size, name)) if number >= 10_000 => {
            let tenths = number / (size / 10);
            match tenths {
                ..1000 => format!("{}.{}{name}", tenths / 10, tenths % 10),
                _ => format!("{}{name}", tenths / 10),
            }
        }
        _ => number.to_string(),
    }
}

/// `0`, `0.4`, `12`, `3.1k`
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        ..0.05 => "0".to_owned(),
        0.05..9.95 => format!("{per_second:.1}"),
        9.95..9999.5 => format!("{per_second:.0}"),
        9999.5..1e6 => format!("{:.1}k", per_second / 1e3),
        1e6..1e9 => format!("{:.1}M", per_second / 1e6),
        _ => "≥1G".to_owned(),
    }
}

/// `4s`, `12m`, `3h`, `2d`
pub(super) fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{}s", seconds.max(0)),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// `4 s`, `12 min 3 s`, `3 h 20 min`, `2 d 4 h`
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_their_width() {
        for (text, shown) in [
            ("nginx", "nginx  "),
            ("checkout", "checko…"),
            ("プロセス", "プロセ…"),
            ("aプロセス", "aプロ… "),
            ("", "       "),
        ] {
            assert_eq!(cell(text, 7, Side::Left), shown);
        }
        assert_eq!(cell("12", 4, Side::Right), "  12");
        assert_eq!(cell("12", 0, Side::Right), "");
    }

    #[test]
    fn words_are_kept_whole() {
        assert_eq!(wrap("one two three", 8, 2), ["one two", "  three"]);
        assert_eq!(wrap("", 8, 2), [""]);
        assert_eq!(wrap("  a  b 345", 8, 0), ["  a  b", "345"]);
        assert_eq!(
            wrap("a 0123456789abcdef", 8, 2),
            ["a", "  012345", "  6789ab", "  cdef"]
        );
        assert_eq!(wrap("プロセスプロセス", 9, 0), ["プロセス", "プロセス"]);
    }

    #[test]
    fn numbers_are_short() {
        let counts = [0, 9999, 10_000, 123_456, 1_000_000, u64::MAX].map(count);
        assert_eq!(
            counts,
            ["0", "9999", "10.0k", "123k", "1.0M", "18446744073G"]
        );
        let rates = [0.0, 0.4, 9.96, 812.0, 31_000.0, f64::MAX].map(rate);
        assert_eq!(rates, ["0", "0.4", "10", "812", "31.0k", "≥1G"]);
        assert_eq!([-1, 59, 60, 90_000].map(age), ["0s", "59s", "1m", "1d"]);
        assert_eq!(
            [3, 63, 3723, 90_000].map(span),
            ["3 s", "1 min 3 s", "1 h 2 min", "1 d 1 h"]
        );
    }
}
