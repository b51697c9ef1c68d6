//! Where things are: the checkout, and what `xtask` keeps under `target/`.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// The paths every command starts from.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// Where cargo builds the workspace.
    pub(crate) target: PathBuf,
    /// Downloads and builds of our own, safe to delete.
    pub(crate) cache: PathBuf,
}

/// Makes a new, empty directory.
pub(crate) fn renew(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

impl Place {
    /// Finds the workspace from the current directory upwards, so that a
    /// checkout that was moved after `xtask` was built still works.
    pub(crate) fn find() -> Result<Self> {
        let here = std::env::current_dir().context("cannot tell the current directory")?;
        let root = here
            .ancestors()
            .find(|dir| dir.join("tracer-ebpf/Cargo.toml").is_file())
            .with_context(|| format!("{} is not inside tracer's checkout", here.display()))?;
        Ok(Self::at(root))
    }

    /// The paths of the workspace at `root`.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            target: std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| root.join("target"), PathBuf::from),
            cache: root.join("target/xtask"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that shows the way must not name what is not there.
    #[test]
    fn the_architecture_names_files_that_exist() -> Result<()> {
        let root = Place::find()?.root;
        let page = std::fs::read_to_string(root.join("ARCHITECTURE.md"))?;
        let quoted = page.split('`').skip(1).step_by(2);
        let is_path = |word: &&str| word.ends_with(['/']) || word.ends_with(".rs");
        let parents = [
            "",
            "tracer/src",
            "tracer-ebpf/src",
            "tracer-ebpf/src/hooks",
            "tracer/src/explain",
        ];
        let mut seen = 0;
        for path in quoted.filter(is_path) {
            let exists = parents.iter().any(|dir| root.join(dir).join(path).exists());
            anyhow::ensure!(exists, "there is no {path}");
            seen += 1;
        }
        anyhow::ensure!(seen > 20, "{seen} paths");
        Ok(())
    }
}
