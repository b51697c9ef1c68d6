//! Which programs, and which of their processes? A thousand short-lived
//! processes of one name are one program.

use super::{
    record::Who,
    tally::{Others, Tally},
};

/// Programs, and processes of each, that are kept.
const PROGRAMS: usize = 16;
const PIDS: usize = 8;

/// A program, known by its name only.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    pub(super) comm: String,
    pub(super) kernel: bool,
    /// Nobody knows who.
    pub(super) is_unknown: bool,
}

impl Program {
    pub(super) fn of(who: Option<&Who>) -> Self {
        match who {
            Some(who) => Self {
                comm: who.comm.clone(),
                kernel: who.kernel,
                is_unknown: false,
            },
            None => Self {
                is_unknown: true,
                ..Self::default()
            },
        }
    }
}

/// Processes of one program, by pid.
#[derive(Clone, Debug)]
pub(super) struct Pids(Tally<u32, ()>);

impl Default for Pids {
    fn default() -> Self {
        Self(Tally::new(PIDS))
    }
}

impl Pids {
    pub(super) fn add(&mut self, who: Option<&Who>, count: u64) {
        if let Some(who) = who {
            self.0.add(&who.pid, count);
        }
    }

    /// How many; a process that came back after it was let go of counts twice.
    pub(super) fn processes(&self) -> u64 {
        self.0.others(0).keys
    }

    /// Those that are known, and how many are not.
    pub(super) fn known(&self) -> (Vec<(u32, u64)>, Others) {
        let rows = self.0.by_weight();
        let known: Vec<_> = rows.iter().map(|(pid, row)| (**pid, row.count)).collect();
        let others = self.0.others(known.len());
        (known, others)
    }
}

/// Programs with their processes.
#[derive(Clone, Debug)]
pub(super) struct Crowd(pub(super) Tally<Program, Pids>);

impl Default for Crowd {
    fn default() -> Self {
        Self(Tally::new(PROGRAMS))
    }
}

impl Crowd {
    pub(super) fn add(&mut self, who: Option<&Who>, count: u64) {
        self.0.add(&Program::of(who), count).add(who, count);
    }
}
