//! Writes man pages and shell completions, for `cargo xtask dist`: `manual DIRECTORY DATE`.

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [directory, date] = words.as_slice() else {
        bail!("usage: manual DIRECTORY DATE");
    };
    tracer::manual::write(Path::new(directory), date)
}
