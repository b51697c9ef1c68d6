//! Plans as tables: over hand-made facts, and over the types of real kernels
//! (`cargo xtask btf` extracts them from Debian's images into target/btf; with
//! `TRACER_BTF_DIR` set, as `cargo xtask test` does, they must be there).

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::{terms::Group, *};
use crate::host::{btf::Function, facts::FUNCTIONS};
use tracer_common::Config;

fn taking(arguments: usize) -> Function {
    Function {
        arguments,
        type_id: 1,
    }
}

/// Facts of a kernel that has everything, with the argument counts of most.
fn facts() -> Facts {
    let arguments = |name| match name {
        "__inet_bind"
        | "__inet6_bind"
        | "__inet_hash_connect"
        | "__sys_connect_file"
        | "tcp_conn_request" => 4,
        "inet_hash_connect" | "inet6_hash_connect" | "inet_csk_accept" => 2,
        "tcp_v6_connect" | "tcp_openreq_init_rwin" => 3,
        "tcp_v4_syn_recv_sock" | "tcp_v6_syn_recv_sock" => 6,
        _ => 1,
    };
    let words = [0_u32; size_of::<Config>() / 4];
    Facts {
        config: Config {
            has_task_pt_regs: 1,
            ..zerocopy::transmute!(words)
        },
        functions: FUNCTIONS
            .iter()
            .map(|name| (*name, taking(arguments(*name))))
            .collect(),
        cgroup2: Some(PathBuf::from("/cgroup")),
    }
}

fn group(plan: &Plan, purpose: Purpose) -> &Group {
    let found = plan
        .groups
        .iter()
        .find(|group| group.purposes.contains(&purpose));
    found.unwrap_or_else(|| unreachable!("every purpose is planned for"))
}

fn tiers(plan: &Plan, purpose: Purpose) -> Vec<Tier> {
    group(plan, purpose)
        .candidates
        .iter()
        .map(|candidate| candidate.tier)
        .collect()
}

fn programs(plan: &Plan, purpose: Purpose, tier: Tier) -> Vec<&'static str> {
    let mut candidates = group(plan, purpose).candidates.iter();
    let candidate = candidates.find(|candidate| candidate.tier == tier);
    candidate
        .map(|c| c.attachments.iter().map(|a| a.program).collect())
        .unwrap_or_default()
}

const PURPOSES: [Purpose; 10] = [
    Purpose::Connect,
    Purpose::ConnectV6Source,
    Purpose::ConnectPolicy,
    Purpose::Bind,
    Purpose::Listen,
    Purpose::SynDrop,
    Purpose::AckDrop,
    Purpose::OverflowReset,
    Purpose::Listener,
    Purpose::Acceptor,
];

#[test]
fn every_purpose_tries_every_tier_best_first() {
    let plan = plan(&facts(), Choice::Auto);
    for purpose in PURPOSES {
        let expected = [Tier::Function, Tier::Kprobe, Tier::Portable];
        assert_eq!(tiers(&plan, purpose), expected, "{}", purpose.name());
    }
    assert_eq!(plan.missing_members, [""; 0]);
}

#[test]
fn closers_are_seen_by_a_tracepoint_in_every_tier() {
    for choice in [
        Choice::Auto,
        Choice::Function,
        Choice::Kprobe,
        Choice::Portable,
    ] {
        let plan = plan(&facts(), choice);
        let programs = programs(&plan, Purpose::Closer, Tier::Portable);
        assert_eq!(programs, ["raw_tp_closer"]);
        let without = plan.without(Purpose::Closer);
        let is_closer = |group: &Group| group.purposes.contains(&Purpose::Closer);
        assert!(!without.groups.iter().any(is_closer));
    }
}

#[test]
fn a_forced_tier_is_the_only_one() {
    let choices = [
        (Choice::Function, Tier::Function),
        (Choice::Kprobe, Tier::Kprobe),
        (Choice::Portable, Tier::Portable),
    ];
    for (choice, tier) in choices {
        let plan = plan(&facts(), choice);
        for purpose in PURPOSES {
            assert_eq!(tiers(&plan, purpose), [tier], "{} {tier:?}", purpose.name());
        }
    }
}

