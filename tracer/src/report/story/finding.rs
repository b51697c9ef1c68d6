//! One finding: what failed, whose fault it is, what to do.

use super::{
    super::{
        analyse::{About, Analysis, CallKey, Calls, Finding, Listener, Times},
        clock::Clock,
        record::{Advice, Census, Holder, Part, Queue},
        words::{TIE, at_least, many, name, named, people, rate, shown},
    },
    Block, Ports, Share, Step, Told,
};
use crate::output::{sanitize::harmless, words};

/// How many names are shown in one line.
const NAMES: usize = 4;

pub(super) fn tell<'a>(finding: &Finding<'a>, analysis: &Analysis, clock: &Clock) -> Told<'a> {
    let count = at_least(finding.count, finding.is_partial);
    let place = |boot, netns| match analysis.host(boot) {
        Some(host) => format!("netns{TIE}{netns} on {}", shown(host)),
        None => format!("netns{TIE}{netns}"),
    };
    match finding.about {
        About::Calls(key, calls) => {
            let (times, place) = (clock.between(calls.times), place(key.boot, key.netns));
            Told {
                headline: format!("{}: {}", people(&calls.victims, 2), what_failed(key)),
                extent: format!("{count} failed, {times}, {place}"),
                culprit: culprit(calls),
                course: &calls.course,
                is_drops: false,
                blocks: failed_calls(key, calls, clock),
            }
        }
        About::Listener(key, listener) => {
            let (who, local) = (people(&listener.who, 1), shown(&key.local));
            let causes = causes(listener);
            let (times, place) = (clock.between(listener.times), place(key.boot, key.netns));
            let segments = segments(listener);
            Told {
                headline: format!("{who}, listening on {local}: {causes}"),
                extent: format!("{count} dropped ({segments}), {times}, {place}"),
                culprit: None,
                course: &listener.course,
                is_drops: true,
                blocks: dropping(listener, clock),
            }
        }
    }
}

fn failed_calls<'a>(key: &CallKey, calls: &Calls, clock: &Clock) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
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
        let told = told.join(", ");
        blocks.push(Block::Line(format!("of these {told}{others}")));
    }
    match &calls.worst {
        Some(census) => ports(&mut blocks, census, clock),
        None if words::is_about_ports(key.cause) => {
            let text = "where the ports went is not in these files";
            blocks.push(Block::Line(text.to_owned()));
        }
        None => {}
    }
    blocks
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

fn ports(blocks: &mut Vec<Block<'_>>, census: &Census, clock: &Clock) {
    let at = clock.moment(census.time);
    if let Some(why) = &census.unavailable {
        let why = harmless(why);
        blocks.push(Block::Line(format!(
            "where the ports went is not known: {why}"
        )));
        return;
    }
    let is_one_port = census.low == census.high;
    let mut heading = match is_one_port {
        true => format!("who had port {} at {at}:", census.low),
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
            format!("where the {usable} ports ({low}-{high}{own}){source} were at {at}:")
        }
    };
    if census.parts.is_empty() {
        heading.push_str(" all free by then");
    }
    let mut rows: Vec<_> = census
        .parts
        .iter()
        .map(|part| Share {
            ports: part.ports,
            what: state(part),
            holders: holders(part, is_one_port),
            is_free: false,
        })
        .collect();
    let rest = |ports, what: &str, is_free| Share {
        ports,
        what: what.to_owned(),
        holders: String::new(),
        is_free,
    };
    if census.unexplained > 0 {
        rows.push(rest(census.unexplained, "unexplained", false));
    } else if census.free > 0 && !is_one_port && !census.parts.is_empty() {
        rows.push(rest(census.free, "free by then", true));
    }
    blocks.push(Block::Ports(Ports { heading, rows }));
    if let Some(why) = &census.incomplete {
        let why = harmless(why);
        blocks.push(Block::Line(format!(
            "bound, unused sockets may be missing: {why}"
        )));
    }
    advice(blocks, &census.advice);
}

fn state(part: &Part) -> String {
    words::state_named(&part.state).map_or_else(|| shown(&part.state), str::to_owned)
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

fn dropping<'a>(listener: &'a Listener, clock: &Clock) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    let Some(spell) = listener.spell() else {
        let text = "what they add up to is not in these files";
        blocks.push(Block::Line(text.to_owned()));
        return blocks;
    };
    if listener.spells > 1 {
        let times = Times(Some((spell.since, spell.until)));
        blocks.push(Block::Line(format!(
            "in {} spells, the worst {} with {} dropped:",
            listener.spells,
            clock.between(times),
            spell.drops
        )));
    }
    let line = queue_line(spell);
    blocks.push(Block::Queue { line, spell });
    blocks.push(Block::Gist(accepts(spell)));
    if let Some(errno) = &spell.accept_errno {
        blocks.push(Block::Gist(format!(
            "accept() failed {} times, last with {}",
            spell.accept_failures,
            shown(errno)
        )));
    }
    if spell.holders.len() > 1 {
        let names: Vec<_> = spell.holders.iter().take(NAMES).map(name).collect();
        let more = spell.holders.len().saturating_sub(NAMES);
        let more = if more > 0 {
            format!(", {more} more")
        } else {
            String::new()
        };
        blocks.push(Block::Line(format!("held by {}{more}", names.join(", "))));
    }
    if listener.ghosts > 0 {
        blocks.push(Block::Line(ghosts(listener)));
    }
    advice(&mut blocks, &spell.advice);
    blocks
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

fn advice(blocks: &mut Vec<Block<'_>>, advice: &[Advice]) {
    let steps = advice.iter().map(|advice| Step {
        text: harmless(&advice.text),
        id: shown(&advice.id),
    });
    let steps: Vec<_> = steps.collect();
    if !steps.is_empty() {
        blocks.push(Block::Advice(steps));
    }
}
