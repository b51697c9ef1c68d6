//! What stands above every page: where, since when, how sure. Pure.

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::{
    Paint, bold,
    cells::{apart, clip, count, fit, span},
    faint, reversed,
};
use crate::view::{
    data::{Agreement, HookVerdict},
    rows::Group,
    state::{Page, State},
};

/// Columns of a host's name, at most.
const HOST: usize = 16;

pub(super) fn lines(state: &State, width: usize) -> Vec<Line<'static>> {
    vec![
        place(state, width),
        counts(state, width),
        groups(state, width),
    ]
}

fn place(state: &State, width: usize) -> Line<'static> {
    let data = state.data();
    let mut left = vec![Span::styled(" tracer", bold())];
    let mut right = Vec::new();
    if let Some(run) = &data.run {
        let seconds = data.now.duration_since(run.begun).as_secs();
        // What is known best comes last: where there is little room, it is cut.
        let when = match state.scene.is_replay {
            false => format!("for {}", span(seconds)),
            true => {
                let clock = data.now.to_zoned(state.scene.zone.clone());
                format!("replay: {}", clock.strftime("%Y-%m-%d %H:%M:%S"))
            }
        };
        left.push(Span::raw(format!(
            "  {}  {when}  {}",
            clip(&run.host, HOST),
            run.kernel
        )));
        let tiers: Vec<_> = run
            .tiers
            .iter()
            .map(|(name, purposes)| format!("{name} {purposes}"))
            .collect();
        match (run.verdict, run.tiers.as_slice()) {
            (None, _) => right.push(Span::raw(format!("hooks: {}", tiers.join(", ")))),
            // The verdict has their number.
            (Some(_), [(name, _)]) => right.push(Span::raw(name.to_string())),
            (Some(_), _) => right.push(Span::raw(tiers.join(", "))),
        }
        if let Some(verdict) = run.verdict {
            right.extend(verified(verdict, Paint::of(state)));
        }
        if !run.degradations.is_empty() {
            let limits = run.degradations.len();
            let text = if limits == 1 { "limit" } else { "limits" };
            right.push(Span::raw(format!(", {limits} {text} (")));
            right.push(Span::styled("m", bold()));
            right.push(Span::raw(")"));
        }
        right.push(Span::raw(" "));
    }
    apart(left, right, width)
}

/// Whether the hooks see what they should.
fn verified(verdict: HookVerdict, paint: Paint) -> [Span<'static>; 2] {
    let HookVerdict {
        verified,
        failed,
        all,
    } = verdict;
    let span = match (verified, failed) {
        (_, 1..) => Span::styled(format!("{failed} FAILED"), paint.bad()),
        (0, _) => Span::styled("not verified", paint.remarkable()),
        (all_of, _) => Span::styled(format!("{all_of} of {all} verified"), paint.good()),
    };
    [Span::raw(", "), span]
}

fn counts(state: &State, width: usize) -> Line<'static> {
    let data = state.data();
    let paint = Paint::of(state);
    let mut left = Vec::new();
    match data.counts() {
        Some(health) => {
            left.push(Span::styled(format!(" {}", count(health.counted)), bold()));
            left.push(Span::raw(" counted  "));
            left.push(Span::styled(count(health.described), bold()));
            left.push(Span::raw(" described  "));
            if health.summed > 0 {
                left.push(Span::styled(count(health.summed), bold()));
                left.push(Span::raw(" in sums  "));
            }
            if health.filtered > 0 {
                left.push(Span::styled(count(health.filtered), bold()));
                left.push(Span::raw(" left out  "));
            }
            let lost = health.lost();
            let style = if lost > 0 { paint.remarkable() } else { bold() };
            left.push(Span::styled(count(lost), style));
            left.push(Span::raw(" lost  "));
        }
        None => {
            left.push(Span::styled(format!(" {}", count(data.seen)), bold()));
            left.push(Span::raw(" failures  "));
            if data.lost > 0 {
                left.push(Span::styled(count(data.lost), paint.remarkable()));
                left.push(Span::raw(" lost  "));
            }
        }
    }
    left.push(agreement(data.agreement(), paint));
    let mut right = Vec::new();
    if let Some(only) = &state.scene.only {
        right.push(Span::styled(format!("only {only}  "), bold()));
        let unmatched = data.run.as_ref().map_or(0, |run| run.unmatched.len());
        if unmatched > 0 && data.seen == 0 {
            right.push(Span::styled(
                format!("{unmatched} not found at start (m)  "),
                paint.remarkable(),
            ));
        }
    }
    if let Some(capture) = &state.scene.capture {
        right.push(Span::raw(format!("kept in {capture} ")));
    }
    if data.is_over {
        right.push(Span::styled("end of the records ", bold()));
    }
    // Numbers first: the rest has what room there is.
    let left = fit(left, width);
    let room = width.saturating_sub(left.width() + 2);
    let right = fit(right, room).spans;
    apart(left.spans, right, width)
}

/// tracer's counts of drops beside the kernel's own.
fn agreement(agreement: Agreement, paint: Paint) -> Span<'static> {
    match agreement {
        Agreement::Unknown => Span::raw(""),
        Agreement::Silent => Span::styled("kernel: no drops", faint()),
        Agreement::Agrees => Span::styled("kernel agrees", paint.good()),
        Agreement::Nearly(most) => {
            Span::styled(format!("kernel agrees (±{})", count(most)), paint.good())
        }
        Agreement::Differs(difference) => {
            Span::styled(format!("kernel differs: {difference:+}"), paint.bad())
        }
        Agreement::Unreadable(namespaces) => Span::styled(
            format!("kernel unreadable in {namespaces} netns"),
            paint.remarkable(),
        ),
    }
}

const FILTER: &str = "filter: ";

fn filter(state: &State) -> Option<String> {
    let is_wanted = state.is_typing || !state.filter.is_empty();
    is_wanted.then(|| format!("{FILTER}{}", crate::output::words::harmless(&state.filter)))
}

/// What the table is by, with its keys; the filter; whether time stands still.
fn groups(state: &State, width: usize) -> Line<'static> {
    let mut left = vec![Span::styled(" by  ", faint())];
    for group in Group::ALL {
        let name = group.name();
        if group == state.group && matches!(state.page, Page::Table | Page::Detail(_)) {
            left.push(Span::styled(format!(" {name} "), reversed()));
        } else {
            left.push(Span::raw(" "));
            left.push(Span::styled(name[..1].to_owned(), bold().underlined()));
            left.push(Span::raw(format!("{} ", &name[1..])));
        }
    }
    if let Some(filter) = filter(state) {
        left.push(Span::raw("   "));
        left.push(Span::styled(filter, bold()));
    }
    let mut right = Vec::new();
    if state.is_paused() {
        let text = match state.unseen() {
            0 => " PAUSED ".to_owned(),
            more => format!(" PAUSED, {} more ", count(more)),
        };
        right.push(Span::styled(text, reversed()));
    }
    match right.is_empty() {
        true => fit(left, width),
        false => apart(left, right, width),
    }
}

/// Where the next character of a filter will be.
pub(super) fn cursor(state: &State, width: usize) -> Option<usize> {
    if !state.is_typing {
        return None;
    }
    Some(groups(state, width).width().min(filter_end(state)))
}

fn filter_end(state: &State) -> usize {
    let names: usize = Group::ALL.iter().map(|group| group.name().len() + 2).sum();
    let filter = filter(state).map_or(0, |text| text.width());
    " by  ".len() + names + 3 + filter
}