/// A change of facts, the purpose it touches, and the tiers that are left.
type Row = (&'static str, fn(&mut Facts), Purpose, &'static [Tier]);

#[test]
fn what_each_missing_fact_costs() {
    use Tier::{Function, Kprobe, Portable};
    let table: &[Row] = &[
        (
            "IPv6 is a module or absent",
            |f| {
                f.functions.remove("inet6_hash_connect");
            },
            Purpose::Connect,
            &[Kprobe, Portable],
        ),
        (
            "another prototype",
            |f| {
                f.functions.insert("inet_hash_connect", taking(3));
            },
            Purpose::Connect,
            &[Kprobe, Portable],
        ),
        (
            "the final-ACK functions with a seventh argument",
            |f| {
                f.functions.insert("tcp_v4_syn_recv_sock", taking(7));
            },
            Purpose::AckDrop,
            &[Function, Kprobe, Portable],
        ),
        (
            "no cgroup2",
            |f| f.cgroup2 = None,
            Purpose::SynDrop,
            &[Function, Kprobe],
        ),
        (
            "no cgroup2 does not touch connect",
            |f| f.cgroup2 = None,
            Purpose::Connect,
            &[Function, Kprobe, Portable],
        ),
        (
            "listen start with two arguments",
            |f| {
                f.functions.insert("inet_csk_listen_start", taking(2));
            },
            Purpose::Listen,
            &[Function, Kprobe, Portable],
        ),
    ];
    for (what, change, purpose, expected) in table {
        let mut facts = facts();
        change(&mut facts);
        let plan = plan(&facts, Choice::Auto);
        assert_eq!(tiers(&plan, *purpose), *expected, "{what}");
        let explained = expected.len() + group(&plan, *purpose).ruled_out.len();
        assert_eq!(
            explained, 3,
            "{what}: each tier is offered or ruled out with a reason"
        );
    }
}

#[test]
fn listen_start_is_hooked_by_its_argument_count() {
    for (arguments, program) in [(1, "fexit_listen_start_1"), (2, "fexit_listen_start_2")] {
        let mut facts = facts();
        facts
            .functions
            .insert("inet_csk_listen_start", taking(arguments));
        let plan = plan(&facts, Choice::Auto);
        for purpose in [Purpose::Listen, Purpose::Listener] {
            assert_eq!(programs(&plan, purpose, Tier::Function), [program]);
        }
    }
}

#[test]
fn arguments_are_kept_at_entry_only_where_the_return_cannot_see_them() {
    let mut facts = facts();
    let at_return = plan(&facts, Choice::Portable);
    assert_eq!(
        programs(&at_return, Purpose::Bind, Tier::Portable),
        ["tp_exit_bind"]
    );
    facts.config.has_task_pt_regs = 0;
    let at_entry = plan(&facts, Choice::Portable);
    assert_eq!(
        programs(&at_entry, Purpose::Bind, Tier::Portable),
        ["tp_enter_bind", "tp_exit_bind"]
    );
}

#[test]
fn missing_members_are_named() {
    let mut facts = facts();
    facts.config.sk_num = ABSENT;
    facts.config.net_inum = ABSENT;
    let plan = plan(&facts, Choice::Auto);
    assert_eq!(plan.missing_members, ["sock_common.skc_num", "net.ns.inum"]);
}

#[test]
fn every_program_of_every_plan_is_in_the_object() {
    // Names in an ELF string table end with NUL.
    let object = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/tracer.bpf.o"));
    let object = object.unwrap_or_default();
    let mut facts = facts();
    for (has_task_pt_regs, listen_arguments) in [(0, 1), (1, 2)] {
        facts.config.has_task_pt_regs = has_task_pt_regs;
        facts
            .functions
            .insert("inet_csk_listen_start", taking(listen_arguments));
        let plan = plan(&facts, Choice::Auto);
        let candidates = plan.groups.iter().flat_map(|group| &group.candidates);
        for attachment in candidates.flat_map(|candidate| &candidate.attachments) {
            let name = format!("\0{}\0", attachment.program);
            let is_there = object
                .windows(name.len())
                .any(|window| window == name.as_bytes());
            assert!(is_there, "{}", attachment.program);
        }
    }
}

