//! Kernel events carry `CLOCK_BOOTTIME`; people read wall-clock time.
//!
//! In a time namespace (time_namespaces(7)) this process sees clocks that are off by fixed
//! offsets, and the kernel side does not: times of the kernel are those of the initial one.

use std::{fs, io, sync::OnceLock};

use jiff::{SignedDuration, Timestamp};
use rustix::{
    param,
    time::{ClockId, clock_getres, clock_gettime},
};

/// Nanoseconds of a clock.
fn nanoseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}

/// How often a second the kernel counts `jiffies` on: its coarse clocks advance by
/// one such tick (`KTIME_LOW_RES`, include/linux/hrtimer.h).
pub(crate) fn ticks_a_second() -> Option<u32> {
    let tick = u64::try_from(clock_getres(ClockId::MonotonicCoarse).tv_nsec).ok()?;
    let half = tick / 2;
    u32::try_from((1_000_000_000 + half).checked_div(tick)?).ok()
}

/// Wall-clock time of a moment given in nanoseconds of `CLOCK_BOOTTIME`. The
/// two clocks are compared anew each time, so a stepped clock is followed.
pub(crate) fn wall_time(boottime_ns: u64) -> Timestamp {
    let boottime = nanoseconds(ClockId::Boottime).saturating_sub(offsets().boottime);
    let offset = nanoseconds(ClockId::Realtime).saturating_sub(boottime);
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

/// Reads them one after another, which takes less than a microsecond; as the kernel side
/// sees them.
pub(crate) fn now() -> Clocks {
    let offsets = offsets();
    Clocks {
        realtime: nanoseconds(ClockId::Realtime),
        boottime: nanoseconds(ClockId::Boottime).saturating_sub(offsets.boottime),
        monotonic: nanoseconds(ClockId::Monotonic).saturating_sub(offsets.monotonic),
    }
}

/// How far clocks of a time namespace are ahead of the initial one's, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) boottime: i64,
    pub(crate) monotonic: i64,
}

/// Those of this process, which stay the same for as long as it runs. What cannot be read
/// is zero; [`read_offsets`] says why.
pub(crate) fn offsets() -> Offsets {
    static OFFSETS: OnceLock<Offsets> = OnceLock::new();
    *OFFSETS.get_or_init(|| read_offsets().unwrap_or_default())
}

/// # Errors
/// /proc does not show them.
pub(crate) fn read_offsets() -> io::Result<Offsets> {
    match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) => parse(&text).ok_or_else(|| io::Error::other("timens_offsets is malformed")),
        // A kernel without time namespaces has only the initial one.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::exists("/proc/self/stat")? => {
            Ok(Offsets::default())
        }
        Err(error) => Err(error),
    }
}

/// A clock, seconds and nanoseconds in each line.
fn parse(text: &str) -> Option<Offsets> {
    let offset = |clock: &str| {
        let mut lines = text.lines().map(str::split_ascii_whitespace);
        let mut words =
            lines.find_map(|mut words| (words.next() == Some(clock)).then_some(words))?;
        let (seconds, nanoseconds): (i64, i64) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
    };
    Some(Offsets {
        boottime: offset("boottime")?,
        monotonic: offset("monotonic")?,
    })
}

/// How many clock ticks a second `/proc/PID/stat` counts in (sysconf(3)).
pub(crate) fn ticks_per_second() -> u64 {
    match param::clock_ticks_per_second() {
        0 => 100,
        ticks => ticks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_time_namespaces() {
        for (text, boottime, monotonic) in [
            (
                "monotonic           0         0\nboottime            0         0\n",
                0,
                0,
            ),
            (
                "monotonic  -1 500000000\nboottime 86400 7\n",
                86_400_000_000_007,
                -500_000_000,
            ),
        ] {
            let expected = Offsets {
                boottime,
                monotonic,
            };
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in ["", "boottime 1 2", "monotonic 1 2\nboottime x 2"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn this_process_knows_its_offsets() {
        assert!(read_offsets().is_ok());
        let clocks = now();
        let wall = wall_time(clocks.boottime.unsigned_abs());
        let off = wall.as_nanosecond() - i128::from(clocks.realtime);
        assert!(off.abs() < 1_000_000_000, "{off}");
    }
}
