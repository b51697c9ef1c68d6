//! One row for each who fails. Pure.

use ratatui::{
    style::Style,
    text::{Line, Span},
};
use tracer_common::Kind;

use super::{
    Paint, WIDE,
    bars::sparkline,
    bold,
    cells::{Side, age, cell, count, fit, rate},
    faint, reversed,
};
use crate::{
    output::words,
    view::{
        rows::{Group, Row},
        state::State,
        verdict::{heading, verdict},
    },
};

/// What stands in a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Name,
    Kind(Kind),
    Failures,
    Rate,
    Minute,
    Cause,
    Queue,
    Culprit,
    Seen,
}

struct Column {
    what: What,
    title: &'static str,
    width: usize,
}

impl Column {
    fn side(&self) -> Side {
        match self.what {
            What::Kind(_) | What::Failures | What::Rate | What::Seen => Side::Right,
            _ => Side::Left,
        }
    }
}

fn kinds(group: Group) -> &'static [(Kind, &'static str)] {
    match group {
        Group::Process | Group::Container => &[
            (Kind::ConnectFailed, "CONNECT"),
            (Kind::BindFailed, "BIND"),
            (Kind::ListenFailed, "LISTEN"),
            (Kind::SynDropped, "SYN"),
            (Kind::AckDropped, "ACK"),
            (Kind::OverflowReset, "RESET"),
        ],
        Group::Listener => &[
            (Kind::SynDropped, "SYN"),
            (Kind::AckDropped, "ACK"),
            (Kind::OverflowReset, "RESET"),
        ],
        Group::Destination => &[],
    }
}

fn columns(group: Group, width: usize) -> Vec<Column> {
    let is_wide = width >= WIDE;
    let fixed = |what, title, width| Column { what, title, width };
    let mut columns = vec![fixed(What::Name, heading(group), 0)];
    if is_wide {
        let kinds = kinds(group).iter();
        columns.extend(kinds.map(|(kind, title)| fixed(What::Kind(*kind), *title, 7)));
    }
    columns.push(fixed(What::Failures, "FAILED", 6));
    columns.push(fixed(What::Rate, "/s", 5));
    let minute = match (width, group) {
        (..76, _) => 0,
        (..100, Group::Process) => 10,
        (..100, _) => 6,
        (100..WIDE, _) => 12,
        (WIDE..160, _) => 20,
        _ => 30,
    };
    let title = match minute {
        ..8 => "MINUTE",
        8..11 => "LAST MIN",
        _ => "LAST MINUTE",
    };
    if minute > 0 {
        columns.push(fixed(What::Minute, title, minute));
    }
    let is_listener = group == Group::Listener;
    if is_wide || !is_listener {
        let width = if is_wide { 22 } else { 17 };
        columns.push(fixed(What::Cause, "CAUSE", width));
    }
    if is_listener {
        // Which queue is full says the cause.
        columns.push(fixed(What::Queue, "QUEUE", 14));
    }
    columns.push(fixed(What::Culprit, "CULPRIT", 0));
    columns.push(fixed(What::Seen, "SEEN", 4));
    // A blank beside each.
    let used: usize = columns.iter().map(|column| column.width + 1).sum();
    let free = width.saturating_sub(used + 1);
    let name = (free * 11 / 20).min(46);
    for column in &mut columns {
        match column.what {
            What::Name => column.width = name,
            What::Culprit => column.width = free - name,
            _ => {}
        }
    }
    columns
}

/// The heading and as many rows as there is room for, the selected one among them.
pub(super) fn lines(state: &State, rows: &[&Row], width: usize, room: usize) -> Vec<Line<'static>> {
    let columns = columns(state.group, width);
    let mut lines = vec![heads(&columns, width)];
    let room = room.saturating_sub(1);
    let selected = state.position(rows).unwrap_or(0);
    let rest = remark(state, rows.len(), room);
    let room = room - usize::from(rest.is_some()).min(room);
    let first = selected
        .saturating_sub(room / 2)
        .min(rows.len().saturating_sub(room));
    let shown = rows.iter().enumerate().skip(first).take(room);
    lines.extend(shown.map(|(at, row)| line(state, row, &columns, at == selected, width)));
    lines.extend(rest.map(|text| fit(vec![Span::styled(text, faint())], width)));
    lines
}

