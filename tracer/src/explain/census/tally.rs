//! Who has how many ports, program by program.

use std::{collections::HashMap, hash::Hash, rc::Rc};

use super::Who;
use crate::{
    explain::finding::{Holder, Owner, Part, PortState, Program},
    model::Process,
};

/// What holders are told apart by.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Program { comm: Vec<u8>, kernel: bool },
    NotAccepted,
    BeforeTracer,
    Unknown(&'static str),
}

#[derive(Default)]
struct Group {
    ports: u32,
    sockets: u32,
    processes: HashMap<*const Process, (Rc<Process>, u32)>,
}

/// Adds up one part.
#[derive(Default)]
pub(super) struct Tally {
    groups: HashMap<Key, Group>,
}

impl Tally {
    pub(super) fn add(&mut self, who: Who, ports: u32) {
        let (key, process) = match who {
            Who::Process(process) => {
                let key = Key::Program {
                    comm: process.comm.clone(),
                    kernel: process.kernel,
                };
                (key, Some(process))
            }
            Who::NotAccepted => (Key::NotAccepted, None),
            Who::BeforeTracer => (Key::BeforeTracer, None),
            Who::Unknown(why) => (Key::Unknown(why), None),
        };
        let group = self.groups.entry(key).or_default();
        group.ports += ports;
        group.sockets += 1;
        if let Some(process) = process {
            let entry = group.processes.entry(Rc::as_ptr(&process));
            entry.or_insert((process, 0)).1 += ports;
        }
    }

    pub(super) fn into_holders(self) -> Vec<Holder> {
        let mut holders: Vec<Holder> = self.groups.into_iter().map(holder).collect();
        holders.sort_by(|one, other| {
            (other.ports, other.sockets)
                .cmp(&(one.ports, one.sockets))
                .then_with(|| name(one).cmp(name(other)))
        });
        holders
    }

    pub(super) fn into_part(self, state: PortState) -> Part {
        let holders = self.into_holders();
        Part {
            state,
            ports: holders.iter().map(|holder| holder.ports).sum(),
            sockets: holders.iter().map(|holder| holder.sockets).sum(),
            holders,
        }
    }
}

fn name(holder: &Holder) -> &[u8] {
    match &holder.owner {
        Owner::Processes(program) => &program.comm,
        other => other.name().as_bytes(),
    }
}

fn holder((key, group): (Key, Group)) -> Holder {
    let owner = match key {
        Key::Program { kernel: true, .. } => Owner::Kernel,
        Key::Program { comm, .. } => Owner::Processes(program(comm, group.processes)),
        Key::NotAccepted => Owner::NotAccepted,
        Key::BeforeTracer => Owner::BeforeTracer,
        Key::Unknown(why) => Owner::Unknown(why.into()),
    };
    Holder {
        owner,
        ports: group.ports,
        sockets: group.sockets,
    }
}

fn program(comm: Vec<u8>, processes: HashMap<*const Process, (Rc<Process>, u32)>) -> Program {
    let mut named: Vec<_> = processes.into_values().collect();
    named.sort_by_key(|(process, ports)| (std::cmp::Reverse(*ports), process.pid));
    Program {
        comm,
        count: u32::try_from(named.len()).unwrap_or(u32::MAX),
        named: named
            .into_iter()
            .take(Program::NAMED)
            .map(|(process, ports)| (Process::clone(&process), ports))
            .collect(),
    }
}
