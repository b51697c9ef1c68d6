//! Is an event older than what is wanted? Its first bytes tell: in seconds that have
//! to be looked through there may be millions.

use jiff::Timestamp;

/// What tracer writes before the time of an event, and how it writes times: in
/// this form, later ones are greater bytes.
const BEFORE: &[u8] = br#"{"v":1,"type":"event","time":""#;
const FORM: &[u8] = b"0000-00-00T00:00:00.000000Z";

/// Events before a moment.
pub(super) struct Older(String);

impl Older {
    pub(super) fn than(begin: Timestamp) -> Self {
        Self(format!("{begin:.6}"))
    }

    /// Whether the line is surely one of them.
    pub(super) fn has(&self, line: &[u8]) -> bool {
        let rest = line.strip_prefix(BEFORE);
        let time = rest.and_then(|rest| rest.get(..FORM.len()));
        time.is_some_and(|time| has_form(time) && time < self.0.as_bytes())
    }
}

fn has_form(time: &[u8]) -> bool {
    time.iter().zip(FORM).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_older() -> Result<(), jiff::Error> {
        let older = Older::than("2026-03-14T03:00:11.5Z".parse()?);
        let has = |time: &str| {
            older.has(format!("{{\"v\":1,\"type\":\"event\",\"time\":\"{time}\"}}").as_bytes())
        };
        assert!(has("2026-03-14T03:00:11.499999Z") && has("1999-12-31T23:59:59.999999Z"));
        for time in [
            "2026-03-14T03:00:11.500000Z",
            "2026-03-14T03:00:12.000000Z",
            // Left to those who understand them.
            "2026-03-14T03:00:11Z",
            "2026-03-14T03:00:11.00000+01:00",
            "2026-03-14 03:00:11.000000Z",
            "2026-03-14T03:00:11.00000xZ",
            "",
        ] {
            assert!(!has(time), "{time}");
        }
        assert!(!older.has(br#"{"v":1,"type":"end","time":"2026-03-14T03:00:11.000000Z"}"#));
        Ok(())
    }
}
