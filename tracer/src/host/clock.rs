//! Kernel events carry `CLOCK_BOOTTIME`; people read wall-clock time.

use jiff::{SignedDuration, Timestamp};

/// Nanoseconds of a clock; 0 if the kernel does not have it.
fn nanoseconds(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writing for the whole call.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}

/// Wall-clock time of a moment given in nanoseconds of `CLOCK_BOOTTIME`. The
/// two clocks are compared anew each time, so a stepped clock is followed.
pub(crate) fn wall_time(boottime_ns: u64) -> Timestamp {
    let offset = nanoseconds(libc::CLOCK_REALTIME) - nanoseconds(libc::CLOCK_BOOTTIME);
    let at = offset.saturating_add_unsigned(boottime_ns);
    Timestamp::UNIX_EPOCH
        .checked_add(SignedDuration::from_nanos(at))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Three clocks at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) realtime: i64,
    pub(crate) boottime: i64,
    pub(crate) monotonic: i64,
}

/// Reads them one after another, which takes less than a microsecond.
pub(crate) fn now() -> Clocks {
    Clocks {
        realtime: nanoseconds(libc::CLOCK_REALTIME),
        boottime: nanoseconds(libc::CLOCK_BOOTTIME),
        monotonic: nanoseconds(libc::CLOCK_MONOTONIC),
    }
}

/// How many clock ticks a second `/proc/PID/stat` counts in (sysconf(3)).
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks)
        .ok()
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100)
}
