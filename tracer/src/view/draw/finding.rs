//! A census and a queue as pictures with legends. Pure.

use ratatui::text::{Line, Span};

use super::{
    Paint,
    bars::{FREE, gauge, shape, shares, style},
    bold,
    cells::{fit, paragraph, wrap},
    faint,
};
use crate::{
    explain::finding::{Advice, Census, QueueFinding},
    model::Queue,
    output::words,
};

/// No bar is longer: the eye takes it in at once.
const BAR: usize = 120;

/// One line of what it is about.
pub(super) fn census_title(census: &Census) -> String {
    let text = words::headline(census);
    match text.split_once(": ") {
        Some((_, rest)) => rest.to_owned(),
        None => text,
    }
}

/// All ports of the range as one bar; nothing for a single port.
pub(super) fn census_bar(census: &Census, width: usize, paint: Paint) -> Option<Line<'static>> {
    if census.range.is_one_port() {
        return None;
    }
    let rest = u64::from(census.free) + u64::from(census.unexplained);
    let amounts: Vec<u64> = census
        .parts
        .iter()
        .map(|part| part.ports.into())
        .chain([rest])
        .collect();
    let shares = shares(&amounts, width.saturating_sub(2).min(BAR));
    let mut spans = vec![Span::raw(" ")];
    for (rank, (part, cells)) in census.parts.iter().zip(&shares).enumerate() {
        let text = shape(rank).to_string().repeat(*cells);
        spans.push(Span::styled(text, style(part.state, paint)));
    }
    let free = shares.last().copied().unwrap_or(0);
    spans.push(Span::styled(FREE.to_string().repeat(free), faint()));
    Some(fit(spans, width))
}

/// What the shapes mean, and who has the ports: at most `most` lines.
pub(super) fn census_legend(
    census: &Census,
    width: usize,
    most: usize,
    paint: Paint,
) -> Vec<Line<'static>> {
    let is_one_port = census.range.is_one_port();
    let mut lines: Vec<_> = census
        .parts
        .iter()
        .enumerate()
        .map(|(rank, part)| {
            fit(
                vec![
                    Span::raw(" "),
                    Span::styled(shape(rank).to_string(), style(part.state, paint)),
                    Span::styled(format!(" {:>6} ", part.ports), bold()),
                    Span::raw(format!("{:<16}", words::state(part.state))),
                    Span::raw(words::holders(part, is_one_port)),
                ],
                width,
            )
        })
        .collect();
    for (ports, what) in [
        (census.unexplained, "unexplained"),
        (census.free, "free now"),
    ] {
        if ports > 0 && !is_one_port {
            let text = format!(" {FREE} {ports:>6} {what}");
            lines.push(fit(vec![Span::raw(text)], width));
        }
    }
    if census.parts.is_empty() && is_one_port {
        let text = " No socket was on it any more when it was looked for.";
        lines.push(fit(vec![Span::raw(text)], width));
    }
    if lines.len() > most {
        let more = lines.len() - most + 1;
        lines.truncate(most.saturating_sub(1));
        lines.push(Line::styled(format!("          {more} more"), faint()));
    }
    lines
}

pub(super) fn queue_title(finding: &QueueFinding) -> String {
    let local = finding.local.map(|address| address.to_string());
    let who = finding.process.as_ref();
    format!(
        "{} of {}: {}",
        local.as_deref().unwrap_or("a listener"),
        who.map_or("(unknown)".to_owned(), words::name),
        words::cause(finding.cause)
    )
}

/// Length and limit of the accept queue; the kernel admits one more.
pub(super) fn queue_gauge(queue: Queue, width: usize, paint: Paint) -> Line<'static> {
    let (len, most) = (u64::from(queue.len), u64::from(queue.max) + 1);
    let full = if len >= most { "full" } else { "not full" };
    let label = format!(" {}/{} {full}", queue.len, queue.max);
    let room = width.saturating_sub(label.len() + 3).min(BAR / 2);
    let mut spans = vec![Span::raw(" ")];
    spans.extend(gauge(len, most, room, paint));
    spans.push(Span::styled(label, bold()));
    fit(spans, width)
}

/// What came, what was accepted, what was dropped.
pub(super) fn queue_flow(finding: &QueueFinding) -> String {
    let seconds = finding.until.duration_since(finding.since).as_secs_f64();
    let least = if finding.connections_capped {
        "at least "
    } else {
        ""
    };
    let flow = format!(
        "{} of {least}{} connections within {seconds:.1} s; {}",
        words::drops(finding),
        finding.connections,
        words::accepts(finding)
    );
    match words::disagreement(finding) {
        Some(disagreement) => format!("{flow}; {disagreement}"),
        None => flow,
    }
}

/// Pieces of advice, with their names as docs/advice.md has them.
pub(super) fn advice(advice: &[Advice], width: usize, paint: Paint) -> Vec<Line<'static>> {
    let pieces = advice.iter().flat_map(|advice| {
        let text = format!(
            "{} [{}]",
            words::harmless(&advice.text),
            words::harmless(&advice.id)
        );
        let mut first = true;
        wrap(&text, width.saturating_sub(5), 0)
            .into_iter()
            .map(move |line| {
                let mark = if std::mem::take(&mut first) {
                    " → "
                } else {
                    "   "
                };
                fit(
                    vec![Span::styled(mark, paint.advice()), Span::raw(line)],
                    width,
                )
            })
            .collect::<Vec<_>>()
    });
    pieces.collect()
}

/// A sentence, indented by a column.
pub(super) fn sentence(text: &str, width: usize) -> Vec<Line<'static>> {
    paragraph(
        &format!(" {text}"),
        width.saturating_sub(1),
        1,
        ratatui::style::Style::new(),
    )
}
