//! Pages of text: nothing yet, messages, help. Pure.

use ratatui::text::{Line, Span};

use super::{
    bold,
    cells::{Side, cell, fit, paragraph},
    faint,
};
use crate::{
    host::plan::Purpose,
    view::{rows, state::State},
};

/// Instead of an empty table.
pub(super) fn nothing(state: &State, width: usize) -> Vec<Line<'static>> {
    let table = state.data().table(state.group);
    let is_filtered = !state.filter.is_empty() && !table.rows.is_empty();
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let (head, text): (&str, Vec<String>) = if is_filtered {
        ("No row matches the filter.", own(&["Esc shows all again."]))
    } else if table.apart > 0 {
        (
            "No failure of this sort so far.",
            own(&["The others are in the table by process (p)."]),
        )
    } else if state.scene.is_replay {
        ("These records hold no failure.", Vec::new())
    } else {
        ("No failure so far.", watched(state))
    };
    let widest = text.iter().map(|line| line.chars().count()).max();
    let margin = width.saturating_sub(widest.unwrap_or(0).max(head.len())) / 2;
    let margin = " ".repeat(margin);
    let mut lines = vec![Line::default(), Line::default()];
    lines.push(Line::styled(format!("{margin}{head}"), bold()));
    lines.push(Line::default());
    lines.extend(text.iter().map(|line| Line::raw(format!("{margin}{line}"))));
    lines
}

/// What would be seen, by the hooks that there are.
fn watched(state: &State) -> Vec<String> {
    let hooks = state.data().run.as_ref().map_or(&[][..], |run| &run.hooks);
    let has = |purpose: Purpose| {
        let is_missing = |[name, tier, ..]: &[String; 4]| name == purpose.name() && tier == "none";
        !hooks.iter().any(is_missing)
    };
    let mut seen = Vec::new();
    let calls = [
        (Purpose::Connect, "connect()"),
        (Purpose::Bind, "bind()"),
        (Purpose::Listen, "listen()"),
    ];
    let calls: Vec<&str> = calls
        .into_iter()
        .filter_map(|(purpose, name)| has(purpose).then_some(name))
        .collect();
    match calls.as_slice() {
        [] => {}
        [one] => seen.push(format!("  {one} that finds no port or no address")),
        [first @ .., last] => seen.push(format!(
            "  {} and {last} that find no port or no address",
            first.join(", ")
        )),
    }
    if has(Purpose::SynDrop) || has(Purpose::AckDrop) {
        seen.push("  connections that a listener's full queue drops".to_owned());
    }
    let place = match &state.scene.only {
        Some(_) => "Watched, of what the filter wants:",
        None => "Watched, in every network namespace of this machine:",
    };
    let mut text = Vec::new();
    if !seen.is_empty() {
        text.push(place.to_owned());
        text.append(&mut seen);
        text.push(String::new());
    }
    let blind = Purpose::ALL
        .into_iter()
        .filter(|it| it.is_failure() && !has(*it));
    let blind: Vec<&str> = blind.map(Purpose::name).collect();
    if blind.is_empty() {
        let soon = "The first one will be here at once, with its cause and who is behind it.";
        text.push(soon.to_owned());
    } else {
        text.push("NOT watched, because there is no hook for it (m says why):".to_owned());
        text.extend(blind.chunks(5).map(|some| format!("  {}", some.join("  "))));
    }
    text.push("How near is it?  tracer ports  shows who has the ports now,".to_owned());
    text.push("tracer listeners  how full every queue is.".to_owned());
    text
}

