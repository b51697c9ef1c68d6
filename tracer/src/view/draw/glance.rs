//! Below the table: what is known about the selected row, in short. Pure.

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::{
    FOOTER, HEADER, Paint, bold,
    cells::{clip, fit},
    faint, finding,
};
use crate::{
    output::words,
    view::{rows::Row, state::State},
};

/// How many lines it takes; 0 on a screen too low for it.
pub(super) fn height(state: &State) -> usize {
    let body = usize::from(state.size.1).saturating_sub(HEADER + FOOTER);
    match body {
        ..16 => 0,
        16..30 => 10,
        _ => 16,
    }
}

pub(super) fn lines(state: &State, rows: &[&Row], width: usize) -> Vec<Line<'static>> {
    let height = height(state);
    let row = state.position(rows).and_then(|at| rows.get(at));
    let Some(row) = row.filter(|_| height > 0) else {
        return Vec::new();
    };
    let mut lines = vec![rule(&row.name, width)];
    lines.extend(story(state, row, width));
    if lines.len() > height {
        lines.truncate(height - 1);
        lines.push(Line::styled(" Enter shows the rest", faint()));
    }
    lines.resize(height, Line::default());
    lines
}

fn rule(name: &str, width: usize) -> Line<'static> {
    let name = clip(name, width.saturating_sub(8));
    let rest = width.saturating_sub(name.width() + 4);
    fit(
        vec![
            Span::styled("── ", faint()),
            Span::styled(name, bold()),
            Span::styled(format!(" {}", "─".repeat(rest)), faint()),
        ],
        width,
    )
}

fn story(state: &State, row: &Row, width: usize) -> Vec<Line<'static>> {
    let paint = Paint::of(state);
    let is_drop = row.newest().is_some_and(|failure| failure.kind.is_drop());
    let mut lines = Vec::new();
    match (&row.census, &row.queue) {
        (_, Some(queue)) if is_drop || row.census.is_none() => {
            lines.extend(finding::sentence(&finding::queue_title(queue), width));
            lines.push(finding::queue_gauge(queue.accept_queue, width, paint));
            lines.extend(finding::sentence(&finding::queue_flow(queue), width));
            if queue.ghost_count > 0 {
                lines.extend(finding::sentence(&words::ghosts(queue), width));
            }
            lines.extend(finding::advice(&queue.advice, width, paint));
        }
        (Some(census), _) => {
            lines.extend(finding::sentence(&finding::census_title(census), width));
            lines.extend(finding::census_bar(census, width, paint));
            lines.extend(finding::census_legend(census, width, 4, paint));
            lines.extend(finding::advice(&census.advice, width, paint));
        }
        _ => {
            let text = match (&row.no_census, row.newest()) {
                (Some(why), _) => format!("The census cannot be taken: {why}"),
                (None, Some(failure)) => format!(
                    "{}, {}: {}",
                    words::what(failure.kind),
                    words::cause(failure.cause),
                    words::addresses(failure)
                ),
                (None, None) => String::new(),
            };
            lines.extend(finding::sentence(&text, width));
        }
    }
    lines
}
