//! Was what tracer told about a failure right? Pure.

use tracer_common::{Cause, Kind};

use super::{
    actor::Who,
    stage::{Evidence, Scene},
    watcher::Heard,
};
use crate::{
    attribute::namespaces::Netstat,
    explain::finding::{BoundUnused, Census, Owner, PortState},
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
        (Kind::ConnectFailed, Cause::NoSourceAddress) => Purpose::ConnectV6Source,
        (Kind::ConnectFailed, Cause::RefusedByPolicy) => Purpose::ConnectPolicy,
        (Kind::ConnectFailed, _) => Purpose::Connect,
        (Kind::BindFailed, _) => Purpose::Bind,
        (Kind::ListenFailed, _) => Purpose::Listen,
        (Kind::SynDropped, _) => Purpose::SynDrop,
        (Kind::AckDropped, _) => Purpose::AckDrop,
        (Kind::OverflowReset, _) => Purpose::OverflowReset,
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
        if *netns != known.netns {
        } else if (*kind, *cause) == (row.kind, row.cause) {
            row.counted = *count;
        } else {
            let (kind, cause) = (kind.name(), cause.name());
            wrong.push(format!("tracer counted {count} {kind}, {cause}, too"));
        }
    }
    let spare = match exactness {
        Exactness::Exact => 0,
        Exactness::Near => SPARE,
    };
    if row.counted.abs_diff(row.provoked) > spare {
        wrong.push(format!(
            "{} happened, tracer counted {}",
            row.provoked, row.counted
        ));
    }
    if row.kind.is_drop() {
        let compared = totals.rows.iter().find(|row| row.netns == known.netns);
        kernel(compared, known, wrong);
    }
}

/// A hook that only comes near may be off by so many: with syncookies off, one drop
/// too many is predicted the first time a request queue stands at its limit.
const SPARE: u64 = 1;

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
    (state, ports, who): &(PortState, u32, Who),
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
    if *state == PortState::BoundUnused && matches!(census.bound_unused, BoundUnused::Incomplete(_))
    {
        // The census says itself that it cannot know.
        return Ok(*ports);
    }
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
