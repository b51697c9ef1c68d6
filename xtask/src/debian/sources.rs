//! Where this machine already gets its Debian packages from.
//!
//! No mirror is named in the sources of `xtask`: whatever the machine's owner
//! configured (a mirror, a cache, a proxy) serves the other series as well.

/// One suite of one archive, as apt's configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) uri: String,
    pub(crate) suite: String,
    pub(crate) components: Vec<String>,
}

/// Reads a file of one-line entries (`*.list`).
pub(crate) fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

/// Reads a file of stanzas (`*.sources`).
pub(crate) fn parse_stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

/// The archive that holds the running series, and the one with its security updates.
pub(crate) fn archives(sources: &[Source], codename: &str) -> (Option<String>, Option<String>) {
    let main = |source: &&Source| source.components.iter().any(|c| c == "main");
    let of = |suite: &str| {
        sources
            .iter()
            .filter(main)
            .find(|source| source.suite == suite)
            .map(|source| source.uri.clone())
    };
    let archive = of(codename).or_else(|| {
        // A machine may follow a role instead of a name.
        ["stable", "testing", "unstable", "sid"]
            .into_iter()
            .find_map(of)
    });
    let security = sources
        .iter()
        .filter(main)
        .find(|source| source.suite.ends_with("-security"))
        .map(|source| source.uri.clone());
    (archive, security)
}

/// `deb [options] uri suite component…`
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest
        .strip_prefix([' ', '\t'])
        .map(str::trim_start)
        .or_else(|| rest.starts_with('[').then_some(rest))?;
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    Some(Source {
        uri: words.next()?.to_owned(),
        suite: words.next()?.to_owned(),
        components: words.map(str::to_owned).collect(),
    })
}

fn stanza(fields: &[(String, String)]) -> Vec<Source> {
    let words = |name: &str| {
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.split_whitespace().map(str::to_owned))
            .into_iter()
            .flatten()
            .collect::<Vec<String>>()
    };
    let disabled = words("enabled")
        .first()
        .is_some_and(|word| word.eq_ignore_ascii_case("no"));
    if disabled || !words("types").iter().any(|word| word == "deb") {
        return Vec::new();
    }
    let mut sources = Vec::new();
    for uri in words("uris") {
        for suite in words("suites") {
            sources.push(Source {
                uri: uri.clone(),
                suite,
                components: words("components"),
            });
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suite: &str, components: &[&str]) -> Source {
        Source {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
            components: components.iter().map(|c| (*c).to_owned()).collect(),
        }
    }

    #[test]
    fn lines() {
        let text = "# comment\n\
            deb [arch=amd64 signed-by=/k.gpg] mirror:/a bookworm main contrib # tail\n\
            deb-src mirror:/a bookworm main\n\
            deb mirror:/s bookworm-security main\n\
            debris\n";
        assert_eq!(
            parse_list(text),
            [
                source("mirror:/a", "bookworm", &["main", "contrib"]),
                source("mirror:/s", "bookworm-security", &["main"]),
            ]
        );
    }

    #[test]
    fn stanzas() {
        let text = "Types: deb deb-src\n# comment\nURIs: mirror:/a\n\
            Suites: bookworm\n bookworm-updates\nComponents: main\n\n\n\
            Types: deb\nEnabled: no\nURIs: mirror:/off\nSuites: bookworm\nComponents: main\n\n\
            Types: deb-src\nURIs: mirror:/src\nSuites: bookworm\nComponents: main";
        assert_eq!(
            parse_stanzas(text),
            [
                source("mirror:/a", "bookworm", &["main"]),
                source("mirror:/a", "bookworm-updates", &["main"]),
            ]
        );
    }

    #[test]
    fn the_archive_is_the_one_of_the_running_series() {
        let sources = [
            source("mirror:/other", "cloud-bookworm", &["main"]),
            source("mirror:/x", "bookworm", &["stuff"]),
            source("mirror:/a", "bookworm", &["main"]),
            source("mirror:/s", "bookworm-security", &["main"]),
        ];
        let (archive, security) = archives(&sources, "bookworm");
        assert_eq!(archive.as_deref(), Some("mirror:/a"));
        assert_eq!(security.as_deref(), Some("mirror:/s"));
    }

    #[test]
    fn a_machine_may_follow_a_role() {
        let sources = [source("mirror:/a", "testing", &["main"])];
        assert_eq!(
            archives(&sources, "forky"),
            (Some("mirror:/a".to_owned()), None)
        );
    }
}
