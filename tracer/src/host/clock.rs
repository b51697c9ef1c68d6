//! Kernel events carry `CLOCK_BOOTTIME`; people read wall-clock time.

use jiff::{SignedDuration, Timestamp};
use rustix::{
    param,
    time::{ClockId, clock_gettime},
};

/// Nanoseconds of a clock.
fn nanoseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}

/// Wall-clock time of a moment given in nanoseconds of `CLOCK_BOOTTIME`. The
/// two clocks are compared anew each time, so a stepped clock is followed.
pub(crate) fn wall_time(boottime_ns: u64) -> Timestamp {
    let offset = nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime);
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
        realtime: nanoseconds(ClockId::Realtime),
        boottime: nanoseconds(ClockId::Boottime),
        monotonic: nanoseconds(ClockId::Monotonic),
    }
}

/// How many clock ticks a second `/proc/PID/stat` counts in (sysconf(3)).
pub(crate) fn ticks_per_second() -> u64 {
    match param::clock_ticks_per_second() {
        0 => 100,
        ticks => ticks,
    }
}
