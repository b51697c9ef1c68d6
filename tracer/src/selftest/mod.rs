//! `tracer selftest`: does tracer tell the truth on this machine?
//!
//! [`scenes`] says what is provoked and how; every scene is played by [`actor`]s, which
//! are processes of their own, on a [`stage`], which is a network namespace of its own.
//! [`watcher`] is an ordinary `tracer watch` beside them. [`judge`] (pure) sets what it
//! told beside what the callers saw and what the kernel counted; [`show`] writes that.
//! Nothing outside of these namespaces is changed, and they end with their actors.

pub(crate) mod actor;
mod judge;
mod scenes;
mod show;
mod stage;
mod watcher;

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow};
use rustix::thread::CapabilitySet as Set;

use crate::{cli, exit::Failed, host::reduce, startup::Startup};
use actor::Actor;
use judge::{Known, Played, Row, Verdict};
use scenes::SCENES;
use stage::{Ours, Scene, Stage, Told, Unfit};
use watcher::{Start, Watcher};

/// All that was found out.
struct Outcome {
    startup: Startup,
    rows: Vec<Row>,
}

impl Outcome {
    fn count(&self, is: fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| is(&row.verdict)).count()
    }

    fn right(&self) -> usize {
        self.count(|verdict| *verdict == Verdict::Right)
    }

    /// Right, but for a count that a hook only comes near to.
    fn near(&self) -> usize {
        self.rows.iter().filter(|row| row.is_near_miss()).count()
    }

    fn wrong(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Wrong(_)))
    }

    /// Something was shown, and nothing was wrong.
    fn is_good(&self) -> bool {
        self.right() > 0 && self.wrong() == 0
    }
}

/// Provokes failures and judges what tracer makes of them; returns the exit code.
///
/// # Errors
/// See [`Failed`].
pub(crate) fn run(arguments: &cli::Selftest) -> Result<u8, Failed> {
    let effective = reduce::effective();
    for (needed, name) in [
        (Set::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (Set::NET_ADMIN, "CAP_NET_ADMIN"),
    ] {
        if !effective.contains(needed) {
            return Err(Failed::NotPermitted(format!(
                "not permitted: {name} missing; selftest makes network namespaces: run it as root (sudo)"
            )));
        }
    }
    let ours = Ours::default();
    let mut watcher = match Watcher::start(arguments.hooks, &ours)? {
        Start::Ready(watcher) => watcher,
        // It has said why.
        Start::Refused(code) => return Ok(code),
    };
    let plays: Vec<Play> = SCENES.iter().map(|scene| play(scene, &ours)).collect();
    // All is over before tracer is asked.
    let (played, cast) = conclude(plays);
    let explained = explained(&played);
    watcher.hear(CENSUSES, |heard| {
        explained.iter().all(|netns| heard.has_census(*netns))
    });
    let startup = watcher.startup.clone();
    let heard = watcher.finish()?;
    // Until then their namespaces and their names had to be there.
    drop(cast);
    let rows = SCENES.iter().zip(played);
    let rows = rows.map(|(scene, played)| judge::judge(scene, played, &startup.served, &heard));
    let outcome = Outcome {
        rows: rows.collect(),
        startup,
    };
    show::show(arguments.format, &outcome)?;
    Ok(if outcome.is_good() { 0 } else { 1 })
}

/// Censuses are taken one after another, with a pause after each, and wait for what
/// the host asks for: so long at most.
const CENSUSES: Duration = Duration::from_secs(30);

/// The namespaces of which a census must come.
fn explained(played: &[Played]) -> Vec<u32> {
    let known = played.iter().filter_map(|played| match played {
        Played::Yes(known) => known.ports.as_ref().map(|_| known.netns),
        _ => None,
    });
    known.collect()
}

/// A scene that was played, with its stage.
type Play = Result<(Stage, Told)>;

/// Plays a scene on a thread that enters a new namespace and ends there.
fn play(scene: &Scene, ours: &Ours) -> Play {
    let thread = || {
        let mut stage = Stage::build(ours)?;
        let told = (scene.play)(&mut stage)?;
        Ok((stage, told))
    };
    thread::scope(|scope| scope.spawn(thread).join())
        .unwrap_or_else(|_| Err(anyhow!("the thread of a scene ended early")))
}

/// What is known of each scene, and who played.
fn conclude(plays: Vec<Play>) -> (Vec<Played>, Vec<Actor>) {
    let mut cast = Vec::new();
    let known = |(stage, told): (Stage, Told), cast: &mut Vec<Actor>| -> Result<Known> {
        let counters = stage.counters().context("at the end")?;
        cast.extend(told.cast);
        Ok(Known {
            netns: stage.netns,
            blamed: told.blamed,
            evidence: told.evidence,
            counters,
            ports: told.ports,
        })
    };
    let played = plays
        .into_iter()
        .map(|play| match play.and_then(|play| known(play, &mut cast)) {
            Ok(known) => Played::Yes(known),
            Err(error) => match error.downcast_ref::<Unfit>() {
                Some(Unfit(why)) => Played::Unfit(why.clone()),
                None => Played::Failed(format!("{error:#}")),
            },
        });
    (played.collect(), cast)
}
