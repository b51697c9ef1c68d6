//! The kernels that the tests run on: Debian's cloud images, one per series.

use crate::debian::{self, Apt, Listed};
use crate::place::Place;
use crate::{modules, say};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// A matrix of fewer kernels than this proves too little.
pub(crate) const AT_LEAST: usize = 4;

/// The series wanted, and for those that Debian keeps only for a while, the
/// newest of their generation that may stand in.
const SERIES: [Want; 6] = [
    Want::exactly("5.10"),
    Want::exactly("6.1"),
    Want::exactly("6.12"),
    Want::or_newest_of("6.18", 6),
    Want::or_newest_of("7.2", 7),
    // What will break first.
    Want::newest(),
];

/// A kernel that is here, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// `6.18`
    pub(crate) series: String,
    /// `6.18.15-1~bpo13+1`, the package's version.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// Modules, decompressed, in the order in which they load.
    pub(crate) modules: Vec<PathBuf>,
}

/// The kernels that are usable, and a sentence for each that is not.
#[derive(Debug)]
pub(crate) struct Kernels {
    pub(crate) usable: Vec<Kernel>,
    pub(crate) missing: Vec<String>,
}

/// A wish for a kernel.
#[derive(Debug, Clone, Copy)]
struct Want {
    series: Option<&'static str>,
    else_newest_of: Option<u32>,
}

impl Want {
    const fn exactly(series: &'static str) -> Self {
        Self {
            series: Some(series),
            else_newest_of: None,
        }
    }

    const fn or_newest_of(series: &'static str, major: u32) -> Self {
        Self {
            series: Some(series),
            else_newest_of: Some(major),
        }
    }

    const fn newest() -> Self {
        Self {
            series: None,
            else_newest_of: None,
        }
    }
}

/// Downloads and unpacks the kernels whose series is in `only` (all when it is empty).
pub(crate) fn fetch(place: &Place, only: &[String]) -> Result<Kernels> {
    let wanted = match offers(place) {
        Ok(offers) => choose(&offers),
        // Without a network, what is here already must do.
        Err(error) => {
            let kept = kept(place);
            if kept.usable.is_empty() {
                return Err(error);
            }
            say::note(&format!("{error:#}: using the kernels already here"));
            return Ok(limit(kept, only));
        }
    };
    let apt = Apt::open(place)?;
    let mut kernels = Kernels {
        usable: Vec::new(),
        missing: Vec::new(),
    };
    for (series, listed) in wanted {
        if !only.is_empty() && !only.contains(&series) {
            continue;
        }
        let got = listed
            .context("no Debian series has it")
            .and_then(|listed| one(place, &apt, &series, &listed));
        match got {
            Ok(kernel) => kernels.usable.push(kernel),
            Err(error) => kernels.missing.push(format!("{series}: {error:#}")),
        }
    }
    for missing in &kernels.missing {
        say::note(&format!("kernel {missing}"));
    }
    Ok(kernels)
}

/// Every cloud image that some series offers.
fn offers(place: &Place) -> Result<Vec<Listed>> {
    let apt = Apt::open(place)?;
    let names: Vec<String> = apt
        .names("linux-image-")?
        .into_iter()
        .filter(|name| is_cloud_image(name))
        .collect();
    if names.is_empty() {
        bail!("apt lists no kernels");
    }
    apt.versions(&names)
}

/// `linux-image-<release>-cloud-amd64`, signed or not; no debug symbols, no meta packages.
fn is_cloud_image(name: &str) -> bool {
    name.strip_prefix("linux-image-")
        .map(|rest| rest.strip_suffix("-unsigned").unwrap_or(rest))
        .and_then(|rest| rest.strip_suffix("-cloud-amd64"))
        .is_some_and(|release| release.matches('.').count() >= 2)
}

/// For each wish the series it turned out to be and the package, if any.
fn choose(offers: &[Listed]) -> Vec<(String, Option<Listed>)> {
    let newest = |fits: &dyn Fn(&Listed) -> bool| -> Option<Listed> {
        let fitting: Vec<Listed> = offers.iter().filter(|o| fits(o)).cloned().collect();
        let newest = debian::newest(&fitting)?;
        // The signed and the unsigned package have one version and hold the same kernel.
        fitting
            .iter()
            .filter(|offer| offer.version == newest.version)
            .min_by_key(|offer| offer.package.ends_with("-unsigned"))
            .cloned()
    };
    let mut chosen: Vec<(String, Option<Listed>)> = Vec::new();
    for want in SERIES {
        let of = |series: &'static str| {
            newest(&move |offer| debian::version::is_of(&offer.version, series))
        };
        let of_major = |major: u32| {
            newest(&move |offer| {
                debian::version::series(&offer.version).is_some_and(|(m, _)| m == major)
            })
        };
        let listed = match (want.series, want.else_newest_of) {
            (Some(series), major) => of(series).or_else(|| major.and_then(of_major)),
            (None, _) => newest(&|_| true),
        };
        let name = listed
            .as_ref()
            .and_then(|listed| debian::version::series(&listed.version))
            .map(|(major, minor)| format!("{major}.{minor}"))
            .or(want.series.map(str::to_owned))
            .unwrap_or_else(|| "newest".to_owned());
        if !chosen.iter().any(|(series, _)| *series == name) {
            chosen.push((name, listed));
        }
    }
    chosen
}

