//! The kernel modules that the live tests need, in the order in which they load.

use crate::{elf, kernels, run, say};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The file that lists a kernel's modules in load order.
pub(crate) const ORDER: &str = "modules.order";

/// Packets from nowhere, namespaces, and sock_diag for the census; that of UDP is
/// left out, so that what replaces it is tested.
const WANTED: [&str; 6] = [
    "tun",
    "veth",
    "dummy",
    "inet_diag",
    "tcp_diag",
    "mptcp_diag",
];

/// A module without which other modules are useless, or `None` of a built-in one.
type Found = BTreeMap<String, Option<Module>>;

/// A module, decompressed.
struct Module {
    contents: Vec<u8>,
    needs: Vec<String>,
}

/// The files that `write` looks for first, as patterns for the members of a package.
pub(crate) fn patterns() -> Vec<String> {
    let mut patterns = files_of(&WANTED);
    patterns.push("*/modules.builtin".to_owned());
    patterns
}

/// Writes the modules found in `scratch`, decompressed, and their order into
/// `directory`; takes what they need besides from the packages.
pub(crate) fn write(debs: &[PathBuf], scratch: &Path, directory: &Path) -> Result<()> {
    let mut found = Found::new();
    let mut wanted: Vec<String> = WANTED.map(str::to_owned).to_vec();
    loop {
        take(scratch, &wanted, &mut found)?;
        wanted = found
            .values()
            .flatten()
            .flat_map(|module| module.needs.clone())
            .filter(|name| !found.contains_key(name))
            .collect();
        if wanted.is_empty() {
            break;
        }
        for deb in debs {
            crate::debian::unpack(deb, scratch, &files_of(&wanted))?;
        }
    }
    let order = load_order(&found);
    for name in &order {
        if let Some(Some(module)) = found.get(name) {
            fs::write(directory.join(file_name(name)), &module.contents)?;
        }
    }
    let lines: Vec<String> = order.iter().map(|name| file_name(name)).collect();
    fs::write(directory.join(ORDER), lines.join("\n"))?;
    Ok(())
}

/// The name of a module's file in the initramfs.
fn file_name(module: &str) -> String {
    format!("{module}.ko")
}

/// The file's name may have `-` where the module's name has `_`.
fn files_of(modules: &[impl AsRef<str>]) -> Vec<String> {
    modules
        .iter()
        .map(|name| format!("*/{}.ko*", name.as_ref().replace('_', "[-_]")))
        .collect()
}

fn take(scratch: &Path, wanted: &[String], found: &mut Found) -> Result<()> {
    let builtin = kernels::find(scratch, &|name| name == "modules.builtin")
        .and_then(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    for name in wanted {
        let file = kernels::find(scratch, &|file| {
            file.split_once(".ko")
                .is_some_and(|(stem, _)| stem.replace('-', "_") == *name)
        });
        let module = match file {
            Some(file) => Some(read(&file)?),
            None => {
                if !is_builtin(&builtin, name) {
                    say::note(&format!("this kernel has no module {name}"));
                }
                None
            }
        };
        found.insert(name.clone(), module);
    }
    Ok(())
}

fn is_builtin(list: &str, name: &str) -> bool {
    list.lines().any(|line| {
        let file = line.rsplit('/').next().unwrap_or_default();
        file.strip_suffix(".ko")
            .is_some_and(|stem| stem.replace('-', "_") == name)
    })
}

fn read(file: &Path) -> Result<Module> {
    let tool = match file.extension().and_then(OsStr::to_str) {
        Some("ko") => None,
        Some("xz") => Some(("xz", "xz-utils")),
        Some("zst") => Some(("zstd", "zstd")),
        Some("gz") => Some(("gzip", "gzip")),
        _ => bail!("{} is compressed in an unknown way", file.display()),
    };
    let contents = match tool {
        None => fs::read(file)?,
        Some(tool) => {
            run::need_programs(&[tool])?;
            run::filter(tool.0, file)?.stdout
        }
    };
    let Some(needs) = needs(&contents) else {
        bail!("{} is not a kernel module", file.display());
    };
    Ok(Module { contents, needs })
}

/// What a module says it depends on.
fn needs(module: &[u8]) -> Option<Vec<String>> {
    let info = elf::section(module, ".modinfo")?;
    let line = info
        .split(|byte| *byte == 0)
        .find_map(|line| line.strip_prefix(b"depends="))
        .unwrap_or_default();
    Some(
        String::from_utf8_lossy(line)
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect(),
    )
}

/// Every module after those it needs.
fn load_order(found: &Found) -> Vec<String> {
    fn visit(name: &str, found: &Found, order: &mut Vec<String>, seen: &mut Vec<String>) {
        if seen.iter().any(|one| one == name) {
            return;
        }
        seen.push(name.to_owned());
        if let Some(Some(module)) = found.get(name) {
            for needed in &module.needs {
                visit(needed, found, order, seen);
            }
            order.push(name.to_owned());
        }
    }
    let (mut order, mut seen) = (Vec::new(), Vec::new());
    for name in found.keys() {
        visit(name, found, &mut order, &mut seen);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(needs: &[&str]) -> Option<Module> {
        Some(Module {
            contents: Vec::new(),
            needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    #[test]
    fn what_is_needed_loads_first() {
        let found = Found::from([
            ("a".to_owned(), module(&["c"])),
            ("b".to_owned(), None),
            ("c".to_owned(), module(&["b", "d"])),
            ("d".to_owned(), module(&[])),
        ]);
        assert_eq!(load_order(&found), ["d", "c", "a"]);
    }

    #[test]
    fn built_in_modules_are_known() {
        let list = "kernel/net/ipv4/tcp_diag.ko\nkernel/net/some-thing.ko\n";
        assert!(is_builtin(list, "tcp_diag"));
        assert!(is_builtin(list, "some_thing"));
        assert!(!is_builtin(list, "diag"));
    }

    #[test]
    fn rubbish_is_not_a_module() {
        assert!(needs(b"rubbish").is_none());
    }
}
