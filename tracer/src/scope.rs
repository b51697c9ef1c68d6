//! Lists what tracer does not see on any host: for `--help`, the man page and doctor.

/// Failures that look alike and that tracer does not report, with where to look instead.
pub(crate) const NOT_SEEN: &[(&str, &str)] = &[
    (
        "Ports of NAT: exhausted SNAT ports and a full conntrack table",
        "conntrack -S, nf_conntrack messages in the kernel log",
    ),
    (
        "Packets dropped before TCP: by netfilter, XDP, a qdisc or the network card",
        "nft list ruleset, tc -s qdisc, ip -s link, ethtool -S",
    ),
    (
        "UDP sends and connects that find no port",
        "the errno that the program reports; planned",
    ),
    (
        "Unix sockets: connect() to a listener whose queue is full",
        "ss -xl; planned",
    ),
    (
        "Connections that syncookies saved or refused",
        "nstat: TcpExtSyncookiesSent, TcpExtSyncookiesFailed; planned",
    ),
    (
        "Connections that are reset because a server closes its listener or does not read",
        "nstat: TcpExtTCPAbortOnClose, TcpExtListenDrops; planned",
    ),
];

/// What `--help` and the man page say.
pub(crate) const HELP: &str = "\
What tracer does not see:
  - Ports of NAT: exhausted SNAT ports and a full conntrack table (conntrack -S)
  - Packets dropped before TCP: by netfilter, XDP, a qdisc or the network card
    (nft list ruleset, tc -s qdisc, ip -s link, ethtool -S)
  Not seen yet, planned:
  - UDP sends and connects that find no port
  - Unix sockets: connect() to a listener whose queue is full (ss -xl)
  - Connections that syncookies saved or refused (nstat: TcpExtSyncookies*)
  - Connections that are reset because a server closes its listener or does not
    read (nstat: TcpExtTCPAbortOnClose)
  An idle screen says nothing about these.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_all_of_them() {
        let help: Vec<_> = HELP.split_whitespace().collect();
        let help = help.join(" ");
        for (what, _) in NOT_SEEN {
            assert!(help.contains(what), "{what}");
        }
    }

    #[test]
    fn the_readme_names_all_of_them() {
        let readme = include_str!("../../README.md");
        let readme: Vec<_> = readme.split_whitespace().collect();
        let readme = readme.join(" ");
        for (what, _) in NOT_SEEN {
            assert!(readme.contains(what), "{what}");
        }
    }
}
