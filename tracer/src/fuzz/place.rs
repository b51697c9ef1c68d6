//! What a process's cgroup says, for fuzzing.

use crate::attribute::cgroup;

/// Where a process belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path from the root of the hierarchy.
    pub cgroup: String,
    /// The container's id.
    pub container: Option<String>,
    /// Who runs it.
    pub runtime: Option<String>,
    /// The pod's uid.
    pub pod: Option<String>,
    /// A systemd unit.
    pub unit: Option<String>,
}

/// Reads `/proc/PID/cgroup`; `None`: there is nothing in it.
#[must_use]
pub fn place(text: &[u8]) -> Option<Place> {
    let place = cgroup::parse(text)?;
    let container = place.container.as_ref();
    let runtime = container.and_then(|container| container.runtime.as_deref());
    Some(Place {
        container: container.map(|container| container.id.clone()),
        runtime: runtime.map(str::to_owned),
        pod: place.pod.map(|pod| pod.uid),
        unit: place.unit,
        cgroup: place.cgroup,
    })
}
