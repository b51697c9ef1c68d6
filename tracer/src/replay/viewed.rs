//! Records on a full screen: as they came, or all at once, and then to look at.

use std::{future::pending, time::Instant};

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio::time::sleep_until;

use super::Player;
use crate::{
    capture::files::{Captures, time},
    cli::{Format, Replay},
    output,
    view::{self, Scene, Wish},
};

/// Records between two looks at the keys.
const BATCH: usize = 512;

pub(super) fn is_wanted(arguments: &Replay) -> bool {
    arguments.format == Format::Text && !arguments.plain && view::is_possible()
}

pub(super) fn scene() -> Scene {
    Scene {
        capture: None,
        only: None,
        is_replay: true,
        zone: TimeZone::system(),
        has_colour: output::has_colour(),
    }
}

/// Shows all records, and stays until told to end.
///
/// # Errors
/// The records cannot be read, or the terminal cannot be taken.
pub(super) fn play(player: &mut Player, captures: &mut Captures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let played = runtime.block_on(async {
        // The first record is `startup`, which opens the view; what has none
        // is shown as well.
        let first = player.next(captures)?;
        if first
            .as_ref()
            .is_none_or(|record| record["type"] != "startup")
            && let Some(view) = player.output.view()
        {
            view.open()?;
        }
        watch(player, captures, first).await
    });
    player.output.leave()?;
    played
}

async fn watch(player: &mut Player, captures: &mut Captures, first: Option<Value>) -> Result<()> {
    let mut next = first;
    let mut due = Instant::now();
    let mut paused: Option<Instant> = None;
    loop {
        // A live view stays paused while watching goes on; a replay waits.
        let is_paused = player.output.view().is_some_and(|view| view.is_paused());
        if let (Some(since), false) = (paused, is_paused) {
            let pause = since.elapsed();
            if let Some(pace) = &mut player.pace {
                pace.stood(pause);
            }
            due += pause;
        }
        paused = is_paused.then(|| paused.unwrap_or_else(Instant::now));
        let goes_on = next.is_some() && !is_paused;
        tokio::select! {
            biased;
            event = player.output.view_event() => {
                let now = player.pace.as_ref().and_then(|pace| pace.now());
                let now = now.filter(|_| goes_on);
                let Some(view) = player.output.view() else {
                    return Ok(());
                };
                if let Some(now) = now {
                    view.tick(now);
                }
                if view.handle(event)? == Wish::Quit {
                    return Ok(());
                }
            }
            () = until(due, goes_on) => {
                for _ in 0..BATCH {
                    let Some(record) = next.take() else {
                        break;
                    };
                    show(player, &record)?;
                    next = player.next(captures)?;
                    let pause = next.as_ref().map(|record| player.pause(record));
                    if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
                        due = Instant::now().checked_add(pause).unwrap_or(due);
                        break;
                    }
                }
            }
        }
    }
}

/// Also the time that it was.
fn show(player: &mut Player, record: &Value) -> Result<()> {
    player.show(record)?;
    if let (Some(view), Some(at)) = (player.output.view(), time(record)) {
        view.tick(at);
    }
    Ok(())
}

async fn until(due: Instant, goes_on: bool) {
    match goes_on {
        true => sleep_until(due.into()).await,
        false => pending().await,
    }
}
