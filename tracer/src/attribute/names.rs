//! What do people call a container or a pod?
//!
//! Files that Docker and a kubelet leave tell: no runtime is asked, nothing is
//! required, and what cannot be read has no name. All of them are root's.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{forget::make_room, pace::Pace};
use crate::model::{Place, Pod};

/// Docker's containers, each with a directory named by its id.
const DOCKER: &str = "/var/lib/docker/containers";
/// The kubelet's links to logs: `POD_NAMESPACE_CONTAINER-ID.log`.
const CONTAINERS: &str = "/var/log/containers";
/// Its directories of logs: `NAMESPACE_POD_UID`.
const PODS: &str = "/var/log/pods";

/// Larger files are not what they seem.
const LARGEST: u64 = 1 << 20;
/// Entries of a directory that are looked at; a node has some hundred.
const ENTRIES: usize = 8192;
/// Names of containers that are remembered at most.
const REMEMBERED: usize = 4096;
/// After this long Docker is asked again: containers can be renamed.
const FRESH: Duration = Duration::from_secs(60);

/// Reads and remembers names.
pub(super) struct Names {
    docker: HashMap<String, (Option<String>, Instant)>,
    kubelet: Kubelet,
    pace: Pace,
}

/// What the kubelet's directories tell.
#[derive(Debug, Default)]
struct Kubelet {
    /// Name of a container, by its id.
    containers: HashMap<String, String>,
    /// Namespace and name of a pod, by its uid.
    pods: HashMap<String, (String, String)>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            docker: HashMap::new(),
            kubelet: Kubelet::default(),
            pace: Pace::new(),
        }
    }

    /// Adds the names that there are.
    pub(super) fn add(&mut self, place: &mut Place) {
        if place.pod.is_some() {
            self.kubernetes(place);
        } else if let Some(container) = &mut place.container {
            container.name = match container.runtime.as_deref() {
                Some("docker") | None => self.docker(&container.id),
                _ => None,
            };
        }
    }

    fn kubernetes(&mut self, place: &mut Place) {
        let knows = |kubelet: &Kubelet| {
            let has = |pod: &Pod| kubelet.pods.contains_key(&pod.uid);
            place.pod.as_ref().is_some_and(has)
                && (place.container.as_ref())
                    .is_none_or(|container| kubelet.containers.contains_key(&container.id))
        };
        if !knows(&self.kubelet) && self.pace.is_due() {
            let read = || Kubelet::read(Path::new(CONTAINERS), Path::new(PODS));
            self.kubelet = self.pace.measure(read);
        }
        if let Some(container) = &mut place.container {
            container.name = self.kubelet.containers.get(&container.id).cloned();
        }
        if let Some(pod) = &mut place.pod
            && let Some((namespace, name)) = self.kubelet.pods.get(&pod.uid)
        {
            pod.namespace = Some(namespace.clone());
            pod.name = Some(name.clone());
        }
    }

    fn docker(&mut self, id: &str) -> Option<String> {
        if let Some((name, read)) = self.docker.get(id)
            && read.elapsed() < FRESH
        {
            return name.clone();
        }
        make_room(&mut self.docker, REMEMBERED);
        let name = docker_name(Path::new(DOCKER), id);
        let entry = (name.clone(), Instant::now());
        self.docker.insert(id.to_owned(), entry);
        name
    }
}

/// The rest of the file is none of ours: it holds environments, too.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    name: String,
}

/// Reads `DIRECTORY/ID/config.v2.json`.
fn docker_name(directory: &Path, id: &str) -> Option<String> {
    if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    // Whatever stands there: nobody is waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(directory.join(id).join("config.v2.json"))
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    let config: Config = serde_json::from_slice(&text).ok()?;
    let name = config.name.strip_prefix('/').unwrap_or(&config.name);
    is_name(name).then(|| name.to_owned())
}

impl Kubelet {
    fn read(containers: &Path, pods: &Path) -> Self {
        Self {
            containers: entries(containers, container_link),
            pods: entries(pods, |name| {
                let (pod, uid) = name.rsplit_once('_')?;
                let (namespace, name) = pod.split_once('_')?;
                let is_good = is_name(namespace) && is_name(name);
                is_good.then(|| (uid.to_owned(), (namespace.to_owned(), name.to_owned())))
            }),
        }
    }
}

/// `POD_NAMESPACE_CONTAINER-ID.log`: the id, and the container's name.
fn container_link(link: &str) -> Option<(String, String)> {
    let (_, container) = link.strip_suffix(".log")?.rsplit_once('_')?;
    let (name, id) = container.rsplit_once('-')?;
    (is_name(name) && !id.is_empty()).then(|| (id.to_owned(), name.to_owned()))
}

fn entries<T>(directory: &Path, read: impl Fn(&str) -> Option<(String, T)>) -> HashMap<String, T> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .take(ENTRIES)
        .filter_map(|entry| read(entry.file_name().to_str()?))
        .collect()
}

/// What Docker and Kubernetes allow in a name.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A directory that goes with the test.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> std::io::Result<Self> {
            let name = format!("tracer-names-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path)?;
            Ok(Self(path))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn docker_tells_a_name() -> std::io::Result<()> {
        let scratch = Scratch::new("docker")?;
        let name = |config: &str| -> std::io::Result<Option<String>> {
            fs::create_dir_all(scratch.0.join(ID))?;
            fs::write(scratch.0.join(ID).join("config.v2.json"), config)?;
            Ok(docker_name(&scratch.0, ID))
        };
        let config = r#"{"State":{"Pid":7},"ID":"0","Name":"/web","Config":{"Env":["A=B"]}}"#;
        assert_eq!(name(config)?.as_deref(), Some("web"));
        for none in [
            "",
            "{}",
            r#"{"Name":7}"#,
            r#"{"Name":"/\u001b[2J"}"#,
            r#"{"Name":"/"}"#,
        ] {
            assert_eq!(name(none)?, None, "{none}");
        }
        assert_eq!(docker_name(&scratch.0, "../x"), None);
        assert_eq!(docker_name(&scratch.0, "00"), None);
        Ok(())
    }

    #[test]
    fn a_kubelet_tells_names() -> std::io::Result<()> {
        let scratch = Scratch::new("kubelet")?;
        let (containers, pods) = (scratch.0.join("containers"), scratch.0.join("pods"));
        fs::create_dir_all(&containers)?;
        for pod in ["shop_web-7f9-x2x_UID", "no-pod", "_x_y", "\u{9b}_x_y"] {
            fs::create_dir_all(pods.join(pod))?;
        }
        for link in [&format!("web-7f9-x2x_shop_nginx-main-{ID}.log"), "x.log"] {
            std::os::unix::fs::symlink("/nowhere", containers.join(link))?;
        }
        let kubelet = Kubelet::read(&containers, &pods);
        assert_eq!(kubelet.containers.len(), 1);
        assert_eq!(kubelet.containers[ID], "nginx-main");
        assert_eq!(kubelet.pods.len(), 1);
        let (namespace, name) = &kubelet.pods["UID"];
        assert_eq!((namespace.as_str(), name.as_str()), ("shop", "web-7f9-x2x"));
        assert!(
            Kubelet::read(&scratch.0.join("a"), &scratch.0.join("b"))
                .pods
                .is_empty()
        );
        Ok(())
    }
}
