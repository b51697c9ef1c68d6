//! Snapshots as tables for people. Pure.

use std::{collections::BTreeSet, fmt::Write};

use super::{name, placed};
use crate::{
    attribute::namespaces::Netstat,
    explain::{
        census::Account,
        finding::{BoundUnused, Holder, Owner, Part, PortState},
        owners::UNWATCHED,
    },
    model::Process,
    output::sanitize::printable,
    snapshot::{
        listeners::Listener,
        places::Place,
        ports::{Destination, Table},
    },
};

/// How many holders are shown in one line.
const HOLDERS: usize = 4;

pub(in crate::output) fn ports(tables: &[Table], bound_unused: &BoundUnused) -> String {
    let mut text = String::new();
    let (idle, busy): (Vec<_>, Vec<_>) = tables.iter().partition(|table| table.is_idle());
    for table in &busy {
        text.push_str(&namespace(table));
    }
    if let [first, ..] = &idle[..] {
        let range = first.tcp.range;
        let label = match idle.len() {
            1 => place(&first.place),
            count => format!("{count} network namespaces"),
        };
        // Writing to a String cannot fail, here and below.
        let _ = match idle.len() {
            1 => writeln!(
                text,
                "{label}: no port of {}-{} is taken",
                range.low, range.high
            ),
            _ => writeln!(text, "{label}: no port of the range is taken"),
        };
    }
    text.push_str(&footnotes(&busy, bound_unused));
    text
}

fn namespace(table: &Table) -> String {
    let range = table.tcp.range;
    let mut text = format!(
        "{}: ports {}-{}, {} usable",
        place(&table.place),
        range.low,
        range.high,
        range.usable
    );
    if range.reserved > 0 {
        let _ = write!(text, ", {} reserved", range.reserved);
    }
    text.push('\n');
    text.push_str(&account("TCP", &table.tcp));
    if let Some(udp) = table.udp.as_ref().filter(|udp| udp.used() > 0) {
        text.push_str(&account("UDP", udp));
    }
    if table.unavailable > 0 {
        let _ = writeln!(
            text,
            "   {} listened on, or bound and unused: taken from every destination below",
            table.unavailable
        );
    }
    if table.servers_time_wait > 0 {
        let _ = writeln!(
            text,
            "   {} TIME_WAIT sockets on listening ports use no ephemeral port",
            table.servers_time_wait
        );
    }
    if !table.destinations.is_empty() {
        let cells = [
            "USED",
            "FREE",
            "FULL",
            "SOURCE → DESTINATION",
            "STATES; WHO",
        ];
        text.push_str(&row(cells.map(str::to_owned)));
    }
    for destination in &table.destinations {
        text.push_str(&destination_row(destination, range.usable));
    }
    let others = table
        .destination_count
        .saturating_sub(table.destinations.len());
    if others > 0 {
        let _ = writeln!(text, "   {others} more destinations (--all)");
    }
    text
}

fn account(protocol: &str, account: &Account) -> String {
    let mut text = format!(
        "   {protocol}: {} used, {} free",
        account.used(),
        account.free
    );
    if !account.parts.is_empty() {
        let _ = write!(
            text,
            ": {}; {}",
            states(&account.parts),
            who(&account.holders)
        );
    }
    text.push('\n');
    text
}

fn destination_row(destination: &Destination, usable: u32) -> String {
    let full = u64::from(destination.used) * 100 / u64::from(usable.max(1));
    row([
        destination.used.to_string(),
        destination.free.to_string(),
        format!("{full}%"),
        format!("{} → {}", destination.source, destination.remote),
        format!(
            "{}; {}",
            states(&destination.parts),
            who(&destination.holders)
        ),
    ])
}

fn row([used, free, full, addresses, rest]: [String; 5]) -> String {
    format!("   {used:>6}  {free:>6}  {full:>4}  {addresses:<36}  {rest}\n")
}

/// `800 TIME_WAIT, 400 connected`
fn states(parts: &[Part]) -> String {
    let parts = parts.iter();
    let shown = parts.map(|part| format!("{} {}", part.ports, state(part.state)));
    shown.collect::<Vec<_>>().join(", ")
}

/// In a word; `findings` has room for more.
pub(crate) fn state(state: PortState) -> &'static str {
    match state {
        PortState::Established => "connected",
        PortState::CloseWait => "CLOSE_WAIT",
        PortState::SynSent => "SYN_SENT",
        PortState::SynRecv => "SYN_RECV",
        PortState::Closing => "closing",
        PortState::TimeWait => "TIME_WAIT",
        PortState::Listening => "listening",
        PortState::BoundUnused => "bound, unused",
        PortState::BoundElsewhere => "bound elsewhere",
    }
}

/// `nginx[7] 400, curl (20 processes) 600`
fn who(holders: &[Holder]) -> String {
    let shown = holders.iter().take(HOLDERS);
    let shown = shown.map(|holder| format!("{} {}", owner(&holder.owner), holder.ports));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    let others = holders.len().saturating_sub(HOLDERS);
    if others > 0 {
        let _ = write!(text, ", {others} more");
    }
    text
}

