//! Was what tracer told about a failure right? Pure.

use tracer_common::{Cause, Kind};

use super::{
    actor::Who,
    stage::{Evidence, Scene},
    watcher::Heard,
};
use crate::{
    attribute::namespaces::Netstat,
    explain::finding::{Census, Owner, PortState},
    host::plan::{Exactness, Purpose},
    model::Failure,
    probe::Served,
    reconcile::Row as Compared,
};

/// What is known about a failure without tracer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) netns: u32,
    pub(super) blamed: Who,
    pub(super) evidence: Evidence,
    /// The namespace's own counters, when all was over.
    pub(super) counters: Netstat,
    pub(super) ports: Option<(PortState, u32, Who)>,
}

impl Known {
    /// How often it failed.
    fn times(&self) -> u64 {
        match self.evidence {
            Evidence::Calls(times, _) => times,
            Evidence::Counters => self.counters.listen_drops,
        }
    }
}

/// What became of a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Played {
    Yes(Known),
    /// It cannot be provoked here.
    Unfit(String),
    /// It should have been.
    Failed(String),
}

/// The verdict on one failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// What is wrong, as sentences.
    Wrong(Vec<String>),
    /// It cannot be shown here, and why.
    NotShown(String),
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) cause: Cause,
    pub(super) is_about_closers: bool,
    pub(super) known: Option<Known>,
    /// How often it failed; of closers: how many ports are to be explained.
    pub(super) provoked: u64,
    /// How often tracer counted it; of closers: ports it explained.
    pub(super) counted: u64,
    /// How often tracer described it.
    pub(super) described: u64,
    /// Whom tracer named; of several the first that is wrong.
    pub(super) named: Option<Who>,
    pub(super) tier: &'static str,
    pub(super) exactness: &'static str,
    pub(super) verdict: Verdict,
}

impl Row {
    /// Right, but for a count that the hook only comes near to.
    pub(super) fn is_near_miss(&self) -> bool {
        self.verdict == Verdict::Right && self.counted != self.provoked
    }
}

/// Judges one scene.
pub(super) fn judge(scene: &Scene, played: Played, served: &[Served], heard: &Heard) -> Row {
    let hook = served.iter().find(|one| one.purpose == purpose(scene));
    let by = hook.and_then(|hook| hook.by.as_ref());
    let mut row = Row {
        kind: scene.kind,
        cause: scene.cause,
        is_about_closers: scene.is_about_closers,
        known: None,
        provoked: 0,
        counted: 0,
        described: 0,
        named: None,
        tier: by.map_or("none", |by| by.tier.name()),
        exactness: by.map_or("none", |by| by.exactness.name()),
        verdict: Verdict::Right,
    };
    let known = match played {
        Played::Yes(known) => known,
        Played::Unfit(why) => {
            row.verdict = Verdict::NotShown(why);
            return row;
        }
        Played::Failed(why) => {
            row.verdict = Verdict::Wrong(vec![format!("it could not be provoked: {why}")]);
            return row;
        }
    };
    row.provoked = known.times();
    let Some(by) = by else {
        let reason = hook.and_then(|hook| hook.reason.as_deref());
        let reason = reason.unwrap_or("no hook for it in this tier");
        row.verdict = Verdict::NotShown(format!("{} ({reason})", purpose(scene).loss()));
        row.known = Some(known);
        return row;
    };
    let mut wrong = Vec::new();
    if scene.is_about_closers {
        census(&mut row, &known, heard, &mut wrong);
    } else {
        evidence(scene, &known, &mut wrong);
        counted(&mut row, &known, by.exactness, heard, &mut wrong);
        described(&mut row, &known, heard, &mut wrong);
        if let Some(ports) = &known.ports {
            explained(&known, ports, heard, &mut wrong);
        }
    }
    if !wrong.is_empty() {
        row.verdict = Verdict::Wrong(wrong);
    }
    row.known = Some(known);
    row
}

/// What has to be attached for it.
pub(super) fn purpose(scene: &Scene) -> Purpose {
    match (scene.kind, scene.cause) {
        _ if scene.is_about_closers => Purpose::Closer,
        (kind, cause) => Purpose::of(kind, cause),
    }
}

