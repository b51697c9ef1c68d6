//! All that is known about one row. Pure.

use ratatui::text::{Line, Span};

use super::{
    Paint,
    bars::sparkline,
    bold,
    cells::{clip, count, fit, rate},
    faint, finding,
};
use crate::{
    output::words,
    view::{
        rows::{Event, Row},
        state::State,
    },
};

pub(super) fn lines(state: &State, row: &Row, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(
        format!(" {}", clip(&row.name, width - 2)),
        bold(),
    )];
    lines.extend(facts(state, row, width));
    if row.newest().is_some_and(|failure| failure.kind.is_drop()) {
        lines.extend(queue(state, row, width));
        lines.extend(census(state, row, width));
    } else {
        lines.extend(census(state, row, width));
        lines.extend(queue(state, row, width));
    }
    lines.push(Line::default());
    lines.push(title("Last failures"));
    lines.extend(row.events.iter().map(|event| failure(state, event, width)));
    lines
}

fn title(text: &str) -> Line<'static> {
    Line::styled(format!(" {text}"), bold().underlined())
}

/// Who it is, how much and since when.
fn facts(state: &State, row: &Row, width: usize) -> Vec<Line<'static>> {
    let data = state.data();
    let mut lines = Vec::new();
    let mut fact = |name: &str, text: &str| {
        let text = format!(" {name:<10} {text}");
        lines.extend(super::cells::paragraph(
            &text,
            width.saturating_sub(1),
            12,
            ratatui::style::Style::new(),
        ));
    };
    if let Some(process) = &row.process {
        let name = words::name(process);
        if name != row.name {
            fact("process", &name);
        }
        let known = [("command", &process.cmdline), ("program", &process.exe)];
        for (name, bytes) in known {
            if let Some(bytes) = bytes.as_deref().filter(|bytes| !bytes.is_empty()) {
                // As much as anybody reads here.
                let shown = words::printable(&bytes[..bytes.len().min(2000)]);
                fact(name, &shown);
            }
        }
        if let Some(place) = process.place.as_deref() {
            if let Some(container) = &place.container {
                let runtime = container.runtime.as_deref().unwrap_or_default();
                let text = format!("{} {runtime}", container.label());
                fact("container", &words::printable(text.trim_end().as_bytes()));
            }
            if let Some(unit) = &place.unit {
                fact("unit", &words::printable(unit.as_bytes()));
            }
        }
        if let Some(uid) = process.uid {
            fact("user id", &uid.to_string());
        }
    }
    if let Some(failure) = row.newest() {
        fact("netns", &failure.netns.to_string());
    }
    let mut kinds: Vec<_> = row.kinds.iter().collect();
    kinds.sort();
    let kinds = kinds.into_iter();
    let kinds = kinds.map(|(kind, number)| format!("{number} {}", words::what(*kind)));
    let mut failures = kinds.collect::<Vec<_>>().join(", ");
    let mut causes: Vec<_> = row.causes.iter().collect();
    causes.sort();
    if causes.len() > 1 {
        let causes = causes.into_iter();
        let causes = causes.map(|(why, number)| format!("{number} {}", words::cause(*why)));
        failures += &format!("; {}", causes.collect::<Vec<_>>().join(", "));
    }
    let clock = |time: jiff::Timestamp| {
        let time = time.to_zoned(state.scene.zone.clone());
        time.strftime("%H:%M:%S").to_string()
    };
    fact("failures", &failures);
    let now = data.now.as_second();
    fact(
        "rate",
        &format!(
            "{}/s, {} since {}, last at {}",
            rate(row.pulse.rate(now)),
            count(row.total),
            clock(row.first),
            clock(row.last)
        ),
    );
    let mut minute = vec![Span::raw(format!(" {:<10} ", "minute"))];
    minute.extend(sparkline(
        &row.pulse.cells(now, if width >= 76 { 60 } else { 30 }),
        Paint::of(state),
    ));
    lines.push(fit(minute, width));
    lines
}

fn census(state: &State, row: &Row, width: usize) -> Vec<Line<'static>> {
    let paint = Paint::of(state);
    let mut lines = Vec::new();
    match (&row.census, &row.no_census) {
        (Some(census), _) => {
            lines.push(Line::default());
            lines.push(title("Ports"));
            lines.extend(finding::sentence(&finding::census_title(census), width));
            lines.extend(finding::census_bar(census, width, paint));
            lines.extend(finding::census_legend(census, width, usize::MAX, paint));
            if let Some(how) = words::how_bound_were_found(census) {
                lines.extend(finding::sentence(&words::harmless(&how), width));
            }
            lines.extend(finding::advice(&census.advice, width, paint));
        }
        (None, Some(why)) => {
            lines.push(Line::default());
            lines.push(title("Ports"));
            let text = format!("The census cannot be taken: {why}");
            lines.extend(finding::sentence(&text, width));
        }
        (None, None) => {}
    }
    lines
}

fn queue(state: &State, row: &Row, width: usize) -> Vec<Line<'static>> {
    let paint = Paint::of(state);
    let Some(finding) = &row.queue else {
        return Vec::new();
    };
    let mut lines = vec![Line::default(), title("Listen queue")];
    lines.extend(finding::sentence(&finding::queue_title(finding), width));
    lines.push(finding::queue_gauge(finding.accept_queue, width, paint));
    let mut sentences = vec![finding::queue_flow(finding)];
    if let Some(asked) = finding.asked {
        sentences.push(format!(
            "listen() asked for {}, somaxconn was {}",
            asked.backlog, asked.somaxconn
        ));
    }
    let per_second =
        |what: &str, rate: Option<f64>| rate.map(|rate| format!("{what} {rate:.1} a second"));
    let flow = [
        per_second("came", finding.arrivals_per_s),
        per_second("accepted", finding.accepts_per_s),
    ];
    let flow: Vec<_> = flow.into_iter().flatten().collect();
    if !flow.is_empty() {
        sentences.push(flow.join(", "));
    }
    if finding.holders.len() > 1 {
        let names: Vec<_> = finding.holders.iter().take(8).map(words::name).collect();
        let more = match finding.holders.len() - names.len() {
            0 => String::new(),
            more => format!(", {more} more"),
        };
        sentences.push(format!("held by {}{more}", names.join(", ")));
    }
    if finding.ghost_count > 0 {
        sentences.push(words::ghosts(finding));
    }
    for text in sentences {
        lines.extend(finding::sentence(&text, width));
    }
    lines.extend(finding::advice(&finding.advice, width, paint));
    lines
}

fn failure(state: &State, event: &Event, width: usize) -> Line<'static> {
    let failure = &event.failure;
    let paint = Paint::of(state);
    let time = failure.time.to_zoned(state.scene.zone.clone());
    fit(
        vec![
            Span::styled(format!(" {}  ", time.strftime("%H:%M:%S%.3f")), faint()),
            Span::styled(format!("{:<14}  ", words::what(failure.kind)), paint.bad()),
            Span::styled(
                format!("{:<18}  ", words::cause(failure.cause)),
                paint.bad(),
            ),
            Span::raw(format!("{}  ", words::addresses(failure))),
            Span::raw(format!("{}  ", words::queues(failure))),
            Span::styled(event.who.clone(), faint()),
        ],
        width,
    )
}