/// Types of real kernels: series and facts.
fn real_kernels() -> BTreeMap<String, (String, Facts)> {
    let required = std::env::var_os("TRACER_BTF_DIR").map(PathBuf::from);
    let usual = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/btf"));
    let directory = required.clone().unwrap_or(usual);
    let mut kernels = BTreeMap::new();
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(series) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".btf"))
        else {
            continue;
        };
        let release = fs::read_to_string(path.with_extension("release"));
        // `with_extension` takes 5.10.btf to 5.10.release.
        let release = release.unwrap_or_default().trim().to_owned();
        let bytes = fs::read(&path).unwrap_or_default();
        let facts = Facts::from_btf(&bytes).map_err(|error| format!("{series}: {error:#}"));
        match facts {
            Ok(facts) => drop(kernels.insert(series.to_owned(), (release, facts))),
            Err(why) => assert!(why.is_empty(), "{why}"),
        }
    }
    let enough = required.is_none() || kernels.len() >= 4;
    assert!(
        enough,
        "only {:?} in {}",
        kernels.keys(),
        directory.display()
    );
    kernels
}

#[test]
fn real_kernels_have_every_member_and_every_function() {
    for (series, (_, facts)) in real_kernels() {
        let mut known = facts.config;
        // No type tells it.
        assert_eq!(known.hz, ABSENT);
        known.hz = 0;
        // What 5.10 does not have, or not from the start.
        if series == "5.10" {
            for absent in [&mut known.inet_local_port_range, &mut known.net_cookie] {
                assert_eq!(*absent, ABSENT);
                *absent = 0;
            }
        }
        let config = zerocopy::IntoBytes::as_bytes(&known);
        let absent = config
            .chunks(4)
            .position(|word| word == ABSENT.to_ne_bytes());
        assert_eq!(absent, None, "{series}: word of Config without an offset");
        let helpers = ["bpf_get_current_task_btf", "bpf_task_pt_regs"];
        for function in FUNCTIONS.iter().filter(|name| !helpers.contains(name)) {
            assert!(
                facts.functions.contains_key(function),
                "{series}: {function}"
            );
        }
    }
}

#[test]
fn real_kernels_are_offered_function_hooks_for_everything() {
    for (series, (_, facts)) in real_kernels() {
        let facts = Facts {
            cgroup2: Some(PathBuf::from("/cgroup")),
            ..facts
        };
        let plan = plan(&facts, Choice::Auto);
        for purpose in PURPOSES {
            let expected = [Tier::Function, Tier::Kprobe, Tier::Portable];
            assert_eq!(
                tiers(&plan, purpose),
                expected,
                "{series}: {}",
                purpose.name()
            );
        }
    }
}

/// Offsets that were read from these very images independently of this code:
/// release, then `sk_ack_backlog`, `sk_socket`, `net.ns.inum`, request queue
/// length, and how far behind `sysctl_tcp_syncookies` come
/// `sysctl_tcp_abort_on_overflow` and `sysctl_max_syn_backlog`.
const KNOWN: [(&str, [u32; 6]); 4] = [
    ("5.10.223-", [576, 640, 136, 980, 31, 301]),
    ("6.1.192-", [552, 624, 144, 1004, 31, 125]),
    ("6.18.15-", [608, 288, 176, 1024, 35, 97]),
    ("7.2.13-", [616, 288, 280, 1056, 35, 97]),
];

#[test]
fn offsets_are_those_that_were_read_independently() {
    for (release, facts) in real_kernels().into_values() {
        let known = KNOWN.iter().find(|(prefix, _)| release.starts_with(prefix));
        let Some((_, expected)) = known else { continue };
        let c = facts.config;
        let found = [
            c.sk_ack_backlog,
            c.sk_socket,
            c.net_inum,
            c.icsk_qlen,
            c.net_abort_on_overflow.wrapping_sub(c.net_syncookies),
            c.net_max_syn_backlog.wrapping_sub(c.net_syncookies),
        ];
        assert_eq!(found, *expected, "{release}");
    }
}
