//! What does a cgroup path say about whom a process belongs to?
//!
//! Runtimes name a container's cgroup after its id: `docker/ID`,
//! `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`,
//! `libpod-ID.scope`; systemd names units; a kubelet names pods. Nothing is asked
//! of a runtime, so this works where none answers. A path is what the process's
//! manager chose: nothing in it is trusted to be short or printable.

use std::borrow::Cow;

use crate::model::{Container, Place, Pod};

/// Longer paths are nobody's (`PATH_MAX`).
const LONGEST: usize = 4096;

/// Reads `/proc/PID/cgroup` (cgroups(7)): the hierarchy that says most, of several
/// the unified one. On hosts with both versions a runtime may have moved its
/// container in version 1 alone. `None`: there is nothing in it.
pub(crate) fn parse(text: &[u8]) -> Option<Place> {
    let text = String::from_utf8_lossy(text);
    // A carriage return may be part of a name; the end of a line cannot.
    let places = text.split('\n').filter_map(line);
    let best = places.max_by_key(|(is_unified, place)| {
        (
            place.container.is_some(),
            place.pod.is_some(),
            place.unit.is_some(),
            place.cgroup != "/",
            *is_unified,
        )
    });
    best.map(|(_, place)| place)
}

/// `hierarchy:controllers:path`; the unified hierarchy has number 0.
fn line(line: &str) -> Option<(bool, Place)> {
    let (number, rest) = line.split_once(':')?;
    let (_, path) = rest.split_once(':')?;
    // What the kernel adds for a cgroup that is gone while a zombie is in it.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let is_path = path.starts_with('/') && path.len() <= LONGEST;
    is_path.then(|| (number == "0", place(path)))
}

/// What a path says. Seen from within a cgroup namespace it may begin with `/..`.
fn place(path: &str) -> Place {
    let mut place = Place {
        cgroup: path.to_owned(),
        ..Place::default()
    };
    let mut parent = "";
    for whole in path.split('/').filter(|component| !component.is_empty()) {
        // `SLICE:RUNTIME:ID`: what a runtime that does not ask systemd makes of a
        // name that was meant for it.
        let (component, scope) = match whole.split_once(':') {
            Some((slice, scope)) if slice.ends_with(".slice") => {
                (slice, Some(scope.replacen(':', "-", 1)))
            }
            _ => (whole, None),
        };
        if let Some(uid) = pod_uid(component) {
            place.pod = Some(Pod {
                uid,
                name: None,
                namespace: None,
            });
        }
        let container = container(whole, parent).or_else(|| by_runtime(&scope?));
        if let Some(container) = container {
            // What is outside of a container is not the process's unit.
            place.container = Some(container);
            place.unit = None;
        } else if is_unit(component) {
            place.unit = Some(component.to_owned());
        }
        parent = component;
    }
    place
}

/// Scopes and directories by the word before the id. A helper of the runtime
/// (`crio-conmon-ID`, `libpod-conmon-ID`) is not in the container.
const RUNTIMES: &[(&str, &str)] = &[
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("containerd-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-", "podman"),
    // Under a systemd unit of the user's own (`--cgroups=split`).
    ("libpod-payload-", "podman"),
];

fn known(id: &str, runtime: Option<&'static str>) -> Option<Container> {
    Some(Container {
        id: id.to_owned(),
        runtime: runtime.map(Cow::Borrowed),
        name: None,
    })
}

/// The word before the id tells.
fn by_runtime(component: &str) -> Option<Container> {
    let word = component.strip_suffix(".scope").unwrap_or(component);
    RUNTIMES.iter().find_map(|(prefix, runtime)| {
        let id = word.strip_prefix(prefix).filter(|id| is_id(id))?;
        known(id, Some(runtime))
    })
}

fn container(component: &str, parent: &str) -> Option<Container> {
    let found = by_runtime(component);
    if found.is_some() {
        return found;
    }
    if let Some(name) = lxc(component, parent) {
        return known(name, Some("lxc"));
    }
    if let Some(name) = nspawn(component, parent) {
        return known(&name, Some("nspawn"));
    }
    let word = component.strip_suffix(".scope").unwrap_or(component);
    if is_id(word) {
        return known(word, (parent == "docker").then_some("docker"));
    }
    is_fargate(component, parent).then(|| known(component, None))?
}

/// `lxc.payload.NAME`, before LXC 4 `lxc.payload/NAME` and `lxc/NAME`. What looks
/// after a container is in `lxc.monitor`.
fn lxc<'a>(component: &'a str, parent: &str) -> Option<&'a str> {
    match component.strip_prefix("lxc.payload.") {
        Some(name) => Some(name),
        None => matches!(parent, "lxc" | "lxc.payload").then_some(component),
    }
    .filter(|name| !name.is_empty())
}

