//! `xtask btf`: the type information of real kernels, for the tests of the plan.

use crate::elf::{self, number};
use crate::kernels::Kernel;
use crate::place::Place;
use crate::{run, say};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;

/// Writes `target/btf/<series>.btf` for every kernel.
pub(crate) fn extract(place: &Place, kernels: &[Kernel]) -> Result<()> {
    let directory = place.root.join("target/btf");
    fs::create_dir_all(&directory)?;
    for kernel in kernels {
        let path = directory.join(format!("{}.btf", kernel.series));
        // The series stays and its newest kernel changes: say which one it was.
        let origin = directory.join(format!("{}.release", kernel.series));
        if path.is_file() && fs::read_to_string(&origin).is_ok_and(|o| o == kernel.release) {
            continue;
        }
        let btf = of_image(&kernel.image, &place.cache.join("payload"))
            .with_context(|| format!("no BTF from the kernel {}", kernel.release))?;
        fs::write(&path, &btf)?;
        fs::write(&origin, &kernel.release)?;
        say::note(&format!(
            "target/btf/{}.btf from {}: {} bytes",
            kernel.series,
            kernel.release,
            btf.len()
        ));
    }
    Ok(())
}

/// The BTF inside a bootable kernel image; `scratch` is a file that may be overwritten.
fn of_image(image: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let image = fs::read(image)?;
    let payload = payload(&image).context("this is not an x86 kernel image")?;
    let tool = tool(payload).context("the image is compressed in an unknown way")?;
    run::need_programs(&[tool])?;
    fs::write(scratch, payload)?;
    // The exit code says nothing: some tools dislike the size the kernel's build appends.
    let vmlinux = run::filter(tool.0, scratch)?.stdout;
    fs::remove_file(scratch)?;
    match elf::section(&vmlinux, ".BTF") {
        Some(btf) if !btf.is_empty() => Ok(btf.to_vec()),
        _ => bail!("the kernel inside has no section .BTF"),
    }
}

/// The compressed kernel inside a bzImage, by the fields of its setup header
/// (Documentation/arch/x86/boot.rst).
fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(0x202..0x206)? != b"HdrS" && image.get(0x202..0x206)? != b"SrdH" {
        return None;
    }
    let setup_sectors = match number(image, 0x1f1, 1)? {
        0 => 4,
        sectors => sectors,
    };
    let start = (setup_sectors + 1) * 512 + number(image, 0x248, 4)?;
    image.get(start..start.checked_add(number(image, 0x24c, 4)?)?)
}

/// The program that decompresses it, and the Debian package that brings the program.
fn tool(payload: &[u8]) -> Option<(&'static str, &'static str)> {
    let magics: [(&[u8], &str, &str); 4] = [
        (b"\xfd7zXZ\0", "xz", "xz-utils"),
        (b"\x28\xb5\x2f\xfd", "zstd", "zstd"),
        (b"\x1f\x8b", "gzip", "gzip"),
        (b"\x02\x21\x4c\x18", "lz4", "lz4"),
    ];
    magics
        .into_iter()
        .find(|(magic, _, _)| payload.starts_with(magic))
        .map(|(_, program, package)| (program, package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_where_the_setup_header_says() {
        let mut image = vec![0_u8; 0x250];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 3;
        image[0x24c] = 4;
        image.resize(1024 + 3, 0);
        image.extend_from_slice(b"\x1f\x8b\x08\x00rest");
        let payload = payload(&image);
        assert_eq!(payload, Some(b"\x1f\x8b\x08\x00".as_slice()));
        assert_eq!(tool(payload.unwrap_or_default()), Some(("gzip", "gzip")));
        assert_eq!(tool(b"????"), None);
    }
}
