//! Where an OpenTelemetry receiver is: what `--otlp` takes. Pure.

use hyper::{Uri, http::uri::Scheme};

/// The port of OTLP over HTTP.
const PORT: u16 = 4318;

/// The base of all addresses of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name or an address, the latter without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As a request names both.
    pub(super) authority: String,
    /// Begins with a slash, and ends with one.
    base: String,
}

impl Endpoint {
    /// The path for a signal: `logs` or `metrics`.
    pub(super) fn path(&self, signal: &str) -> String {
        format!("{}v1/{signal}", self.base)
    }

    /// The same with everything before it, for people.
    pub(super) fn url(&self, signal: &str) -> String {
        format!("http://{}{}", self.authority, self.path(signal))
    }
}

/// Reads the argument of `--otlp`.
///
/// # Errors
/// It is no http:// address, in one line.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let unlike = || "not like http://127.0.0.1:4318".to_owned();
    let uri: Uri = text.parse().map_err(|_| unlike())?;
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return Err(
            "https is not spoken here: send to a collector on this host \
             (http://127.0.0.1:4318), which sends on with TLS"
                .to_owned(),
        );
    }
    let (Some(authority), true) = (uri.authority(), uri.scheme() == Some(&Scheme::HTTP)) else {
        return Err(unlike());
    };
    if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
        return Err("no user name, query or fragment can be in it".to_owned());
    }
    let named = authority.host();
    let host = named.trim_start_matches('[').trim_end_matches(']');
    let port = match authority.as_str().strip_prefix(named) {
        Some("") => PORT,
        _ => authority.port_u16().ok_or_else(unlike)?,
    };
    if host.is_empty() || port == 0 {
        return Err(unlike());
    }
    Ok(Endpoint {
        host: host.to_owned(),
        port,
        authority: format!("{named}:{port}"),
        base: format!("{}/", uri.path().trim_end_matches('/')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_receivers() {
        for (text, host, url) in [
            (
                "http://127.0.0.1:4318",
                "127.0.0.1",
                "http://127.0.0.1:4318/v1/logs",
            ),
            (
                "http://collector",
                "collector",
                "http://collector:4318/v1/logs",
            ),
            (
                "http://collector:80/otlp/",
                "collector",
                "http://collector:80/otlp/v1/logs",
            ),
            ("HTTP://[::1]", "::1", "http://[::1]:4318/v1/logs"),
        ] {
            let told = endpoint(text).map(|endpoint| (endpoint.host.clone(), endpoint.url("logs")));
            assert_eq!(told, Ok((host.to_owned(), url.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_said_in_one_line() {
        for (text, word) in [
            ("https://collector:4318", "collector on this host"),
            ("http://me:secret@collector", "user name"),
            ("http://collector/?x", "query"),
            ("http://collector/#x", "fragment"),
            ("", "not like"),
            ("4318", "not like"),
            ("collector:4318", "not like"),
            ("/v1/logs", "not like"),
            ("ftp://collector", "not like"),
            ("http://", "not like"),
            ("http://:4318", "not like"),
            ("http://collector:", "not like"),
            ("http://collector:0", "not like"),
            ("http://collector:65536", "not like"),
            ("http://a b", "not like"),
        ] {
            let why = endpoint(text).err().unwrap_or_default();
            assert!(why.contains(word) && !why.contains('\n'), "{text}: {why}");
        }
    }
}
