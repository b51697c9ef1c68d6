//! State → screen. Pure: lines of cells, and no terminal.

mod bars;
mod cells;
mod detail;
mod finding;
mod glance;
mod header;
mod pages;
mod table;

use ratatui::{
    Frame,
    layout::Position,
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::state::{Page, State};
use cells::fit;

/// The least that makes sense.
pub(super) const LEAST: (u16, u16) = (60, 12);

/// From here on there is room to tell kinds apart.
const WIDE: usize = 120;

/// Colours of the terminal's own 16, those that can be read on light and on dark.
#[derive(Clone, Copy)]
struct Paint {
    has_colour: bool,
}

impl Paint {
    fn of(state: &State) -> Self {
        Self {
            has_colour: state.scene.has_colour,
        }
    }

    fn colour(self, colour: Color) -> Style {
        match self.has_colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// What went wrong.
    fn bad(self) -> Style {
        self.colour(Color::Red)
    }

    fn good(self) -> Style {
        self.colour(Color::Green)
    }

    /// What somebody should look at.
    fn remarkable(self) -> Style {
        self.colour(Color::Magenta)
    }

    fn advice(self) -> Style {
        self.colour(Color::Cyan)
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// What is there to help reading.
fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// Lines above and below a page.
const HEADER: usize = 3;
const FOOTER: usize = 1;

/// Puts everything on the screen.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let lines = screen(state, width, height);
    for (line, y) in lines.iter().take(height).zip(area.top()..) {
        frame
            .buffer_mut()
            .set_line(area.left(), y, line, area.width);
    }
    if let Some(x) = header::cursor(state, width)
        && area.height > 2
    {
        let x = u16::try_from(x).unwrap_or(u16::MAX);
        frame.set_cursor_position(Position::new(x.min(area.right().saturating_sub(1)), 2));
    }
}

/// Lines that a page has for itself.
pub(super) fn body_height(state: &State) -> usize {
    let height = usize::from(state.size.1).saturating_sub(HEADER + FOOTER);
    match state.page {
        // The table's own heading, and what is below it.
        Page::Table => height
            .saturating_sub(1)
            .saturating_sub(glance::height(state))
            .max(1),
        _ => height.max(1),
    }
}

/// Lines of the page that is open.
pub(super) fn page_length(state: &State) -> usize {
    page(state, usize::from(state.size.0.max(LEAST.0))).len()
}

fn page(state: &State, width: usize) -> Vec<Line<'static>> {
    match &state.page {
        Page::Table => Vec::new(),
        Page::Detail(_) => match state.opened() {
            Some(row) => detail::lines(state, row, width),
            None => vec![Line::raw(" This row had to make room for others.")],
        },
        Page::Messages => pages::messages(state, width),
        Page::Help => pages::help(width),
    }
}

fn screen(state: &State, width: usize, height: usize) -> Vec<Line<'static>> {
    if width < usize::from(LEAST.0) || height < usize::from(LEAST.1) {
        let (columns, lines) = LEAST;
        return vec![
            Line::raw("tracer is watching."),
            Line::raw(format!("The view needs {columns}x{lines}.")),
        ];
    }
    let mut lines = header::lines(state, width);
    let body = height - HEADER - FOOTER;
    match &state.page {
        Page::Table => {
            let rows = state.rows();
            let below = match rows.is_empty() {
                true => Vec::new(),
                false => glance::lines(state, &rows, width),
            };
            let room = body.saturating_sub(below.len());
            match rows.is_empty() {
                true => lines.extend(pages::nothing(state, width)),
                false => lines.extend(table::lines(state, &rows, width, room)),
            }
            lines.resize(HEADER + room, Line::default());
            lines.extend(below);
        }
        _ => lines.extend(page(state, width).into_iter().skip(state.scroll).take(body)),
    }
    lines.resize(HEADER + body, Line::default());
    lines.push(footer(state, width));
    lines
}

/// Which keys there are.
fn footer(state: &State, width: usize) -> Line<'static> {
    let rows = match (&state.page, state.is_typing) {
        (_, true) => [("Enter", "use filter"), ("Esc", "no filter")].as_slice(),
        (Page::Table, _) => &[
            ("Enter", "detail"),
            ("/", "filter"),
            ("?", "help"),
            ("q", "quit"),
            ("Space", "pause"),
            ("m", "messages"),
        ],
        (Page::Detail(_), _) => &[
            ("Esc", "back"),
            ("↑↓", "scroll"),
            ("Space", "pause"),
            ("?", "help"),
            ("q", "quit"),
        ],
        _ => &[("Esc", "back"), ("↑↓", "scroll"), ("q", "quit")],
    };
    let mut spans = vec![Span::raw(" ")];
    for (key, what) in rows {
        spans.push(Span::styled((*key).to_owned(), bold()));
        spans.push(Span::styled(format!(" {what}"), faint()));
        let messages = state.data().messages.len();
        if *what == "messages" && messages > 0 {
            spans.push(Span::styled(format!(" ({messages})"), bold()));
        }
        spans.push(Span::raw("   "));
    }
    let most = page_length(state).saturating_sub(body_height(state));
    if state.page != Page::Table && most > 0 {
        let place = format!("line {} of {}", state.scroll + 1, page_length(state));
        spans.push(Span::styled(place, faint()));
    }
    fit(spans, width)
}
