//! Any bytes as /proc/PID/cgroup: what is told of a place is in its path, and no name
//! that somebody gave a cgroup of his own makes a container of nothing or hides one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::fuzz::place::{Place, place};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const LONGEST: usize = 4096;

/// Systemd's suffixes of what processes are in.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

fuzz_target!(|bytes: &[u8]| {
    if let Some(place) = place(bytes) {
        check(&place, &String::from_utf8_lossy(bytes));
    }
    // What the kernel lets somebody call a cgroup (cgroup_mkdir, NAME_MAX).
    let is_name = !bytes.is_empty() && bytes.len() <= 255 && !bytes.contains(&b'\n');
    if is_name && !bytes.contains(&b'/') && bytes != b"." && bytes != b".." {
        check_name(bytes);
    }
});

fn check(told: &Place, text: &str) {
    let Place { cgroup, .. } = told;
    assert!(
        cgroup.starts_with('/') && cgroup.len() <= LONGEST,
        "{told:?}"
    );
    assert!(text.contains(cgroup.as_str()), "{told:?}");
    let is_part = |word: &str| cgroup.split('/').any(|part| part == word);
    if let Some(unit) = &told.unit {
        assert!(
            UNITS.iter().any(|suffix| unit.ends_with(suffix)),
            "{told:?}"
        );
        // Or with what belongs to a runtime behind it.
        assert!(
            is_part(unit) || cgroup.contains(&format!("{unit}:")),
            "{told:?}"
        );
    }
    if let Some(pod) = &told.pod {
        let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        assert!(pod.bytes().all(is_digit), "{told:?}");
        assert!((32..=36).contains(&pod.len()), "{told:?}");
        assert!(cgroup.replace('_', "-").contains(pod.as_str()), "{told:?}");
    }
    if let Some(container) = &told.container {
        assert!(
            !container.is_empty() && !container.contains('/'),
            "{told:?}"
        );
        // Of systemd's with hyphens as it writes them.
        let plain = cgroup.replace("\\x2d", "-");
        let is_there = |path: &str| path.contains(container.as_str());
        assert!(is_there(cgroup) || is_there(&plain), "{told:?}");
    }
    assert!(
        told.runtime.is_none() || told.container.is_some(),
        "{told:?}"
    );
    // Read again it is the same, unless the kernel's own word is at its end.
    if !cgroup.ends_with(" (deleted)") {
        let again = place(format!("0::{cgroup}\n").as_bytes());
        assert_eq!(again.as_ref(), Some(told));
    }
    // A hierarchy that says nothing takes nothing away.
    for text in [
        format!("9:cpu:/\n0::{cgroup}\n"),
        format!("0::{cgroup}\n9:cpu:/\n"),
    ] {
        let more = place(text.as_bytes()).expect("there was a place");
        assert!(more.cgroup == *cgroup || cgroup.ends_with(" (deleted)"));
    }
}

fn check_name(name: &[u8]) {
    let text = String::from_utf8_lossy(name);
    let read = |path: &str| {
        let line = [b"0::", path.replace("NAME", "\0").as_bytes(), b"\n"].concat();
        let parts: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        place(&parts.join(name)).expect("it is a path")
    };
    // Around a container.
    let outside = read(&format!("/NAME/docker-{ID}.scope"));
    assert_eq!(outside.container.as_deref(), Some(ID));
    assert_eq!(outside.runtime.as_deref(), Some("docker"));
    assert_eq!(outside.unit, None);
    // In a user's own part of the hierarchy; " (deleted)" is the kernel's word.
    let own = read("/user.slice/user-1000.slice/user@1000.service/NAME/x");
    assert!(own.cgroup.contains(&*text), "{own:?}");
    // In a container it may claim to be another, but is never in none.
    let inside = read(&format!("/docker/{ID}/NAME"));
    let named = inside.container.expect("it is in a container");
    assert!(named == ID || text.contains(&named), "{named}");
}
