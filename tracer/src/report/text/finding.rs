//! One finding: what failed, whose fault it is, what to do.

use super::{
    super::{
        analyse::{About, Analysis, CallKey, Calls, Finding, Listener},
        crowd::Crowd,
        record::{Advice, Census, Holder, Part, Queue},
    },
    Page, TIE, at_least, many, name, named, shown,
};
use crate::output::{sanitize::harmless, words};

/// How many names are shown in one line.
const NAMES: usize = 4;

pub(super) fn tell(page: &mut Page<'_>, number: usize, finding: &Finding<'_>, analysis: &Analysis) {
    let count = at_least(finding.count, finding.is_partial);
    let place = |boot, netns| match analysis.host(boot) {
        Some(host) => format!("netns{TIE}{netns} on {}", shown(host)),
        None => format!("netns{TIE}{netns}"),
    };
    match finding.about {
        About::Calls(key, calls) => {
            page.headline(number, &headline(key, calls));
            let (times, place) = (page.between(calls.times), place(key.boot, key.netns));
            page.indented(&format!("{count} failed, {times}, {place}"));
            failed_calls(page, key, calls);
        }
        About::Listener(key, listener) => {
            let (who, local) = (people(&listener.who, 1), shown(&key.local));
            let causes = causes(listener);
            page.headline(number, &format!("{who}, listening on {local}: {causes}"));
            let (times, place) = (page.between(listener.times), place(key.boot, key.netns));
            let segments = segments(listener);
            page.indented(&format!("{count} dropped ({segments}), {times}, {place}"));
            dropping(page, listener);
        }
    }
}

/// `nginx[637]: connect to 10.0.0.2:80: ports exhausted`
fn headline(key: &CallKey, calls: &Calls) -> String {
    format!("{}: {}", people(&calls.victims, 2), what_failed(key))
}

fn failed_calls(page: &mut Page<'_>, key: &CallKey, calls: &Calls) {
    let victims = calls.victims.0.by_weight();
    if victims.len() > 1 {
        let told: Vec<_> = victims
            .iter()
            .take(NAMES)
            .map(|(program, row)| {
                let count = at_least(row.count, row.is_partial);
                format!("{} {count}", named(program, &row.detail))
            })
            .collect();
        let others = calls.victims.0.others(NAMES);
        let others = match others.keys {
            0 => String::new(),
            _ => format!(", {} more {}", others.keys, others.count),
        };
        page.indented(&format!("of these {}{others}", told.join(", ")));
    }
    match &calls.worst {
        Some(census) => ports(page, census),
        None if words::is_about_ports(key.cause) => {
            page.indented("where the ports went is not in these files");
        }
        None => {}
    }
}

/// `connect() to 10.0.0.2:80 failed: ports exhausted`
pub(super) fn what_failed(key: &CallKey) -> String {
    let address = shown(&key.address);
    let call = match (key.kind, address.is_empty()) {
        (tracer_common::Kind::ConnectFailed, false) => format!("connect to {address}"),
        (tracer_common::Kind::BindFailed, false) => format!("bind to {address}"),
        (tracer_common::Kind::ListenFailed, false) => format!("listen on {address}"),
        (kind, _) => words::what(kind).to_owned(),
    };
    format!("{call}: {}", words::cause(key.cause))
}

fn ports(page: &mut Page<'_>, census: &Census) {
    let clock = page.moment(census.time);
    if let Some(why) = &census.unavailable {
        page.indented(&format!(
            "where the ports went is not known: {}",
            harmless(why)
        ));
        return;
    }
    let is_one_port = census.low == census.high;
    let mut text = match is_one_port {
        true => format!("who had port {} at {clock}:", census.low),
        false => {
            let own = if census.is_own {
                ", the socket's own range"
            } else {
                ""
            };
            let (low, high, usable) = (census.low, census.high, census.usable);
            let source = census
                .source
                .as_deref()
                .map(|source| format!(" of {}", shown(source)));
            let source = source.unwrap_or_default();
            format!("where the {usable} ports ({low}-{high}{own}){source} were at {clock}:")
        }
    };
    if census.parts.is_empty() {
        text.push_str(" all free by then");
    }
    page.indented(&text);
    for part in &census.parts {
        let state =
            words::state_named(&part.state).map_or_else(|| shown(&part.state), str::to_owned);
        page.row(&part.ports.to_string(), &state, &holders(part, is_one_port));
    }
    if census.unexplained > 0 {
        page.row(&census.unexplained.to_string(), "unexplained", "");
    } else if census.free > 0 && !is_one_port && !census.parts.is_empty() {
        page.row(&census.free.to_string(), "free by then", "");
    }
    if let Some(why) = &census.incomplete {
        page.indented(&format!(
            "bound, unused sockets may be missing: {}",
            harmless(why)
        ));
    }
    advice(page, &census.advice);
}

fn holders(part: &Part, is_one_port: bool) -> String {
    let several = part.holders.len() > 1 || part.more > 0;
    let mut items: Vec<String> = part
        .holders
        .iter()
        .map(|holder| match (is_one_port, several) {
            (true, _) if holder.sockets > 1 => {
                format!("{} {} sockets", owner(&part.state, holder), holder.sockets)
            }
            (false, true) => format!("{} {}", owner(&part.state, holder), holder.ports),
            _ => owner(&part.state, holder),
        })
        .collect();
    if part.more > 0 {
        items.push(format!("{} more", part.more));
    }
    items.join(", ")
}

