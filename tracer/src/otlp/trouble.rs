//! When is the person at the terminal told? When a signal does not arrive, and when
//! it does again: once each.

use crate::output::say;

/// Whether one signal arrives.
pub(super) struct Trouble {
    /// What is sent, and where to.
    what: String,
    is_told: bool,
}

impl Trouble {
    pub(super) fn new(what: &str, url: &str) -> Self {
        Self {
            what: format!("{what} to {url}"),
            is_told: false,
        }
    }

    /// `then`: what becomes of it.
    pub(super) fn failed(&mut self, why: &str, then: &str) {
        if let Some(line) = self.failure(why, then) {
            say(&line);
        }
    }

    pub(super) fn works(&mut self) {
        if let Some(line) = self.recovery() {
            say(&line);
        }
    }

    fn failure(&mut self, why: &str, then: &str) -> Option<String> {
        let is_news = !std::mem::replace(&mut self.is_told, true);
        is_news.then(|| format!("tracer: OTLP: no {}: {why}; {then}", self.what))
    }

    fn recovery(&mut self) -> Option<String> {
        let is_news = std::mem::replace(&mut self.is_told, false);
        is_news.then(|| format!("tracer: OTLP: {} again", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_each() {
        let mut trouble = Trouble::new("logs", "http://x/v1/logs");
        assert_eq!(trouble.recovery(), None);
        assert_eq!(
            trouble.failure("refused", "they wait").as_deref(),
            Some("tracer: OTLP: no logs to http://x/v1/logs: refused; they wait")
        );
        assert_eq!(trouble.failure("refused", "they wait"), None);
        assert_eq!(
            trouble.recovery().as_deref(),
            Some("tracer: OTLP: logs to http://x/v1/logs again")
        );
        assert_eq!(trouble.recovery(), None);
        assert!(trouble.failure("reset", "they wait").is_some());
    }
}
