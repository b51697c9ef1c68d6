//! One scenario under way: its namespaces, its processes, what it expects.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Result, bail, ensure};

use crate::expect::{self, Expected, Times};
use crate::limits;
use crate::netns::Namespace;
use crate::role::Role;
use crate::tracer::Tracer;

/// A scenario by name; `needs` are purposes of the startup record.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [&'static str],
    /// What must happen before tracer starts.
    pub(crate) prepare: Option<fn(&mut Case) -> Result<()>>,
    pub(crate) run: fn(&mut Case) -> Result<()>,
}

/// One without a preparation.
pub(crate) const fn scenario(
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(&mut Case) -> Result<()>,
) -> Scenario {
    Scenario {
        name,
        needs,
        prepare: None,
        run,
    }
}

/// Why a scenario cannot run here: not a failure.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl Skip {
    pub(crate) fn because(reason: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(reason.into()))
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// A scenario under way.
pub(crate) struct Case {
    /// `None` with `--oracle-only`, and during a preparation.
    pub(crate) tracer: Option<Rc<Tracer>>,
    /// How to start another one: path and tier.
    pub(crate) another: (PathBuf, String),
    /// What the preparation left for the run.
    pub(crate) prepared: Option<(Rc<Namespace>, Rc<Role>)>,
    pub(crate) spaces: Vec<Rc<Namespace>>,
    pub(crate) expected: Vec<Expected>,
    roles: Vec<Rc<Role>>,
    witnesses: Vec<(u64, Role)>,
}

impl Case {
    pub(crate) fn new(another: (PathBuf, String)) -> Self {
        Self {
            tracer: None,
            another,
            prepared: None,
            spaces: Vec::new(),
            expected: Vec::new(),
            roles: Vec::new(),
            witnesses: Vec::new(),
        }
    }

    /// Keeps a process in `space` until the verdict: only then can tracer read the
    /// kernel's counters there at its end.
    pub(crate) fn watch(&mut self, space: &Namespace) -> Result<()> {
        self.witnesses
            .push((space.inum, Role::start(space, "witness")?));
        Ok(())
    }

    /// True when `watch` was called for it.
    pub(crate) fn is_watched(&self, space: &Namespace) -> bool {
        self.witnesses.iter().any(|(inum, _)| *inum == space.inum)
    }

    /// A namespace of its own, kept until the totals were compared.
    pub(crate) fn space(&mut self) -> Result<Rc<Namespace>> {
        let space = Rc::new(Namespace::new()?);
        self.spaces.push(Rc::clone(&space));
        Ok(space)
    }

    /// A process in `space`, ended with the scenario.
    pub(crate) fn role(&mut self, space: &Namespace, comm: &str) -> Result<Rc<Role>> {
        let role = Rc::new(Role::start(space, comm)?);
        self.roles.push(Rc::clone(&role));
        Ok(role)
    }

    /// A fork of `parent`, ended with the scenario.
    pub(crate) fn fork(&mut self, parent: &Role, comm: &str) -> Result<Rc<Role>> {
        let role = Rc::new(parent.fork(comm, None)?);
        self.roles.push(Rc::clone(&role));
        Ok(role)
    }

    /// Another process with the pid of `gone`, which has ended.
    pub(crate) fn impostor(&mut self, space: &Namespace, gone: &Role) -> Result<Rc<Role>> {
        let parent = self.role(space, "impostor-maker")?;
        let role = Rc::new(parent.fork("impostor", Some(gone.pid))?);
        ensure!(role.pid == gone.pid, "the pid was not used again");
        self.roles.push(Rc::clone(&role));
        Ok(role)
    }

    /// Skips what only an exact hook can see.
    pub(crate) fn needs_exact(&self, purpose: &str) -> Result<()> {
        match &self.tracer {
            Some(tracer) if tracer.hook(purpose).1 != "exact" => {
                bail!(Skip(format!("the hook for {purpose} is not exact")))
            }
            _ => Ok(()),
        }
    }

    /// Notes what must be seen and waits until it was.
    pub(crate) fn expect(&mut self, expected: Expected) -> Result<()> {
        if let Some(tracer) = &self.tracer {
            await_in(tracer, &expected)?;
        }
        self.expected.push(expected);
        Ok(())
    }

    /// Ends every process of the scenario: no traffic is left.
    pub(crate) fn end_traffic(&mut self) {
        self.prepared = None;
        for role in self.roles.drain(..) {
            role.kill();
        }
    }
}

/// Waits until `tracer` said what is expected.
pub(crate) fn await_in(tracer: &Tracer, expected: &Expected) -> Result<()> {
    let (Times::Exactly(wanted) | Times::AtLeast(wanted)) = expected.times;
    let enough = |events: &[_]| expect::matched(expected, events) >= wanted;
    if tracer.await_events(expected.netns, enough) {
        return Ok(());
    }
    limits::lose_patience();
    let events = tracer.events_in(expected.netns);
    bail!(
        "expected {wanted} {}/{}, got {}: {}",
        expected.kind,
        expected.cause,
        expect::matched(expected, &events),
        expect::explain(&[expected], &events)
    )
}