/// One kernel, unpacked under `target/xtask/kernels/<series>`.
fn one(place: &Place, apt: &Apt, series: &str, listed: &Listed) -> Result<Kernel> {
    let directory = directory(place).join(series);
    if let Some(kernel) = read(&directory, series)
        && kernel.release == listed.version
    {
        return Ok(kernel);
    }
    say::note(&format!(
        "downloading the kernel {} ({})",
        listed.version, listed.package
    ));
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    let unpacked = directory.join("unpacked");
    let mut packages = vec![listed.clone()];
    packages.extend(parts(apt, listed)?);
    let mut debs = Vec::new();
    for package in &packages {
        debs.push(apt.download(package)?);
    }
    // All in one pass: most of the time goes into decompressing the packages.
    let mut members = modules::patterns();
    members.push("*/vmlinuz*".to_owned());
    for deb in &debs {
        debian::unpack(deb, &unpacked, &members)?;
    }
    let image = find(&unpacked, &|name| name.starts_with("vmlinuz"))
        .with_context(|| format!("{} holds no vmlinuz", listed.package))?;
    modules::write(&debs, &unpacked, &directory)?;
    fs::rename(image, directory.join("vmlinuz"))?;
    fs::remove_dir_all(&unpacked)?;
    for deb in debs {
        fs::remove_file(deb)?;
    }
    // Last, so that an interrupted run leaves nothing that looks whole.
    fs::write(directory.join("release"), &listed.version)?;
    read(&directory, series).context("the unpacked kernel cannot be read back")
}

/// Since 7.x the image package is an empty one that needs the real ones.
fn parts(apt: &Apt, image: &Listed) -> Result<Vec<Listed>> {
    let mut parts = Vec::new();
    for alternatives in apt.depends(image)? {
        let is_part = |name: &&String| {
            name.starts_with("linux-binary-") || name.starts_with("linux-modules-")
        };
        if let Some(name) = alternatives.iter().find(is_part) {
            parts.push(Listed {
                package: name.clone(),
                version: image.version.clone(),
            });
        }
    }
    Ok(parts)
}

/// The kernels unpacked earlier.
fn kept(place: &Place) -> Kernels {
    let mut usable: Vec<Kernel> = fs::read_dir(directory(place))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            read(&path, path.file_name()?.to_str()?)
        })
        .collect();
    usable.sort_by(|a, b| debian::version::compare(&a.release, &b.release));
    Kernels {
        usable,
        missing: Vec::new(),
    }
}

fn limit(mut kernels: Kernels, only: &[String]) -> Kernels {
    kernels
        .usable
        .retain(|kernel| only.is_empty() || only.contains(&kernel.series));
    kernels
}

fn directory(place: &Place) -> PathBuf {
    place.cache.join("kernels")
}

/// What `one` left in `directory`, if it finished.
fn read(directory: &Path, series: &str) -> Option<Kernel> {
    let release = fs::read_to_string(directory.join("release")).ok()?;
    let order = fs::read_to_string(directory.join(modules::ORDER)).ok()?;
    Some(Kernel {
        series: series.to_owned(),
        release,
        image: directory.join("vmlinuz"),
        modules: order.lines().map(|name| directory.join(name)).collect(),
    })
}

/// The first file below `directory` whose name fits.
pub(crate) fn find(directory: &Path, fits: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()? {
        let entry = entry.ok()?;
        let path = entry.path();
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            if let Some(found) = find(&path, fits) {
                return Some(found);
            }
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(fits) {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(package: &str, version: &str) -> Listed {
        Listed {
            package: package.to_owned(),
            version: version.to_owned(),
        }
    }

    #[test]
    fn images_are_told_from_their_relatives() {
        assert!(is_cloud_image("linux-image-5.10.0-46-cloud-amd64"));
        assert!(is_cloud_image("linux-image-7.2.6+deb13-cloud-amd64"));
        assert!(is_cloud_image("linux-image-6.1.0-47-cloud-amd64-unsigned"));
        assert!(!is_cloud_image("linux-image-6.12-cloud-amd64"));
        assert!(!is_cloud_image("linux-image-cloud-amd64"));
        assert!(!is_cloud_image("linux-image-6.1.0-47-cloud-amd64-dbg"));
        assert!(!is_cloud_image("linux-image-6.1.0-47-amd64"));
    }

    #[test]
    fn the_newest_of_each_series_is_chosen() {
        let offers = [
            offer("a-unsigned", "5.10.262-1"),
            offer("a", "5.10.262-1"),
            offer("b", "5.10.223-1"),
            offer("c", "6.12.117-1~deb12u1"),
            offer("d", "6.12.117-1"),
            offer("e", "6.19.14-1~bpo13+1"),
            offer("f", "7.2.13-1"),
            offer("g", "7.3.4-1~bpo13+1"),
        ];
        let chosen: Vec<(String, Option<String>)> = choose(&offers)
            .into_iter()
            .map(|(series, listed)| (series, listed.map(|l| l.package)))
            .collect();
        let expected = [
            ("5.10", Some("a")),
            ("6.1", None),
            ("6.12", Some("d")),
            ("6.19", Some("e")),
            ("7.2", Some("f")),
            ("7.3", Some("g")),
        ];
        let expected: Vec<(String, Option<String>)> = expected
            .into_iter()
            .map(|(series, package)| (series.to_owned(), package.map(str::to_owned)))
            .collect();
        assert_eq!(chosen, expected);
    }
}
