//! A kernel that was booted in another way than the rest: `BOOTS` in xtask/src/vm.rs.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::case::Skip;
use crate::tracer;
use crate::trust;
use crate::{guest, limits};

/// What the kernel's own command line asks for.
pub(crate) fn as_booted(path: &Path) -> Result<()> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    if has("lockdown=confidentiality") {
        return locked_down(path);
    }
    if has("lockdown=integrity") {
        says(path, "lockdown", "ok", "integrity")?;
        says(path, "security_modules", "ok", "selinux")?;
    } else if has("ipv6.disable=1") {
        let inet6 = std::fs::exists("/proc/net/if_inet6")?;
        ensure!(!inet6, "there is IPv6 nevertheless");
        ensure!(has("lsm="), "{line}");
        let modules = std::fs::read_to_string("/sys/kernel/security/lsm")?;
        let others = ["apparmor", "selinux", "yama"];
        ensure!(
            !others.iter().any(|name| modules.contains(name)),
            "{modules}"
        );
    } else if limits::in_guest() {
        let modules = std::fs::read_to_string("/sys/kernel/security/lsm")?;
        ensure!(modules.contains("apparmor"), "{modules}");
        return says(path, "security_modules", "ok", modules.trim());
    } else {
        return Err(Skip::because("booted as usual"));
    }
    trust::selftest(path)?;
    for verb in ["ports", "listeners"] {
        let output = tracer::verb(path, verb).output()?;
        ensure!(output.status.success(), "{verb}: {output:?}");
    }
    Ok(())
}

/// BPF may not read kernel memory: there is nothing that tracer could do, and it says why.
fn locked_down(path: &Path) -> Result<()> {
    let is_refused = || -> Result<()> {
        let mut command = tracer::command(path);
        let output = command.args(["--duration", "100ms"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        ensure!(code == Some(3) && said.contains("lockdown"), "{output:?}");
        Ok(())
    };
    is_refused()?;
    says(path, "lockdown", "stops", "confidentiality")?;
    // Without the file that tells, what is refused tells it.
    guest::unmount(Path::new("/sys/kernel/security"))?;
    is_refused()
}

/// What doctor says about one thing.
fn says(path: &Path, name: &str, level: &str, words: &str) -> Result<()> {
    let output = tracer::verb(path, "doctor")
        .args(["--format", "json"])
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let mut checks = told["checks"].as_array().into_iter().flatten();
    let check = checks.find(|check| check["name"] == name);
    let fits = check
        .is_some_and(|check| check["level"] == level && check["found"].to_string().contains(words));
    ensure!(fits, "{name}: {check:?} in {told}");
    Ok(())
}
