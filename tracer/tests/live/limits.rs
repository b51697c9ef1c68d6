//! How long anything may take. Nothing here makes a test correct: every wait
//! ends at its event, these bounds only turn a hang into a failure.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::say;

/// True as the /init of a virtual machine, where emulation costs a factor of about 20.
pub(crate) fn in_guest() -> bool {
    std::process::id() == 1
}

/// For a reply of a child, a counter that must move.
pub(crate) fn event() -> Duration {
    Duration::from_secs(if in_guest() { 60 } else { 12 })
}

/// Waits until `reached`; fails when it never is.
pub(crate) fn until(what: &str, reached: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + event();
    while !reached()? {
        ensure!(Instant::now() < end, "never seen: {what}");
        std::thread::yield_now();
    }
    Ok(())
}

/// Whether `reached` becomes true before long; for what may also never happen.
pub(crate) fn soon(reached: impl Fn() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + event() / 12;
    loop {
        if reached()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::yield_now();
    }
}

/// How often tracer was waited for in vain.
static DISAPPOINTED: AtomicU32 = AtomicU32::new(0);

/// For an event of tracer. A tracer that tells nothing must not use up the time of
/// the whole run, so the bound shrinks with every event that never came.
pub(crate) fn told() -> Duration {
    event() / 2 / (1 << DISAPPOINTED.load(Ordering::Relaxed).min(3))
}

/// An event never came.
pub(crate) fn lose_patience() {
    DISAPPOINTED.fetch_add(1, Ordering::Relaxed);
}

/// A new tracer deserves new patience.
pub(crate) fn regain_patience() {
    DISAPPOINTED.store(0, Ordering::Relaxed);
}

/// For tracer's start (loading and attaching) and its end.
pub(crate) fn attach() -> Duration {
    Duration::from_secs(if in_guest() { 180 } else { 30 })
}

/// For everything.
fn whole_run() -> Duration {
    Duration::from_secs(if in_guest() { 1500 } else { 1200 })
}

/// What runs now, for the watchdog's message: tier and scenario.
static CURRENT: Mutex<(String, String)> = Mutex::new((String::new(), String::new()));

/// Tells the watchdog what runs now.
pub(crate) fn now_running(tier: &str, scenario: &str) {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    *current = (tier.to_owned(), scenario.to_owned());
}

/// Ends the whole run with a FAIL line when it takes too long.
pub(crate) fn start_watchdog() {
    std::thread::spawn(|| {
        std::thread::sleep(whole_run());
        let (tier, scenario) = CURRENT
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let seconds = whole_run().as_secs();
        say::line(&format!(
            "live {tier} {scenario} FAIL {seconds}.0s watchdog: the run did not end"
        ));
        say::line(&format!("live-summary {tier} passed=0 failed=1 skipped=0"));
        say::line("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        crate::guest::leave(1);
    });
}