/// What systemd-machined knows, if it is not a virtual machine.
fn nspawn(component: &str, parent: &str) -> Option<String> {
    let strip = |prefix: &str, suffix: &str| {
        let name = component.strip_prefix(prefix)?.strip_suffix(suffix)?;
        // As systemd writes a hyphen that is no level (systemd.unit(5)).
        let name = name.replace("\\x2d", "-");
        (!name.is_empty() && !name.starts_with("qemu-")).then_some(name)
    };
    if parent != "machine.slice" {
        return None;
    }
    strip("systemd-nspawn@", ".service").or_else(|| strip("machine-", ".scope"))
}

/// ECS on Fargate: `TASK/TASK-NUMBER`, the task being 32 hexadecimal digits.
fn is_fargate(component: &str, parent: &str) -> bool {
    let number = component.strip_prefix(parent);
    let number = number.and_then(|rest| rest.strip_prefix('-'));
    is_hex(parent, 32) && number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn is_id(word: &str) -> bool {
    is_hex(word, 64)
}

fn is_hex(word: &str, length: usize) -> bool {
    word.len() == length && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `podUID` (cgroupfs) or `kubepods-besteffort-podU_I_D.slice` (systemd, which
/// takes a hyphen for a level), perhaps below a root of the kubelet's own
/// (`kubelet-kubepods-..`). A static pod's uid is a hash without hyphens.
fn pod_uid(component: &str) -> Option<String> {
    let uid = match component.strip_suffix(".slice") {
        Some(slice) if slice.contains("kubepods") => {
            let (_, uid) = slice.rsplit_once("-pod")?;
            uid.replace('_', "-")
        }
        Some(_) => return None,
        None => component.strip_prefix("pod")?.to_owned(),
    };
    let is_uid = (32..=36).contains(&uid.len())
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

/// Units that processes can be in (systemd.unit(5)).
fn is_unit(component: &str) -> bool {
    [".service", ".scope", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| component.len() > suffix.len() && component.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "6f1b5d2c-9a0e-4c7b-8d3f-2a1b0c9d8e7f";

    /// `(container, runtime, unit, pod)`.
    fn told(
        path: &str,
    ) -> (
        Option<String>,
        Option<Cow<'static, str>>,
        Option<String>,
        bool,
    ) {
        let place = place(path);
        let pod = place.pod.map(|pod| pod.uid);
        assert!(pod.as_ref().is_none_or(|uid| uid == UID), "{path}: {pod:?}");
        let has_pod = pod.is_some();
        match place.container {
            Some(container) => (Some(container.id), container.runtime, place.unit, has_pod),
            None => (None, None, place.unit, has_pod),
        }
    }

    #[test]
    fn who_is_where() {
        let slice_uid = UID.replace('-', "_");
        let kube = "/kubepods.slice/kubepods-burstable.slice";
        let pod = format!("{kube}/kubepods-burstable-pod{slice_uid}.slice");
        let ours = |id: &str| Some(id.to_owned());
        let containerd = |pod| (ours(ID), Some("containerd"), None, pod);
        for (path, expected) in [
            ("/".to_owned(), (None, None, None, false)),
            (
                "/system.slice/nginx.service".into(),
                (None, None, ours("nginx.service"), false),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope".into(),
                (None, None, ours("app-x.scope"), false),
            ),
            (
                "/user.slice/user-1000.slice".into(),
                (None, None, None, false),
            ),
            (
                format!("/docker/{ID}"),
                (ours(ID), Some("docker"), None, false),
            ),
            (
                format!("/system.slice/docker-{ID}.scope"),
                (ours(ID), Some("docker"), None, false),
            ),
            (
                format!("/system.slice/docker-{ID}.scope/system.slice/web.service"),
                (ours(ID), Some("docker"), ours("web.service"), false),
            ),
            (
                format!("{pod}/cri-containerd-{ID}.scope"),
                (ours(ID), Some("containerd"), None, true),
            ),
            (
                format!("{pod}/crio-{ID}.scope"),
                (ours(ID), Some("cri-o"), None, true),
            ),
            (
                format!("/kubepods/besteffort/pod{UID}/{ID}"),
                (ours(ID), None, None, true),
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"
                ),
                (ours(ID), Some("podman"), None, false),
            ),
            // The runtime's helper is not in the container.
            (
                format!("/machine.slice/libpod-conmon-{ID}.scope"),
                (
                    None,
                    None,
                    ours(&format!("libpod-conmon-{ID}.scope")),
                    false,
                ),
            ),
            (
                "/lxc.payload.web/system.slice/cron.service".into(),
                (ours("web"), Some("lxc"), ours("cron.service"), false),
            ),
            ("/lxc/web".into(), (ours("web"), Some("lxc"), None, false)),
            (
                "/lxc/a.slice:b:c".into(),
                (ours("a.slice:b:c"), Some("lxc"), None, false),
            ),
            (
                "/machine.slice/systemd-nspawn@web.service/payload".into(),
                (ours("web"), Some("nspawn"), None, false),
            ),
            (
                "/lxc.payload/web/ns".into(),
                (ours("web"), Some("lxc"), None, false),
            ),
            // Guaranteed: no class between.
            (
                format!("/kubepods.slice/kubepods-pod{slice_uid}.slice/cri-containerd-{ID}.scope"),
                containerd(true),
            ),
            (
                format!("/kubepods/pod{UID}/crio-{ID}"),
                (ours(ID), Some("cri-o"), None, true),
            ),
            // A kubelet with a root of its own, in a container (kind).
            (
                format!(
                    "/docker/{}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice_uid}.slice/cri-containerd-{ID}.scope",
                    ID.replace('0', "f")
                ),
                containerd(true),
            ),
            // The kubelet asks for systemd's names, the runtime does not.
            (
                format!(
                    "/system.slice/containerd.service/kubepods-besteffort-pod{slice_uid}.slice:cri-containerd:{ID}"
                ),
                containerd(true),
            ),
            (
                format!("/system.slice:docker:{ID}"),
                (ours(ID), Some("docker"), None, false),
            ),
            // From within another container's cgroup namespace.
            (
                format!("/../docker-{ID}.scope"),
                (ours(ID), Some("docker"), None, false),
            ),
            (format!("/../../{ID}"), (ours(ID), None, None, false)),
            (
                format!("/system.slice/web.service/libpod-payload-{ID}"),
                (ours(ID), Some("podman"), None, false),
            ),
            (
                format!("/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{ID}.scope/container"),
                (ours(ID), Some("podman"), None, false),
            ),
            (format!("/default/nerdctl-{ID}.scope"), containerd(false)),
            // ECS.
            (
                format!(
                    "/ecstasks.slice/ecstasks-{}.slice/docker-{ID}.scope",
                    &ID[..32]
                ),
                (ours(ID), Some("docker"), None, false),
            ),
            (
                format!("/ecs/{}/{ID}", &ID[..32]),
                (ours(ID), None, None, false),
            ),
            (
                format!("/ecs/{0}/{0}-3779599274", &ID[..32]),
                (
                    ours(&format!("{}-3779599274", &ID[..32])),
                    None,
                    None,
                    false,
                ),
            ),
            (
                r"/machine.slice/machine-my\x2dweb.scope/init.scope".into(),
                (ours("my-web"), Some("nspawn"), ours("init.scope"), false),
            ),
            // A virtual machine, and a user's own.
            (
                r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator".into(),
                (None, None, ours(r"machine-qemu\x2d1\x2dvm.scope"), false),
            ),
            (
                "/a/machine-x.scope".into(),
                (None, None, ours("machine-x.scope"), false),
            ),
            ("/lxc.monitor.web".into(), (None, None, None, false)),
            // Nearly.
            ("/a.slice:lxc.payload.b:c".into(), (None, None, None, false)),
            ("/a.service:b/c".into(), (None, None, None, false)),
            (format!("/docker/{}", &ID[1..]), (None, None, None, false)),
            ("/podium/.service".into(), (None, None, None, false)),
            (
                "/podbay-doors-are-closed-and-locked-now".into(),
                (None, None, None, false),
            ),
        ] {
            let (id, runtime, unit, has_pod) = expected;
            let expected = (id, runtime.map(Cow::Borrowed), unit, has_pod);
            assert_eq!(told(&path), expected, "{path}");
        }
    }

    #[test]
    fn the_hierarchy_that_says_something() {
        let cgroup = |text: &str| parse(text.as_bytes()).map(|place| place.cgroup);
        assert_eq!(cgroup("0::/a.service\n").as_deref(), Some("/a.service"));
        assert_eq!(
            cgroup("12:memory:/docker/x\n1:name=systemd:/docker/x\n0::/\n").as_deref(),
            Some("/docker/x")
        );
        // Docker with version 1, on a host that has both.
        let docker = format!("1:name=systemd:/docker/{ID}\n0::/system.slice/containerd.service\n");
        assert_eq!(cgroup(&docker), Some(format!("/docker/{ID}")));
        assert_eq!(cgroup("3:cpu:/\n0::/b\n").as_deref(), Some("/b"));
        assert_eq!(cgroup("3:cpu:/a\n0::/b\n").as_deref(), Some("/b"));
        assert_eq!(cgroup("0::/a\r\n").as_deref(), Some("/a\r"));
        assert_eq!(
            cgroup("0::/a.scope (deleted)\n").as_deref(),
            Some("/a.scope")
        );
        assert_eq!(cgroup("0::/with:colon\n").as_deref(), Some("/with:colon"));
        for nothing in ["", "x", "0:", "0::", "0::relative", ":::"] {
            assert_eq!(cgroup(nothing), None, "{nothing}");
        }
        assert_eq!(
            parse(b"0::/\xff/x.service")
                .and_then(|place| place.unit)
                .as_deref(),
            Some("x.service")
        );
    }
}
