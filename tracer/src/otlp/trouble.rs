//! When is the person at the terminal told? When a signal does not arrive, and when
//! it does again: once each.

use crate::output::say;

/// Whether one signal arrives.
pub(super) struct Trouble {
    /// What is sent, and where to.
    what: String,
    /// What becomes of it meanwhile.
    meanwhile: &'static str,
    is_told: bool,
}

impl Trouble {
    pub(super) fn new(what: &str, url: &str, meanwhile: &'static str) -> Self {
        Self {
            what: format!("{what} to {url}"),
            meanwhile,
            is_told: false,
        }
    }

    pub(super) fn failed(&mut self, why: &str) {
        if let Some(line) = self.failure(why) {
            say(&line);
        }
    }

    pub(super) fn works(&mut self) {
        if let Some(line) = self.recovery() {
            say(&line);
        }
    }

    fn failure(&mut self, why: &str) -> Option<String> {
        let is_news = !std::mem::replace(&mut self.is_told, true);
        let Self {
            what, meanwhile, ..
        } = self;
        is_news.then(|| format!("tracer: OTLP: no {what}: {why}; {meanwhile}"))
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
        let mut trouble = Trouble::new("logs", "http://x/v1/logs", "they wait");
        assert_eq!(trouble.recovery(), None);
        assert_eq!(
            trouble.failure("refused").as_deref(),
            Some("tracer: OTLP: no logs to http://x/v1/logs: refused; they wait")
        );
        assert_eq!(trouble.failure("refused"), None);
        assert_eq!(
            trouble.recovery().as_deref(),
            Some("tracer: OTLP: logs to http://x/v1/logs again")
        );
        assert_eq!(trouble.recovery(), None);
        assert!(trouble.failure("reset").is_some());
    }
}
