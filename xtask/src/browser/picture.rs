//! What is on a screenshot?

use anyhow::{Context as _, Result, ensure};
use std::collections::HashMap;
use std::path::Path;

pub(super) const PROGRAM: &str = "/usr/bin/pngtopnm";

/// Colours, three bytes a pixel.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let output = std::process::Command::new(PROGRAM)
            .arg(file)
            .output()
            .with_context(|| format!("cannot run {PROGRAM}"))?;
        ensure!(output.status.success(), "{} is no PNG", file.display());
        Self::parse(&output.stdout).with_context(|| file.display().to_string())
    }

    /// `P6`, width, height, 255, a blank, the pixels.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut words = bytes.splitn(5, u8::is_ascii_whitespace);
        let mut word = || words.next().context("the head is too short");
        ensure!(word()? == b"P6", "not a picture in colours");
        let mut number = || -> Result<usize> { Ok(std::str::from_utf8(word()?)?.parse()?) };
        let (width, height, highest) = (number()?, number()?, number()?);
        let pixels = word()?.to_vec();
        ensure!(
            highest == 255 && pixels.len() == width * height * 3,
            "{width} x {height} pixels do not fit {} bytes",
            pixels.len()
        );
        Ok(Self { width, pixels })
    }

    fn colours(&self) -> impl Iterator<Item = [u8; 3]> {
        self.pixels
            .chunks_exact(3)
            .filter_map(|pixel| pixel.try_into().ok())
    }

    /// How bright it is on average: 0 is black, 255 white.
    pub(super) fn brightness(&self) -> u64 {
        let sum: u64 = self.pixels.iter().map(|value| u64::from(*value)).sum();
        sum / u64::try_from(self.pixels.len().max(1)).unwrap_or(u64::MAX)
    }

    /// How many colours there are, and how many of 1000 pixels have the most
    /// frequent one.
    pub(super) fn variety(&self) -> (usize, usize) {
        let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
        for colour in self.colours() {
            *counts.entry(colour).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        (counts.len(), most * 3000 / self.pixels.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_measured() -> Result<()> {
        let picture = Picture::parse(b"P6\n2 2\n255\n\0\0\0\0\0\0\0\0\0\xff\xff\xff")?;
        assert_eq!((picture.width, picture.brightness()), (2, 63));
        assert_eq!(picture.variety(), (2, 750));
        for wrong in [&b"P5\n1 1\n255\n\0"[..], b"P6\n1 1\n255\n\0", b"P6\n1"] {
            assert!(Picture::parse(wrong).is_err());
        }
        Ok(())
    }
}