/// Why somebody is unknown is said below the table.
fn owner(owner: &Owner) -> String {
    match owner {
        Owner::Processes(program) => match (&program.named[..], program.count) {
            ([(process, _), ..], 1) => placed(process),
            (_, count) => format!("{} ({count} processes)", printable(&program.comm)),
        },
        Owner::Kernel => "the kernel".to_owned(),
        Owner::NotAccepted => "not accepted yet".to_owned(),
        Owner::BeforeTracer => "closed before tracer started".to_owned(),
        Owner::Unknown(_) => "unknown".to_owned(),
    }
}

fn footnotes(tables: &[&Table], bound_unused: &BoundUnused) -> String {
    let mut text = String::new();
    let accounts = || {
        tables
            .iter()
            .flat_map(|table| std::iter::once(&table.tcp).chain(&table.udp))
    };
    let holders = accounts().flat_map(|account| &account.holders);
    let reasons: BTreeSet<_> = holders
        .filter_map(|holder| match &holder.owner {
            Owner::Unknown(why) => Some(why.as_ref()),
            _ => None,
        })
        .collect();
    for why in reasons {
        let _ = match why {
            UNWATCHED => writeln!(
                text,
                "unknown: who closed TIME_WAIT sockets is known to `tracer watch` only"
            ),
            _ => writeln!(text, "unknown: {why}"),
        };
    }
    let has = |state| accounts().any(|one| one.parts.iter().any(|part| part.state == state));
    match bound_unused {
        BoundUnused::PidfdGetfd if has(PortState::BoundUnused) => text.push_str(
            "this kernel does not list bound, unused sockets: found by asking the sockets of every process\n",
        ),
        BoundUnused::SockDiag | BoundUnused::PidfdGetfd => {}
        BoundUnused::Incomplete(why) => {
            let _ = writeln!(text, "bound, unused sockets may be missing: {why}");
        }
    }
    text
}

pub(in crate::output) fn listeners(
    listeners: &[Listener],
    counters: &[(Place, Netstat)],
) -> String {
    if listeners.is_empty() {
        return "nobody listens\n".to_owned();
    }
    let headings = [
        "QUEUE",
        "FULL",
        "HALF-OPEN",
        "DROPS",
        "LISTENER",
        "HELD BY",
        "NETNS",
    ];
    let mut text = listener_row(headings.map(str::to_owned));
    for listener in listeners {
        text.push_str(&listener_row([
            format!("{}/{}", listener.len, known(listener.max)),
            format!("{}%", known(listener.fill_percent())),
            listener.towards.half_open.to_string(),
            drops(listener.drops),
            listener.local.to_string(),
            held_by(&listener.holders),
            bare_place(&listener.place),
        ]));
        let towards = listener.towards;
        if towards.given_up > 0 {
            let _ = writeln!(
                text,
                "         {} of {} that wait for accept() were closed by the peer",
                towards.given_up, towards.waiting
            );
        }
    }
    if listeners.iter().any(|one| one.drops.is_some_and(|n| n > 0)) {
        text.push_str(
            "DROPS is an upper limit: the kernel counts some segments twice there, and other things too\n",
        );
    }
    text.push_str(&counted(counters));
    text
}

fn listener_row(cells: [String; 7]) -> String {
    let [queue, full, half_open, drops, local, held_by, netns] = cells;
    format!(
        "{queue:>11}  {full:>4}  {half_open:>9}  {drops:>7}  {local:<28}  {held_by:<28}  {netns}\n"
    )
}

fn drops(drops: Option<u32>) -> String {
    match drops {
        Some(1..) => format!("≤ {}", known(drops)),
        _ => known(drops),
    }
}