/// The counters that the kernel raises for so many failures.
fn raised(kind: Kind, cause: Cause, times: u64) -> Netstat {
    let if_cause = |wanted| if cause == wanted { times } else { 0 };
    match kind.is_drop() {
        true => Netstat {
            listen_overflows: if_cause(Cause::AcceptQueueFull),
            listen_drops: times,
            req_qfull_drop: if_cause(Cause::RequestQueueFull),
        },
        false => Netstat::default(),
    }
}

/// The provocation itself: did the kernel count what was meant?
fn evidence(scene: &Scene, known: &Known, wrong: &mut Vec<String>) {
    let meant = raised(scene.kind, scene.cause, known.times());
    if known.counters != meant {
        wrong.push(format!(
            "something else was provoked: the kernel counted {:?}",
            known.counters
        ));
    }
}

fn counted(
    row: &mut Row,
    known: &Known,
    exactness: Exactness,
    heard: &Heard,
    wrong: &mut Vec<String>,
) {
    let Some(totals) = &heard.totals else {
        wrong.push("tracer gave no totals".into());
        return;
    };
    for ((netns, kind, cause), count) in &totals.counts {
        if netns.inum != known.netns {
        } else if (*kind, *cause) == (row.kind, row.cause) {
            row.counted = *count;
        } else {
            let (kind, cause) = (kind.name(), cause.name());
            wrong.push(format!("tracer counted {count} {kind}, {cause}, too"));
        }
    }
    let (provoked, counted) = (row.provoked, row.counted);
    let sees_any = counted > 0 || provoked == 0;
    let bound = bound(exactness, provoked);
    if !sees_any || counted.abs_diff(provoked) > bound {
        let allowed = match exactness {
            Exactness::Exact => String::new(),
            Exactness::Near => {
                format!(" (a near hook must count at least 1, and be off by {bound} at most)")
            }
        };
        wrong.push(format!(
            "{provoked} happened, tracer counted {counted}{allowed}"
        ));
    }
    if row.kind.is_drop() {
        let compared = totals.rows.iter().find(|row| row.netns.inum == known.netns);
        kernel(compared, known, wrong);
    }
}

/// By how many the count of a hook may be off. One that only comes near: by a tenth, or by
/// one: with syncookies off, one drop too many is predicted the first time a request queue
/// stands at its limit.
fn bound(exactness: Exactness, provoked: u64) -> u64 {
    match exactness {
        Exactness::Exact => 0,
        Exactness::Near => (provoked / 10).max(1),
    }
}

/// The kernel's counters as tracer read them must be those that we read.
fn kernel(compared: Option<&Compared>, known: &Known, wrong: &mut Vec<String>) {
    let read = compared.and_then(|row| {
        Some(Netstat {
            listen_overflows: row.listen_overflows.kernel?,
            listen_drops: row.listen_drops.kernel?,
            req_qfull_drop: row.req_qfull_drop.kernel?,
        })
    });
    if read != Some(known.counters) {
        wrong.push(match read {
            None => "tracer did not read the kernel's counters".into(),
            Some(read) => format!(
                "tracer read other counters of the kernel: {read:?} instead of {:?}",
                known.counters
            ),
        });
    }
}

fn described(row: &mut Row, known: &Known, heard: &Heard, wrong: &mut Vec<String>) {
    let here = |failure: &&Failure| failure.netns == known.netns;
    for failure in heard.failures.iter().filter(here) {
        if (failure.kind, failure.cause) != (row.kind, row.cause) {
            // Told above.
            continue;
        }
        row.described += 1;
        let named = failure.process.as_ref().map(|(process, _)| Who {
            pid: process.pid,
            comm: String::from_utf8_lossy(&process.comm).into_owned(),
        });
        let was_right = row.named.as_ref().is_none_or(|who| *who == known.blamed);
        if row.described == 1 || was_right {
            row.named = named;
        }
        if let Evidence::Calls(_, errno) = known.evidence
            && failure.errno.and_then(crate::model::errno_name) != Some(errno)
        {
            wrong.push(format!("the caller saw {errno}, tracer another errno"));
        }
    }
    let lost = heard
        .totals
        .as_ref()
        .map_or(0, |totals| totals.health.lost());
    // What the host does meanwhile may fill the ring; counts stay exact.
    if row.described != row.counted && (lost == 0 || row.described > row.counted) {
        wrong.push(format!(
            "tracer counted {} and described {}",
            row.counted, row.described
        ));
    }
    if row.described > 0 && row.named.as_ref() != Some(&known.blamed) {
        wrong.push(match &row.named {
            None => format!("nobody was named instead of {}", shown(&known.blamed)),
            Some(named) => format!(
                "{} was named instead of {}",
                shown(named),
                shown(&known.blamed)
            ),
        });
    }
}

