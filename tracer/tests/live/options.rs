//! The command line of the live tests.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::cli;

/// Every tier, in the order in which they run.
pub(crate) const TIERS: [&str; 4] = ["auto", "function", "kprobe", "portable"];

/// What to run.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) tracer: PathBuf,
    pub(crate) tiers: Vec<String>,
    pub(crate) filter: String,
    pub(crate) list: bool,
    pub(crate) oracle_only: bool,
    /// Of the tests of commands, only those in which a kernel has a part.
    pub(crate) of_kernel: bool,
    /// And fewer of those; see [`Options::in_tier`].
    pub(crate) brief: bool,
}

impl Options {
    /// Reads them; `in_guest` changes where tracer is.
    pub(crate) fn parse(words: impl Iterator<Item = String>, in_guest: bool) -> Result<Self> {
        let mut options = Self {
            tracer: default_tracer(in_guest),
            ..Self::default()
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--tracer" => options.tracer = value()?.into(),
                "--tier" => options.tiers.push(value()?),
                "--filter" => options.filter = value()?,
                "--list" => options.list = true,
                "--oracle-only" => options.oracle_only = true,
                "--of-kernel" => options.of_kernel = true,
                "--brief" => options.brief = true,
                _ => bail!("no such argument: {word}"),
            }
        }
        if let Some(tier) = options
            .tiers
            .iter()
            .find(|tier| !TIERS.contains(&tier.as_str()))
        {
            bail!("no such tier: {tier}");
        }
        if options.tiers.is_empty() {
            options.tiers = TIERS.map(str::to_owned).to_vec();
        }
        if options.oracle_only {
            options.tiers = vec!["oracle".to_owned()];
        }
        Ok(options)
    }

    /// Whether a scenario is wanted in this tier. What a census says does not
    /// depend on the hook that asked for it: in brief, the best tier and the one
    /// that needs no function hook stand for all.
    pub(crate) fn in_tier(&self, name: &str, tier: &str) -> bool {
        let any_tier = name.starts_with("census/") || name.starts_with("finding/");
        !(self.brief && any_tier && ["function", "kprobe"].contains(&tier))
    }

    /// Whether a test of commands is wanted of this kernel.
    pub(crate) fn of_kernel(&self, name: &str) -> bool {
        if !self.of_kernel && !self.brief {
            return true;
        }
        let is_fault = name.starts_with("cli/fault-");
        cli::kernel_has_a_part(name) || (is_fault && !self.brief)
    }

    /// True when a scenario of this name is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }
}

fn default_tracer(in_guest: bool) -> PathBuf {
    if in_guest {
        return "/tracer".into();
    }
    std::env::var_os("TRACER_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_tracer").into(), PathBuf::from)
}