fn owner(state: &str, holder: &Holder) -> String {
    let verb = match state {
        "time_wait" | "closing" => "closed by ",
        _ => "",
    };
    match (holder.owner.as_str(), &holder.processes[..]) {
        ("process", [one, ..]) if holder.process_count <= 1 => format!("{verb}{}", name(one)),
        ("process", _) => {
            let comm = shown(holder.comm.as_deref().unwrap_or("?"));
            format!("{verb}{comm} ({} processes)", holder.process_count)
        }
        ("kernel", _) => format!("{verb}the kernel"),
        ("not_accepted", _) => "not accepted yet".to_owned(),
        ("before_tracer", _) => "closed before tracer started".to_owned(),
        ("unknown", _) => {
            let why = holder
                .reason
                .as_deref()
                .map(|why| format!(" ({})", harmless(why)));
            format!("unknown{}", why.unwrap_or_default())
        }
        (other, _) => shown(other),
    }
}

/// Who has most of the ports, in a clause.
pub(super) fn culprit(calls: &Calls) -> Option<String> {
    let census = calls.worst.as_ref()?;
    let (part, holder) = census.culprit()?;
    let state = words::state_named(&part.state)?;
    let who = owner(&part.state, holder);
    Some(match census.low == census.high {
        true => format!("{state}, {who}"),
        false => format!("{} of {} ports {state}, {who}", holder.ports, census.usable),
    })
}

fn dropping(page: &mut Page<'_>, listener: &Listener) {
    let Some(spell) = listener.spell() else {
        page.indented("what they add up to is not in these files");
        return;
    };
    if listener.spells > 1 {
        let times = super::super::analyse::Times(Some((spell.since, spell.until)));
        page.indented(&format!(
            "in {} spells, the worst {} with {} dropped:",
            listener.spells,
            page.between(times),
            spell.drops
        ));
    }
    page.indented(&queue_line(spell));
    page.indented(&accepts(spell));
    if spell.holders.len() > 1 {
        let names: Vec<_> = spell.holders.iter().take(NAMES).map(name).collect();
        let more = spell.holders.len().saturating_sub(NAMES);
        let more = if more > 0 {
            format!(", {more} more")
        } else {
            String::new()
        };
        page.indented(&format!("held by {}{more}", names.join(", ")));
    }
    if listener.ghosts > 0 {
        page.indented(&ghosts(listener));
    }
    advice(page, &spell.advice);
}

/// Causes, the most frequent first.
pub(super) fn causes(listener: &Listener) -> String {
    let mut causes: Vec<_> = listener.causes.iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let names: Vec<_> = causes
        .iter()
        .map(|(cause, _)| words::cause(**cause))
        .collect();
    names.join(", ")
}

fn segments(listener: &Listener) -> String {
    let parts: Vec<_> = [
        (listener.syns, "SYN"),
        (listener.acks, "final ACK"),
        (listener.resets, "reset"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| many(*count, what))
    .collect();
    parts.join(", ")
}

fn queue_line(spell: &Queue) -> String {
    let or_unknown = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let mut text = format!(
        "{}{} hit; accept queue {}/{}",
        if spell.is_capped { "at least " } else { "" },
        many(spell.connections, "connection"),
        or_unknown(spell.len),
        or_unknown(spell.max)
    );
    let request = (spell.request_len, spell.request_max);
    if let (Some(len @ 1..), Some(max)) = request {
        text.push_str(&format!(", request queue {len}/{max}"));
    }
    if let (Some(asked), Some(somaxconn)) = (spell.asked, spell.somaxconn) {
        text.push_str(&format!(
            "; listen() asked for {asked}, somaxconn was {somaxconn}"
        ));
    }
    text
}

fn accepts(spell: &Queue) -> String {
    match (spell.accepts, spell.accepts_per_s, spell.arrivals_per_s) {
        (None, ..) => "who accepts was not seen".to_owned(),
        (Some(0), _, Some(arrived)) => {
            format!(
                "nothing was accepted, while {} a second came",
                rate(arrived)
            )
        }
        (Some(0), ..) => "nothing was accepted".to_owned(),
        (Some(accepts), Some(accepted), Some(arrived)) => {
            format!(
                "{accepts} accepted; at the end {} a second, while {} came",
                rate(accepted),
                rate(arrived)
            )
        }
        (Some(accepts), ..) => format!("{accepts} accepted"),
    }
}

/// A file may hold any number.
fn rate(per_second: f64) -> String {
    match per_second.abs() {
        0.0..1e9 => format!("{per_second:.1}"),
        _ => format!("{per_second:e}"),
    }
}

fn ghosts(listener: &Listener) -> String {
    let peers: Vec<_> = listener
        .ghost_peers
        .iter()
        .take(2)
        .map(|peer| shown(peer))
        .collect();
    let more = u64::try_from(peers.len()).unwrap_or(0);
    let more = listener.ghosts.saturating_sub(more);
    let more = if more > 0 {
        format!(", {more} more")
    } else {
        String::new()
    };
    format!(
        "{} believed to be connected, and the server did not know them: {}{more}",
        many(listener.ghosts, "client"),
        peers.join(", ")
    )
}

fn advice(page: &mut Page<'_>, advice: &[Advice]) {
    for advice in advice {
        let id = page.dim(&format!("[{}]", shown(&advice.id)));
        page.item("→", &format!("{} {id}", harmless(&advice.text)));
    }
}

/// The heaviest by name, the others as a number.
pub(super) fn people(crowd: &Crowd, most: usize) -> String {
    let rows = crowd.0.by_weight();
    let shown = rows.iter().take(most);
    let names: Vec<_> = shown
        .map(|(program, row)| named(program, &row.detail))
        .collect();
    match crowd.0.others(most).keys {
        0 => names.join(", "),
        others => format!("{} +{others}", names.join(", ")),
    }
}