fn shown(who: &Who) -> String {
    format!("{}[{}]", who.comm, who.pid)
}

/// Who had the ports?
fn explained(known: &Known, ports: &(PortState, u32, Who), heard: &Heard, wrong: &mut Vec<String>) {
    match holder(known, ports, heard) {
        Ok(found) if found == ports.1 => {}
        Ok(found) => wrong.push(format!(
            "the census gives {} {found} ports instead of {} ({})",
            shown(&ports.2),
            ports.1,
            ports.0.name()
        )),
        Err(why) => wrong.push(why),
    }
}

/// The row about closers.
fn census(row: &mut Row, known: &Known, heard: &Heard, wrong: &mut Vec<String>) {
    let Some(ports) = &known.ports else { return };
    row.provoked = ports.1.into();
    explained(known, ports, heard, wrong);
    if let Ok(found) = holder(known, ports, heard) {
        row.counted = found.into();
        row.described = found.into();
        row.named = (found > 0).then(|| ports.2.clone());
    }
}

/// How many ports a census gives to whom it must give them.
fn holder(
    known: &Known,
    (state, _, who): &(PortState, u32, Who),
    heard: &Heard,
) -> Result<u32, String> {
    let census = heard.censuses.iter().find(|one| one.netns == known.netns);
    let Some(census) = census else {
        let why = heard
            .no_census
            .iter()
            .find(|(netns, _)| *netns == known.netns);
        return Err(match why {
            Some((_, why)) => format!("no census could be taken: {why}"),
            None => "no census was taken".into(),
        });
    };
    Ok(given(census, *state, who))
}