/// What would have gone to standard error, and what cannot be seen here.
pub(super) fn messages(state: &State, width: usize) -> Vec<Line<'static>> {
    let data = state.data();
    let mut lines = vec![Line::styled(" Messages", bold().underlined())];
    if data.messages.is_empty() {
        lines.push(Line::styled(" none", faint()));
    }
    for message in data.messages.iter().rev() {
        let time = message.time.to_zoned(state.scene.zone.clone());
        let text = format!(" {}  {}", time.strftime("%H:%M:%S"), message.text);
        lines.extend(paragraph(
            &text,
            width - 1,
            11,
            ratatui::style::Style::new(),
        ));
    }
    if data.dropped > 0 {
        let text = format!(" {} older ones had to make room", data.dropped);
        lines.push(Line::styled(text, faint()));
    }
    let Some(run) = &data.run else {
        return lines;
    };
    if !run.unmatched.is_empty() {
        lines.push(Line::default());
        let title = " What the filter asked for in vain when tracer started";
        lines.push(Line::styled(title, bold().underlined()));
    }
    for sentence in &run.unmatched {
        let text = format!(" {sentence}");
        let style = ratatui::style::Style::new();
        lines.extend(paragraph(&text, width - 1, 3, style));
    }
    lines.push(Line::default());
    let title = " What cannot be seen here, or not exactly";
    lines.push(Line::styled(title, bold().underlined()));
    if run.degradations.is_empty() {
        lines.push(Line::styled(" nothing: every failure, exactly", faint()));
    }
    for sentence in &run.degradations {
        lines.extend(paragraph(
            &format!(" {sentence}"),
            width - 1,
            3,
            ratatui::style::Style::new(),
        ));
    }
    lines.push(Line::default());
    lines.push(Line::styled(" Hooks", bold().underlined()));
    for [purpose, tier, exactness, programs] in &run.hooks {
        lines.push(fit(
            vec![
                Span::raw(format!(" {}", cell(purpose, 18, Side::Left))),
                Span::raw(cell(tier, 9, Side::Left)),
                Span::raw(cell(exactness, 6, Side::Left)),
                Span::styled(format!(" {programs}"), faint()),
            ],
            width,
        ));
    }
    lines
}

const KEYS: [(&str, &str); 12] = [
    (
        "p l d c",
        "a row for each process, listener, destination, container",
    ),
    ("↑ ↓ j k", "another row; in text, another line"),
    ("PgUp PgDn", "a screenful"),
    ("Home End g G", "the first, the last"),
    ("Enter", "all about this row"),
    ("Esc", "back; in the table: no filter"),
    (
        "/",
        "only rows with these words: names, causes, addresses, commands",
    ),
    ("Space", "pause: the picture stands still, watching goes on"),
    ("m", "messages, limits of this kernel, hooks in use"),
    ("Ctrl-Z", "suspend; fg comes back"),
    ("?", "this page"),
    ("q Ctrl-C", "end, with totals"),
];

pub(super) fn help(width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(" Keys", bold().underlined())];
    for (keys, what) in KEYS {
        lines.push(fit(
            vec![
                Span::styled(format!(" {}", cell(keys, 13, Side::Left)), bold()),
                Span::raw(what),
            ],
            width,
        ));
    }
    lines.push(Line::default());
    lines.push(Line::styled(" What it means", bold().underlined()));
    let texts = [
        "counted, described, lost: failures are counted in the kernel, exactly, those of the whole machine; filters such as --netns leave some out. Of too many at once the first of each process and listener are described one by one; the rest is added up, each second, and is in these tables as sums.".to_owned(),
        "kernel agrees: tracer's counts of drops are those of the kernel's own counters (ListenOverflows, ListenDrops, TCPReqQFullDrop) in every network namespace. ±: so many were counted while they were being read.".to_owned(),
        "FAILED: failures since the start. /s: lately, over five seconds. LAST MINUTE: the highest bar is that row's own most. SEEN: how long ago the last one was. Rows are sorted by rate, then by number.".to_owned(),
        "CULPRIT: who has most of the ports, or does not accept; who it is, in the table, is who failed or whose queue it is.".to_owned(),
        "QUEUE: length and limit of the accept queue at the last drop. It is full at its limit + 1.".to_owned(),
        format!(
            "Each table has {} rows at most; the one not seen for longest makes room. Of one name {} processes have their own rows, the others share one.",
            rows::ROWS,
            rows::NAMESAKES
        ),
        "More: docs/watch.md".to_owned(),
    ];
    for text in texts {
        lines.extend(paragraph(
            &format!(" {text}"),
            width - 1,
            3,
            ratatui::style::Style::new(),
        ));
    }
    lines
}
