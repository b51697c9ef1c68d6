//! The report for people: the first screen tells the story. Pure.

mod chart;
mod layout;

use jiff::tz::TimeZone;

use super::{
    analyse::Analysis,
    clock::Clock,
    story::{ALL_SEEN, Beside, Block, Compared, List, Story, Told},
};
use layout::Page;

/// How the report looks.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) width: usize,
    pub(super) colour: bool,
    pub(super) zone: TimeZone,
    /// Entries of each list.
    pub(super) top: usize,
}

/// `notes`: what could not be read of the files.
pub(super) fn report(analysis: &Analysis, notes: &[String], style: &Style) -> String {
    let clock = Clock::new(style.zone.clone(), analysis.window());
    let story = Story::of(analysis, notes, &clock, style.top);
    let mut page = Page::new(style);
    for (label, line) in &story.captured {
        page.labelled(label, line);
    }
    for (index, told) in story.findings.iter().enumerate() {
        page.blank();
        finding(&mut page, index + 1, told);
    }
    if let Some(remark) = &story.remark {
        page.blank();
        page.line(remark);
    }
    chart::draw(&mut page, analysis, &clock);
    list(&mut page, &story.programs);
    list(&mut page, &story.listeners);
    totals(&mut page, &story.totals);
    page.heading("not seen, and why");
    if story.not_seen.is_empty() {
        page.indented(ALL_SEEN);
    }
    for sentence in &story.not_seen {
        page.item("-", sentence);
    }
    page.text
}

fn finding(page: &mut Page<'_>, number: usize, told: &Told<'_>) {
    page.headline(number, &told.headline);
    page.indented(&told.extent);
    for block in &told.blocks {
        match block {
            Block::Line(line) | Block::Gist(line) | Block::Queue { line, .. } => {
                page.indented(line);
            }
            Block::Ports(ports) => {
                page.indented(&ports.heading);
                for row in &ports.rows {
                    page.row(&row.ports.to_string(), &row.what, &row.holders);
                }
            }
            Block::Advice(steps) => {
                for step in steps {
                    let id = page.dim(&format!("[{}]", step.id));
                    page.item("→", &format!("{} {id}", step.text));
                }
            }
        }
    }
}

fn list(page: &mut Page<'_>, list: &List<'_>) {
    if list.rows.is_empty() {
        return;
    }
    page.heading(list.heading);
    for row in &list.rows {
        page.row(&row.count, &row.name, &row.text);
    }
    if let Some((count, what)) = &list.others {
        page.row(count, what, "");
    }
}

fn totals(page: &mut Page<'_>, totals: &Compared) {
    page.heading(totals.heading);
    page.indented(&totals.sum);
    for row in &totals.rows {
        page.indented(&beside(row));
    }
    for remark in &totals.remarks {
        page.indented(remark);
    }
}

fn beside(row: &Beside) -> String {
    let pairs: Vec<_> = row
        .pairs
        .iter()
        .map(|(label, pair)| match (pair.kernel, pair.difference()) {
            (Some(kernel), Some(0)) => format!("{label} {kernel} = {kernel}"),
            (Some(kernel), Some(difference)) => format!(
                "{label} {kernel}, tracer {}, difference {difference:+}",
                pair.tracer
            ),
            _ => format!("{label} unknown, tracer {}", pair.tracer),
        })
        .collect();
    let why = row.why.as_ref().map(|why| format!(" ({why})"));
    format!(
        "netns {}: {}{}",
        row.netns,
        pairs.join(", "),
        why.unwrap_or_default()
    )
}