fn given(census: &Census, state: PortState, who: &Who) -> u32 {
    let parts = census.parts.iter().filter(|part| part.state == state);
    let programs = parts
        .flat_map(|part| &part.holders)
        .filter_map(|holder| match &holder.owner {
            Owner::Processes(program) if program.comm == who.comm.as_bytes() => Some(program),
            _ => None,
        });
    programs
        .flat_map(|program| &program.named)
        .filter(|(process, _)| process.pid == who.pid)
        .map(|(_, ports)| ports)
        .sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::{
        explain::finding::{Holder, Part, Program},
        host::plan::Tier,
        model::{Netns, Process, Role},
        probe::By,
        reconcile::Pair,
        record::Totals,
        replay::parse::{Parsed, parse},
        source::counters::Health,
    };

    const NETNS: u32 = 7;

    fn scene(kind: Kind, cause: Cause, is_about_closers: bool) -> Scene {
        Scene {
            kind,
            cause,
            is_about_closers,
            play: |_| Err(anyhow::anyhow!("not played")),
        }
    }

    fn who(pid: u32, comm: &str) -> Who {
        Who {
            pid,
            comm: comm.into(),
        }
    }

    fn served(purpose: Purpose, exactness: Option<Exactness>) -> Vec<Served> {
        vec![Served {
            purpose,
            by: exactness.map(|exactness| By {
                tier: Tier::Portable,
                targets: Vec::new(),
                exactness,
                note: None,
            }),
            reason: Some("kprobe: refused".into()),
        }]
    }

    fn failures(kind: Kind, cause: Cause, by: &Who, times: usize) -> Vec<Failure> {
        let process = Process {
            pid: by.pid,
            comm: by.comm.clone().into_bytes(),
            ..Process::default()
        };
        let failure = Failure {
            netns: NETNS,
            kind,
            cause,
            process: Some((process, Role::Caller)),
            ..Failure::example()
        };
        vec![failure; times]
    }

    fn totals(kind: Kind, cause: Cause, count: u64, kernel: Netstat) -> Totals {
        let pair = |kernel| Pair {
            tracer: 0,
            kernel: Some(kernel),
        };
        Totals {
            time: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            is_final: true,
            health: Health::default(),
            filtered_in_kernel: 0,
            malformed: 0,
            counts: BTreeMap::from([
                ((Netns::of_inode(NETNS), kind, cause), count),
                // Of another namespace: nobody asks.
                ((Netns::of_inode(8), Kind::BindFailed, Cause::PortInUse), 99),
            ]),
            by: Vec::new(),
            rows: vec![Compared {
                netns: Netns::of_inode(NETNS),
                listen_overflows: pair(kernel.listen_overflows),
                listen_drops: pair(kernel.listen_drops),
                req_qfull_drop: pair(kernel.req_qfull_drop),
                unavailable: None,
                explanation: None,
            }],
            meanwhile: 0,
            missed: Vec::new(),
            netns_names: BTreeMap::new(),
        }
    }

    fn sentences(row: &Row) -> Vec<&str> {
        match &row.verdict {
            Verdict::Wrong(sentences) => sentences.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// A connect that failed three times, and what tracer made of it.
    fn connect(told: usize, counted: u64, by: &Who, exactness: Option<Exactness>) -> Row {
        connect_of(3, told, counted, by, exactness)
    }

    fn connect_of(
        times: u64,
        told: usize,
        counted: u64,
        by: &Who,
        exactness: Option<Exactness>,
    ) -> Row {
        let (kind, cause) = (Kind::ConnectFailed, Cause::PortsExhausted);
        let known = Known {
            netns: NETNS,
            blamed: who(1, "client"),
            evidence: Evidence::Calls(times, "EADDRNOTAVAIL"),
            counters: Netstat::default(),
            ports: None,
        };
        let heard = Heard {
            failures: failures(kind, cause, by, told),
            totals: Some(totals(kind, cause, counted, Netstat::default())),
            ..Heard::default()
        };
        let served = served(Purpose::Connect, exactness);
        judge(
            &scene(kind, cause, false),
            Played::Yes(known),
            &served,
            &heard,
        )
    }

    #[test]
    fn calls() {
        let right = who(1, "client");
        let exact = Some(Exactness::Exact);
        assert_eq!(connect(3, 3, &right, exact).verdict, Verdict::Right);
        let table = [
            (
                3,
                3,
                who(2, "client"),
                "client[2] was named instead of client[1]",
            ),
            (
                3,
                3,
                who(1, "other"),
                "other[1] was named instead of client[1]",
            ),
            (2, 2, right.clone(), "3 happened, tracer counted 2"),
            (4, 4, right.clone(), "3 happened, tracer counted 4"),
            (2, 3, right.clone(), "tracer counted 3 and described 2"),
        ];
        for (told, counted, by, why) in table {
            let row = connect(told, counted, &by, exact);
            assert_eq!(sentences(&row), [why]);
        }
        // A tenth, or one, is near; more is wrong, and so is nothing at all.
        let near = Some(Exactness::Near);
        for (times, counted, is_right) in [
            (1, 0, false),
            (1, 1, true),
            (1, 2, true),
            (1, 3, false),
            (3, 0, false),
            (3, 2, true),
            (3, 1, false),
            (20, 18, true),
            (20, 22, true),
            (20, 17, false),
            (20, 23, false),
            (20, 0, false),
        ] {
            let told = usize::try_from(counted).unwrap_or(usize::MAX);
            let row = connect_of(times, told, counted, &right, near);
            assert_eq!(row.verdict == Verdict::Right, is_right, "{times} {counted}");
        }
        let near = connect(4, 4, &right, Some(Exactness::Near));
        assert!(near.is_near_miss());
        let row = connect(5, 5, &right, Some(Exactness::Near));
        assert_eq!(sentences(&row).len(), 1);
        let none = connect(0, 0, &right, None);
        let why = "failed connects are not seen (kprobe: refused)";
        assert_eq!(none.verdict, Verdict::NotShown(why.into()));
    }

    #[test]
    fn what_was_not_provoked() {
        let scene = scene(Kind::BindFailed, Cause::PortInUse, false);
        let judge = |played| judge(&scene, played, &[], &Heard::default()).verdict;
        let unfit = judge(Played::Unfit("no IPv6".into()));
        assert_eq!(unfit, Verdict::NotShown("no IPv6".into()));
        let failed = judge(Played::Failed("no fork".into()));
        let why = "it could not be provoked: no fork";
        assert_eq!(failed, Verdict::Wrong(vec![why.into()]));
    }

    #[test]
    fn drops() {
        let (kind, cause) = (Kind::SynDropped, Cause::AcceptQueueFull);
        let drops = |overflows, drops| Netstat {
            listen_overflows: overflows,
            listen_drops: drops,
            req_qfull_drop: 0,
        };
        let judge = |ours: Netstat, theirs: Netstat| {
            let known = Known {
                netns: NETNS,
                blamed: who(1, "server"),
                evidence: Evidence::Counters,
                counters: ours,
                ports: None,
            };
            let heard = Heard {
                failures: failures(kind, cause, &known.blamed, 3),
                totals: Some(totals(kind, cause, 3, theirs)),
                ..Heard::default()
            };
            let served = served(Purpose::SynDrop, Some(Exactness::Exact));
            judge(
                &scene(kind, cause, false),
                Played::Yes(known),
                &served,
                &heard,
            )
        };
        assert_eq!(judge(drops(3, 3), drops(3, 3)).verdict, Verdict::Right);
        // Another kind of drop, other numbers, more drops.
        for (ours, theirs) in [
            (drops(0, 3), drops(0, 3)),
            (drops(3, 3), drops(2, 3)),
            (drops(4, 4), drops(4, 4)),
        ] {
            assert_eq!(
                sentences(&judge(ours, theirs)).len(),
                1,
                "{ours:?} {theirs:?}"
            );
        }
    }

    #[test]
    fn closers() {
        let record = json!({
            "v": 1, "type": "census", "time": "2026-11-21T03:00:00Z", "id": 1, "netns": NETNS,
            "kind": "connect_failed", "cause": "ports_exhausted", "protocol": "tcp",
            "source": null, "destination": null,
            "range": {"low": 1, "high": 4, "own": false, "reserved": 0, "usable": 4},
            "parts": [], "free": 0, "unexplained": 0,
            "bound_unused": {"method": "sock_diag", "reason": null},
            "sysctls": {}, "sockets": 4, "took_ms": 1, "advice": [],
        });
        let Ok(Parsed::Census(mut census)) = parse(&record) else {
            unreachable!("a census");
        };
        let closer = Process {
            pid: 5,
            comm: b"closer".to_vec(),
            ..Process::default()
        };
        let holder = Holder {
            owner: Owner::Processes(Program {
                comm: b"closer".to_vec(),
                count: 1,
                named: vec![(closer, 4)],
            }),
            ports: 4,
            sockets: 4,
        };
        census.parts = vec![Part {
            state: PortState::TimeWait,
            ports: 4,
            sockets: 4,
            holders: vec![holder],
        }];
        let judge = |census: Option<&Census>, pid| {
            let known = Known {
                netns: NETNS,
                blamed: who(1, "client"),
                evidence: Evidence::Calls(3, "EADDRNOTAVAIL"),
                counters: Netstat::default(),
                ports: Some((PortState::TimeWait, 4, who(pid, "closer"))),
            };
            let heard = Heard {
                censuses: census.into_iter().cloned().collect(),
                ..Heard::default()
            };
            let scene = scene(Kind::ConnectFailed, Cause::PortsExhausted, true);
            let served = served(Purpose::Closer, Some(Exactness::Exact));
            judge(&scene, Played::Yes(known), &served, &heard)
        };
        let row = judge(Some(&census), 5);
        assert_eq!((row.verdict, row.counted), (Verdict::Right, 4));
        let row = judge(Some(&census), 6);
        let why = "the census gives closer[6] 0 ports instead of 4 (time_wait)";
        assert_eq!(sentences(&row), [why]);
        assert_eq!(sentences(&judge(None, 5)), ["no census was taken"]);
    }
}
