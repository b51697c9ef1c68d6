//! Software from PyPI that a test measures tracer by, in an environment below
//! `target/`.

use crate::place::Place;
use crate::{run, say};
use anyhow::{Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub(super) const PYTHON: &str = "/usr/bin/python3";

/// Files, and the packages that bring them. venv is no program.
const FILES: [(&str, &str); 2] = [
    (PYTHON, "python3"),
    ("/var/lib/dpkg/info/python3-venv.list", "python3-venv"),
];

const VERSION: &str =
    "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))";

/// One package. A newer version is taken by hand: it is a test's measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

impl Package {
    /// Where it is, or will be.
    pub(super) fn home(self, place: &Place) -> PathBuf {
        place.cache.join(format!("{}-{}", self.name, self.version))
    }

    /// Installs it, if it is not there yet.
    pub(super) fn install(self, place: &Place) -> Result<()> {
        run::need_programs(&FILES)?;
        let Self { name, version } = self;
        let (home, python) = (self.home(place), self.home(place).join("bin/python"));
        let installed = || run::capture(Command::new(&python).args(["-c", VERSION, name]));
        if installed().is_ok_and(|installed| installed.trim() == version) {
            return Ok(());
        }
        say::note(&format!("installing {name} {version} with pip"));
        fs::create_dir_all(&place.cache)?;
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        run::capture(Command::new(PYTHON).args(["-m", "venv"]).arg(&home))?;
        run::capture(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"])
                .arg("--disable-pip-version-check")
                .arg(format!("{name}=={version}")),
        )?;
        let found = installed()?;
        ensure!(found.trim() == version, "pip installed {name} {found}");
        Ok(())
    }
}
