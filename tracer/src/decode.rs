//! Bytes → event. Total: any bytes give an event or a counted error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tracer_common::{Cause, Event, Family, Hook, Kind, Task};
use zerocopy::FromBytes;

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not the size of an [`Event`].
    Size,
    /// A kind, cause, hook or family that this version does not know.
    Tag,
}

/// An event with its tags resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    pub(crate) hook: Hook,
    pub(crate) family: Family,
    /// Local address and port, if the family is known.
    pub(crate) local: Option<SocketAddr>,
    /// Remote address and port; none for `bind` and `listen`.
    pub(crate) remote: Option<SocketAddr>,
    /// Everything else as it came.
    pub(crate) raw: Event,
}

/// Decodes one record of the ring buffer.
///
/// # Errors
/// See [`Malformed`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, Malformed> {
    let raw = Event::read_from_bytes(bytes).map_err(|_| Malformed::Size)?;
    let kind = Kind::from_u8(raw.kind).ok_or(Malformed::Tag)?;
    let cause = Cause::from_u8(raw.cause).ok_or(Malformed::Tag)?;
    let hook = Hook::from_u8(raw.hook).ok_or(Malformed::Tag)?;
    let family = Family::from_u8(raw.family).ok_or(Malformed::Tag)?;
    let has_remote = !matches!(kind, Kind::BindFailed | Kind::ListenFailed);
    Ok(Decoded {
        kind,
        cause,
        hook,
        family,
        local: address(family, raw.local, raw.local_port),
        remote: address(family, raw.remote, raw.remote_port).filter(|_| has_remote),
        raw,
    })
}

fn address(family: Family, bytes: [u8; 16], port: u16) -> Option<SocketAddr> {
    let ip = match family {
        Family::None => return None,
        Family::V4 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    Some(SocketAddr::new(ip, port))
}

/// The name in a [`Task`]: up to the first NUL, any bytes.
pub(crate) fn comm(task: &Task) -> &[u8] {
    let end = task
        .comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(task.comm.len());
    &task.comm[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros, IntoBytes};

    fn valid() -> Event {
        let mut event = Event::new_zeroed();
        event.kind = Kind::ConnectFailed as u8;
        event.cause = Cause::PortsExhausted as u8;
        event.hook = Hook::FexitInetHashConnect as u8;
        event.family = Family::V4 as u8;
        event.local = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        event.remote = [127, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        event.remote_port = 80;
        event
    }

    #[test]
    fn decodes_addresses() {
        let event = decode(valid().as_bytes()).map(|d| (d.local, d.remote));
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let remote = SocketAddr::from(([127, 0, 0, 2], 80));
        assert_eq!(event, Ok((Some(local), Some(remote))));
    }

    #[test]
    fn every_length_is_an_event_or_an_error() {
        let bytes = valid().as_bytes().repeat(2);
        for length in 0..bytes.len() {
            let decoded = decode(&bytes[..length]);
            assert_eq!(
                decoded.is_ok(),
                length == size_of::<Event>(),
                "length {length}"
            );
        }
    }

    #[test]
    fn every_byte_value_of_every_byte_is_decoded_or_refused() {
        let valid = valid();
        for position in 0..size_of::<Event>() {
            for value in 0..=255 {
                let mut bytes = valid.as_bytes().to_vec();
                bytes[position] = value;
                // Any answer will do, as long as there is one.
                let _ = decode(&bytes);
            }
        }
    }

    #[test]
    fn unknown_tags_are_refused() {
        for change in [
            |event: &mut Event| event.kind = 99,
            |event: &mut Event| event.cause = 0,
            |event: &mut Event| event.hook = 255,
            |event: &mut Event| event.family = 5,
        ] {
            let mut event = valid();
            change(&mut event);
            assert_eq!(decode(event.as_bytes()), Err(Malformed::Tag));
        }
    }

    #[test]
    fn comm_ends_at_nul_or_at_its_size() {
        let mut task = Task::default();
        assert_eq!(comm(&task), b"");
        task.comm = *b"sixteen-bytes-ab";
        assert_eq!(comm(&task), b"sixteen-bytes-ab");
        task.comm = *b"a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(comm(&task), b"a");
    }
}