fn known(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn held_by(holders: &[Process]) -> String {
    match holders {
        [] => "(nobody in sight)".to_owned(),
        [one] => name(one),
        [first, others @ ..] => format!("{} +{}", name(first), others.len()),
    }
}

/// The namespaces that have dropped something; what these counters tell is exact.
fn counted(counters: &[(Place, Netstat)]) -> String {
    let mut text = String::new();
    for (at, netstat) in counters {
        if *netstat != Netstat::default() {
            let _ = writeln!(
                text,
                "{}, since it was made: ListenOverflows {}, ListenDrops {}, TCPReqQFullDrop {}",
                place(at),
                netstat.listen_overflows,
                netstat.listen_drops,
                netstat.req_qfull_drop
            );
        }
    }
    text
}

fn place(place: &Place) -> String {
    format!("netns {}", bare_place(place))
}

fn bare_place(place: &Place) -> String {
    match &place.name {
        Some(name) => format!("{} ({})", place.netns, printable(name)),
        None => place.netns.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        explain::finding::{Program, Range},
        snapshot::listeners::Towards,
    };

    fn process(pid: u32, comm: &[u8]) -> Process {
        Process {
            pid,
            comm: comm.to_vec(),
            ..Process::default()
        }
    }

    fn holder(owner: Owner, ports: u32) -> Holder {
        Holder {
            owner,
            ports,
            sockets: ports,
        }
    }

    fn program(comm: &[u8], count: u32) -> Owner {
        Owner::Processes(Program {
            comm: comm.to_vec(),
            count,
            named: vec![(process(7, comm), 1)],
        })
    }

    fn part(state: PortState, ports: u32) -> Part {
        Part {
            state,
            ports,
            sockets: ports,
            holders: Vec::new(),
        }
    }

    fn exhausted() -> Option<Table> {
        let holders = vec![
            holder(Owner::Unknown(UNWATCHED.into()), 2),
            holder(program(b"\x1b[31mcurl", 20), 1),
            holder(program(b"api", 1), 1),
        ];
        let range = Range {
            low: 40000,
            high: 40004,
            is_own: false,
            reserved: 1,
            usable: 4,
        };
        let own = vec![
            part(PortState::TimeWait, 2),
            part(PortState::Established, 1),
        ];
        let mut parts = own.clone();
        parts.push(part(PortState::BoundUnused, 1));
        Some(Table {
            place: Place {
                netns: 7,
                name: Some(b"blue".to_vec()),
            },
            tcp: Account {
                range,
                parts,
                holders: holders.clone(),
                free: 0,
            },
            unavailable: 1,
            destinations: vec![Destination {
                source: "10.0.0.1".parse().ok()?,
                remote: "10.0.0.2:80".parse().ok()?,
                own: 3,
                used: 4,
                free: 0,
                parts: own,
                holders,
            }],
            destination_count: 3,
            servers_time_wait: 9,
            udp: None,
            sockets: 13,
        })
    }

    #[test]
    fn ports_are_told_in_lines() -> Result<(), &'static str> {
        let table = exhausted().ok_or("no table")?;
        let told = ports(&[table], &BoundUnused::PidfdGetfd);
        let who = "unknown 2, \\x1b[31mcurl (20 processes) 1, api[7] 1";
        let lines = [
            "netns 7 (blue): ports 40000-40004, 4 usable, 1 reserved",
            &format!("   TCP: 4 used, 0 free: 2 TIME_WAIT, 1 connected, 1 bound, unused; {who}"),
            "   1 listened on, or bound and unused: taken from every destination below",
            "   9 TIME_WAIT sockets on listening ports use no ephemeral port",
            "     USED    FREE  FULL  SOURCE → DESTINATION                  STATES; WHO",
            &format!(
                "        4       0  100%  10.0.0.1 → 10.0.0.2:80                2 TIME_WAIT, 1 connected; {who}"
            ),
            "   2 more destinations (--all)",
            "unknown: who closed TIME_WAIT sockets is known to `tracer watch` only",
            "this kernel does not list bound, unused sockets: found by asking the sockets of every process",
        ];
        assert_eq!(told.lines().collect::<Vec<_>>(), lines);
        Ok(())
    }

    #[test]
    fn idle_namespaces_are_one_line() -> Result<(), &'static str> {
        let mut idle = exhausted().ok_or("no table")?;
        idle.tcp.free = 4;
        idle.servers_time_wait = 0;
        let told = |tables: &[Table]| ports(tables, &BoundUnused::SockDiag);
        assert_eq!(
            told(&[idle.clone()]),
            "netns 7 (blue): no port of 40000-40004 is taken\n"
        );
        assert_eq!(
            told(&[idle.clone(), idle]),
            "2 network namespaces: no port of the range is taken\n"
        );
        assert_eq!(told(&[]), "");
        Ok(())
    }

    #[test]
    fn listeners_are_told_in_lines() -> Result<(), &'static str> {
        let full = Listener {
            place: Place {
                netns: 7,
                name: None,
            },
            local: "127.0.0.1:8080".parse().map_err(|_| "an address")?,
            is_ipv6: false,
            inode: 1,
            uid: 0,
            len: 3,
            max: Some(2),
            drops: Some(12),
            towards: Towards {
                half_open: 1,
                waiting: 3,
                given_up: 2,
                listeners: 1,
            },
            holders: vec![process(7, b"api"), process(8, b"api")],
        };
        let idle = Listener {
            len: 0,
            max: None,
            drops: None,
            towards: Towards::default(),
            holders: Vec::new(),
            ..full.clone()
        };
        let drops = Netstat {
            listen_drops: 6,
            listen_overflows: 6,
            req_qfull_drop: 0,
        };
        let counters = [
            (full.place.clone(), drops),
            (Place::default(), Netstat::default()),
        ];
        let told = listeners(&[full, idle], &counters);
        let lines = [
            "      QUEUE  FULL  HALF-OPEN    DROPS  LISTENER                      HELD BY                       NETNS",
            "        3/2  100%          1     ≤ 12  127.0.0.1:8080                api[7] +1                     7",
            "         2 of 3 that wait for accept() were closed by the peer",
            "        0/?    ?%          0        ?  127.0.0.1:8080                (nobody in sight)             7",
            "DROPS is an upper limit: the kernel counts some segments twice there, and other things too",
            "netns 7, since it was made: ListenOverflows 6, ListenDrops 6, TCPReqQFullDrop 0",
        ];
        assert_eq!(told.lines().collect::<Vec<_>>(), lines);
        assert_eq!(listeners(&[], &[]), "nobody listens\n");
        Ok(())
    }
}