fn heads(columns: &[Column], width: usize) -> Line<'static> {
    let titles = columns.iter().map(|column| {
        let title = cell(column.title, column.width, column.side());
        format!("{title} ")
    });
    let text = format!(" {}", titles.collect::<String>());
    fit(vec![Span::styled(text, faint().underlined())], width)
}

/// What is not in the table.
fn remark(state: &State, rows: usize, room: usize) -> Option<String> {
    let table = state.data().table(state.group);
    let mut remarks = Vec::new();
    if rows > room {
        remarks.push(format!("{rows} rows"));
    }
    if table.apart > 0 {
        let what = match state.group {
            Group::Listener => "have no listener",
            Group::Container => "have no container or unit",
            _ => "have no destination",
        };
        remarks.push(format!("{} other failures {what} (p)", count(table.apart)));
    }
    let (forgotten, failures) = table.forgotten;
    if forgotten > 0 {
        remarks.push(format!(
            "{} rows with {} failures had to make room",
            count(forgotten),
            count(failures)
        ));
    }
    (!remarks.is_empty()).then(|| format!(" {}", remarks.join("; ")))
}

fn line(
    state: &State,
    row: &Row,
    columns: &[Column],
    is_selected: bool,
    width: usize,
) -> Line<'static> {
    let marker = if is_selected { "▸" } else { " " };
    // Turned round, colours would be grounds.
    let paint = Paint {
        has_colour: state.scene.has_colour && !is_selected,
    };
    let mut spans = vec![Span::raw(marker)];
    for column in columns {
        spans.extend(content(state, row, column, paint));
        spans.push(Span::raw(" "));
    }
    let line = fit(spans, width);
    match is_selected {
        true => {
            let spans = line.spans.into_iter();
            let bright = spans.map(|span| span.patch_style(reversed().not_dim()));
            Line::from_iter(bright)
        }
        false => line,
    }
}

fn content(state: &State, row: &Row, column: &Column, paint: Paint) -> Vec<Span<'static>> {
    let now = state.data().now;
    let width = column.width;
    let (text, style) = match column.what {
        What::Name => (row.name.clone(), bold()),
        What::Kind(kind) => match row.kinds.get(&kind).copied().unwrap_or(0) {
            0 => ("·".to_owned(), faint()),
            some => (count(some), Style::new()),
        },
        What::Failures => (count(row.total), Style::new()),
        What::Rate => match rate(row.pulse.rate(now.as_second())) {
            zero if zero == "0" => (zero, faint()),
            some => (some, bold()),
        },
        What::Minute => {
            let cells = row.pulse.cells(now.as_second(), width);
            return sparkline(&cells, paint);
        }
        What::Cause => match row.cause() {
            Some((cause, 0)) => (words::cause(cause).to_owned(), paint.bad()),
            Some((cause, others)) => {
                let room = width.saturating_sub(3);
                let name = super::cells::clip(words::cause(cause), room);
                (format!("{name} +{others}"), paint.bad())
            }
            None => (String::new(), Style::new()),
        },
        What::Queue => (
            row.newest().map(words::queues).unwrap_or_default(),
            Style::new(),
        ),
        What::Culprit => {
            let Some(verdict) = verdict(row) else {
                return vec![Span::styled(cell("–", width, Side::Left), faint())];
            };
            // Who it is stands on the left already: what it does says more.
            let text = match verdict.who == row.name {
                true if width < 22 => verdict.brief,
                true => verdict.what,
                false if width >= 30 => format!("{}: {}", verdict.who, verdict.what),
                false => verdict.who,
            };
            (text, paint.remarkable())
        }
        What::Seen => (age(now.as_second() - row.last.as_second()), Style::new()),
    };
    vec![Span::styled(cell(&text, width, column.side()), style)]
}
