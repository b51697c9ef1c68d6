//! Facts → which programs to try for which purpose, in which order, and what
//! each choice costs. Pure: it probes nothing, so it is tested as a table over
//! the types of real kernels.
//!
//! Whether a kernel lets a program load and attach is only known by trying, so
//! a plan lists [`Candidate`]s, best first; the first whose programs all
//! attach wins (`probe/`).

mod hooks;
mod terms;

pub(crate) use terms::{
    Attachment, Candidate, Choice, Exactness, Group, Plan, Purpose, Target, Tier,
};

use super::facts::Facts;
use tracer_common::ABSENT;

/// Makes a plan.
pub(crate) fn plan(facts: &Facts, choice: Choice) -> Plan {
    Plan {
        groups: hooks::groups(facts, choice),
        missing_members: missing_members(facts),
    }
}

/// The members without which no event can be placed or described.
fn missing_members(facts: &Facts) -> Vec<&'static str> {
    let c = &facts.config;
    [
        ("sock_common.skc_num", c.sk_num),
        ("sock_common.skc_family", c.sk_family),
        ("sock_common.skc_net", c.sk_net),
        ("sock.sk_protocol", c.sk_protocol),
        ("sock.sk_ack_backlog", c.sk_ack_backlog),
        ("sock.sk_max_ack_backlog", c.sk_max_ack_backlog),
        ("net.ns.inum", c.net_inum),
    ]
    .into_iter()
    .filter_map(|(name, offset)| (offset == ABSENT).then_some(name))
    .collect()
}

#[cfg(test)]
mod tests;
