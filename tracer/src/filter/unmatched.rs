//! Finds what a filter asks for and nothing on this host is, as a warning. Pure.

use super::{Filter, Netns, Person, any, is_below, is_comm, is_unit};

/// What there is now.
#[derive(Debug, Default)]
pub(crate) struct Host<'a> {
    /// Network namespaces, with their names.
    pub(crate) netns: Vec<(u32, Option<&'a str>)>,
    pub(crate) processes: Vec<Person<'a>>,
}

impl Filter {
    /// Whether processes are asked for.
    pub(crate) fn is_about_processes(&self) -> bool {
        !self.is_about_nobody()
    }

    /// Whether it says whose failures are wanted, rather than what failed.
    pub(crate) fn says_whose(&self) -> bool {
        self.is_about_processes() || !self.netns.is_empty()
    }

    /// A sentence for each value that matches nothing now.
    pub(crate) fn unmatched(&self, host: &Host<'_>) -> Vec<String> {
        let mut said = Vec::new();
        let mut say = |flag: &str, value: &str, nothing: &str| {
            said.push(format!("--{flag} {value}: {nothing} now; waiting for one"));
        };
        for wanted in &self.netns {
            let is = |(netns, name): &(u32, Option<&str>)| match wanted {
                Netns::Number(number) => number == netns,
                Netns::Name(wanted) => *name == Some(wanted.as_str()),
            };
            if !host.netns.iter().any(is) {
                say("netns", &wanted.text(), "no such network namespace");
            }
        }
        let people = &host.processes;
        let has = |is: &dyn Fn(&Person<'_>) -> bool| people.iter().any(is);
        for pid in &self.pids {
            if !has(&|person| person.pid == *pid) {
                say("pid", &pid.to_string(), "no such process");
            }
        }
        for comm in &self.comms {
            if !has(&|person| is_comm(&person.comm, comm)) {
                say("comm", comm, "no process has this name");
            }
        }
        for uid in &self.uids {
            if !has(&|person| person.uid == Some(*uid)) {
                say("uid", &uid.to_string(), "no process of this user");
            }
        }
        for path in &self.cgroups {
            if !has(&|person| person.cgroup.is_some_and(|cgroup| is_below(cgroup, path))) {
                say("cgroup", path, "no process is in this cgroup");
            }
        }
        for container in &self.containers {
            if !has(&|person| person.is_in_container(container)) {
                say("container", container, "no process is in such a container");
            }
        }
        for unit in &self.units {
            if !has(&|person| person.unit.is_some_and(|it| is_unit(it, unit))) {
                say("unit", unit, "no process is in this unit");
            }
        }
        if said.is_empty() && !self.wants_anybody(people) {
            let flags = self.process_flags().join(" ");
            said.push(format!(
                "{flags}: no process meets all of these now; waiting for one"
            ));
        }
        said
    }

    /// The flags about processes, as they are typed.
    fn process_flags(&self) -> Vec<String> {
        const ABOUT: [&str; 6] = ["pid ", "comm ", "uid ", "cgroup ", "container ", "unit "];
        let words = self.words().into_iter();
        let ours = words.filter(|word| any(&ABOUT, |flag| word.starts_with(flag)));
        ours.map(|word| format!("--{word}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::typed, *};
    use crate::model::{Place, Process};

    #[test]
    fn what_matches_nothing_is_said() {
        let process = Process {
            pid: 7,
            comm: b"nginx".to_vec(),
            uid: Some(33),
            place: Some(
                Place {
                    cgroup: "/system.slice/nginx.service".into(),
                    unit: Some("nginx.service".into()),
                    ..Place::default()
                }
                .into(),
            ),
            ..Process::default()
        };
        let other = Process {
            pid: 8,
            comm: b"other".to_vec(),
            uid: Some(0),
            ..Process::default()
        };
        let host = Host {
            netns: vec![(5, Some("blue")), (6, None)],
            processes: vec![Person::from(&process), Person::from(&other)],
        };
        for (filter, expected) in [
            ("", &[][..]),
            ("--kind syn_dropped --port 1 --dst 10.0.0.1", &[]),
            ("--netns blue --netns 6 --pid 7 --comm nginx --uid 33", &[]),
            ("--cgroup /system.slice --unit nginx", &[]),
            (
                "--netns foo",
                &["--netns foo: no such network namespace now; waiting for one"],
            ),
            (
                "--netns blue --netns 9 --pid 9",
                &[
                    "--netns 9: no such network namespace now; waiting for one",
                    "--pid 9: no such process now; waiting for one",
                ],
            ),
            (
                "--comm x --uid 1 --cgroup /x --container x --unit x",
                &[
                    "--comm x: no process has this name now; waiting for one",
                    "--uid 1: no process of this user now; waiting for one",
                    "--cgroup /x: no process is in this cgroup now; waiting for one",
                    "--container x: no process is in such a container now; waiting for one",
                    "--unit x: no process is in this unit now; waiting for one",
                ],
            ),
            (
                "--comm nginx --uid 0",
                &["--comm nginx --uid 0: no process meets all of these now; waiting for one"],
            ),
        ] {
            let said = typed(filter).map(|filter| filter.unmatched(&host));
            let expected = expected.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(said, Some(expected), "{filter}");
        }
    }
}
