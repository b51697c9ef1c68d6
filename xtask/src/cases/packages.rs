//! The software of the cases, from Debian's packages.
//!
//! Some bring a service, which would start now and at every boot. Neither shall
//! happen because of a test: services that were here before stay as they are.

use crate::run;
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// A file, and the package that brings it. Whole paths, because `sbin` is not
/// in every PATH and a python of another make has no Debian modules.
const FILES: [(&str, &str); 11] = [
    ("/usr/bin/ab", "apache2-utils"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/socat", "socat"),
    ("/usr/bin/spawn-fcgi", "spawn-fcgi"),
    ("/usr/bin/ss", "iproute2"),
    ("/usr/bin/tnftp", "tnftp"),
    (
        "/usr/lib/python3/dist-packages/curl/__init__.py",
        "python3-pycurl",
    ),
    (
        "/usr/lib/python3/dist-packages/pyftpdlib/__init__.py",
        "python3-pyftpdlib",
    ),
    ("/usr/sbin/fcgiwrap", "fcgiwrap"),
    ("/usr/sbin/nginx", "nginx-light"),
];

/// Files whose packages bring services, and which.
const SERVICES: [(&str, &[&str]); 2] = [
    (
        "/usr/sbin/fcgiwrap",
        &["fcgiwrap.service", "fcgiwrap.socket"],
    ),
    ("/usr/sbin/nginx", &["nginx.service"]),
];

/// What `xtask prometheus` needs besides.
const PROMETHEUS: [(&str, &str); 3] = [
    ("/usr/bin/prometheus", "prometheus"),
    ("/usr/bin/promtool", "prometheus"),
    ("/var/lib/dpkg/info/python3-yaml.list", "python3-yaml"),
];

const PROMETHEUS_SERVICES: [(&str, &[&str]); 1] =
    [("/usr/bin/prometheus", &["prometheus.service"])];

/// Debian's way to forbid that an installation starts services.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing. Needs root.
pub(super) fn install() -> Result<()> {
    install_quietly(&FILES, &SERVICES)
}

/// The same for `xtask prometheus`.
pub(super) fn install_prometheus() -> Result<()> {
    install_quietly(&PROMETHEUS, &PROMETHEUS_SERVICES)
}

fn install_quietly(files: &[(&str, &str)], services: &[(&str, &[&str])]) -> Result<()> {
    if files.iter().all(|(file, _)| run::exists(file)) {
        return Ok(());
    }
    let new: Vec<&str> = services
        .iter()
        .filter(|(file, _)| !run::exists(file))
        .flat_map(|(_, services)| *services)
        .copied()
        .collect();
    let nothing_starts = NothingStarts::new()?;
    run::need_programs(files)?;
    drop(nothing_starts);
    // Without systemd nobody reads what the packages enabled.
    if new.is_empty() || !run::exists("systemctl") {
        return Ok(());
    }
    run::capture(Command::new("systemctl").arg("disable").args(&new)).map(|_| ())
}

/// While this lives, installations start no services.
struct NothingStarts {
    /// A policy of the machine's own is left alone.
    is_ours: bool,
}

impl NothingStarts {
    fn new() -> Result<Self> {
        let is_ours = !Path::new(POLICY).exists();
        if is_ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").context(POLICY)?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { is_ours })
    }
}

impl Drop for NothingStarts {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
