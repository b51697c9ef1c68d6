//! What a terminal shows, as a drawing: text stays text, blocks become areas.

use super::Size;
use std::fmt::Write as _;

/// A cell, and what is around all of them.
const WIDTH: f64 = 8.0;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 14.0;

const BACKGROUND: &str = "#1a1d24";
const FOREGROUND: &str = "#d5dae3";

/// The colours 0 to 7 of a calm, dark terminal.
const COLOURS: [&str; 8] = [
    "#4a5160", "#ee7d86", "#8fce86", "#e2c07b", "#7fb0f5", "#c99bf0", "#74cdd8", "#d5dae3",
];

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Style {
    colour: Option<usize>,
    bold: bool,
    faint: bool,
    underlined: bool,
    reversed: bool,
}

/// Characters of one style, from one column on.
#[derive(Debug, PartialEq)]
struct Piece {
    column: usize,
    style: Style,
    text: String,
}

/// Draws what `tmux capture-pane -e` printed.
pub(super) fn picture(painted: &str, (columns, lines): Size) -> String {
    let width = f64::from(columns) * WIDTH + 2.0 * MARGIN;
    let height = f64::from(lines) * HEIGHT + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"13.3\">\n<title>tracer watch</title>\n<rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"{BACKGROUND}\"/>\n"
    );
    let mut style = Style::default();
    for (line, text) in painted.lines().take(usize::from(lines)).enumerate() {
        let (pieces, after) = pieces(text, style);
        style = after;
        for piece in pieces {
            draw(&mut svg, line, &piece);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The texts of such a drawing, in order, as they stand there.
pub(super) fn texts(svg: &str) -> impl Iterator<Item = &str> {
    svg.lines()
        .filter_map(|line| line.strip_prefix("<text ")?.strip_suffix("</text>"))
        .filter_map(|line| Some(line.split_once('>')?.1))
}

/// A line as pieces; and the style in which it ends.
fn pieces(line: &str, mut style: Style) -> (Vec<Piece>, Style) {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut column = 0;
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        if let Some((codes, after)) = escape(rest) {
            apply(&mut style, codes);
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match pieces.last_mut() {
            Some(last) if last.style == style => last.text.push(character),
            _ => pieces.push(Piece {
                column,
                style,
                text: character.into(),
            }),
        }
        column += 1;
    }
    (pieces, style)
}

/// The numbers of an escape sequence that sets colours, and what follows it.
fn escape(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("\x1b[")?.split_once('m')
}

fn apply(style: &mut Style, codes: &str) {
    let mut codes = codes.split(';').map(|code| code.parse().unwrap_or(0));
    while let Some(code) = codes.next() {
        match code {
            0 => *style = Style::default(),
            1 => style.bold = true,
            2 => style.faint = true,
            4 => style.underlined = true,
            7 => style.reversed = true,
            22 => (style.bold, style.faint) = (false, false),
            24 => style.underlined = false,
            27 => style.reversed = false,
            colour @ 30..=37 => style.colour = Some(colour - 30),
            // One of 256: `38;5;N`.
            38 => style.colour = codes.nth(1).filter(|colour| *colour < COLOURS.len()),
            39 => style.colour = None,
            _ => {}
        }
    }
}

fn draw(svg: &mut String, line: usize, piece: &Piece) {
    let style = piece.style;
    let ink = style.colour.map_or(FOREGROUND, |colour| COLOURS[colour]);
    let cells = piece.text.chars().count();
    let y = MARGIN + at(line, HEIGHT);
    if style.reversed {
        area(svg, (piece.column, cells), (y, HEIGHT), ink, 1.0);
    }
    let ink = if style.reversed { BACKGROUND } else { ink };
    let opacity = if style.faint { 0.55 } else { 1.0 };
    if style.underlined {
        let below = y + HEIGHT - 2.0;
        area(svg, (piece.column, cells), (below, 1.0), ink, opacity);
    }
    // Blocks of one kind beside each other are one area; all else is text.
    let characters: Vec<char> = piece.text.chars().collect();
    let mut column = piece.column;
    for run in characters.chunk_by(|one, other| block(*one) == block(*other)) {
        match block(run[0]) {
            Some((height, share)) => {
                // Lines of blocks do not touch: easier to look at than in a terminal.
                let height = height * 0.85;
                let top = y + HEIGHT * (0.95 - height);
                let opacity = opacity * share;
                area(
                    svg,
                    (column, run.len()),
                    (top, HEIGHT * height),
                    ink,
                    opacity,
                );
            }
            None => text(svg, column, y, run, style, ink, opacity),
        }
        column += run.len();
    }
}

/// How much of a cell's height a block fills, and how densely.
fn block(character: char) -> Option<(f64, f64)> {
    Some(match character {
        '▁'..='█' => {
            let eighths = u32::from(character) - u32::from('▁') + 1;
            (f64::from(eighths) / 8.0, 1.0)
        }
        '▓' => (1.0, 0.75),
        '▒' => (1.0, 0.5),
        '░' => (1.0, 0.25),
        _ => return None,
    })
}

fn at(cells: usize, size: f64) -> f64 {
    // A screen has far fewer cells than a float has digits.
    f64::from(u32::try_from(cells).unwrap_or(u32::MAX)) * size
}

fn area(
    svg: &mut String,
    (column, cells): (usize, usize),
    (y, height): (f64, f64),
    ink: &str,
    opacity: f64,
) {
    let (x, width) = (MARGIN + at(column, WIDTH), at(cells, WIDTH));
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.2}\" width=\"{width:.1}\" height=\"{height:.2}\" fill=\"{ink}\"{}/>",
        see_through(opacity)
    );
}

fn see_through(opacity: f64) -> String {
    match opacity < 1.0 {
        true => format!(" opacity=\"{opacity:.2}\""),
        false => String::new(),
    }
}

fn text(
    svg: &mut String,
    column: usize,
    y: f64,
    characters: &[char],
    style: Style,
    ink: &str,
    opacity: f64,
) {
    let blanks = characters.iter().take_while(|it| **it == ' ').count();
    let shown: String = characters[blanks..].iter().collect();
    let shown = shown.trim_end();
    if shown.is_empty() {
        return;
    }
    let x = MARGIN + at(column + blanks, WIDTH);
    // As wide as its cells, whichever font there is.
    let length = at(shown.chars().count(), WIDTH);
    let baseline = y + HEIGHT * 0.74;
    let weight = if style.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let escaped = shown
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{baseline:.1}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" fill=\"{ink}\"{weight}{}>{escaped}</text>",
        see_through(opacity)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read() {
        let (pieces, after) = pieces("a\x1b[1;38;5;1mb\x1b[0m c\x1b[7md", Style::default());
        let texts: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.column, piece.text.as_str()))
            .collect();
        assert_eq!(texts, [(0, "a"), (1, "b"), (2, " c"), (4, "d")]);
        assert!(pieces[1].style.bold && pieces[1].style.colour == Some(1));
        assert!(after.reversed && !after.bold);
    }

    #[test]
    fn text_stays_text_and_blocks_become_areas() {
        let svg = picture("<a> & \x1b[35m██▄\x1b[39m\n", (10, 2));
        assert!(svg.contains(">&lt;a&gt; &amp;</text>"));
        assert_eq!(svg.matches("<rect").count(), 3);
        assert_eq!(svg.matches(COLOURS[5]).count(), 2);
        assert!(!svg.contains('█'));
    }
}
