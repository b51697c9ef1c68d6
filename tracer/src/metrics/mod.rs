//! What tracer counts: with `--metrics` for Prometheus and whatever else reads
//! OpenMetrics, with `--otlp` for whoever takes that.
//!
//! Three threads meet here, and the one that traces waits for none: it keeps a
//! [`tally`] of what it shows, and answers a [`Question`] with a copy of it and
//! with the kernel side's counters. [`serve`] has a thread with a runtime of its
//! own for HTTP; [`look`] has one that looks at listeners and ports when somebody
//! asks a [`source`]. [`known`] makes a list of all of it, [`text`] the text of
//! that list (both pure).

pub(crate) mod family;
mod known;
mod look;
mod serve;
pub(crate) mod source;
mod tally;
mod text;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context, Result};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    output::say,
    record::{Record, Totals},
    startup::Startup,
};
use known::Hook;
use look::Looker;
use source::{Besides, Source};
use tally::Tally;

/// Reads the argument of `--metrics`: an address with a port, or a port of this
/// host alone.
///
/// # Errors
/// It is neither.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| is_number);
    port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| "not like 9435, 127.0.0.1:9435 or [::1]:9435".to_owned())
}

/// An address that is ours; nobody is answered yet.
pub(crate) struct Reserved(TcpListener);

impl Reserved {
    /// # Errors
    /// The address is taken, not of this host, or not permitted.
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound
            .map(Self)
            .with_context(|| format!("metrics cannot be served at {address}"))
    }
}

/// A scrape asks who traces.
pub(crate) struct Question(oneshot::Sender<Counted>);

/// What it answers.
#[derive(Debug)]
pub(crate) struct Counted {
    totals: Totals,
    tally: Tally,
}

/// The side of who traces.
pub(crate) struct Metrics {
    tally: Tally,
    questions: mpsc::Receiver<Question>,
    #[cfg(feature = "otlp")]
    source: Arc<Mutex<Source>>,
}

impl Metrics {
    /// Begins to count, and to answer scrapes if there is an address for them, on
    /// threads of their own.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(
        reserved: Option<Reserved>,
        startup: &Startup,
        besides: Option<Besides>,
    ) -> Result<Self> {
        let (asked, questions) = mpsc::channel(1);
        let hooks = startup.served.iter().map(Hook::of).collect();
        let source = Source::new(asked, hooks, Looker::start()?, besides);
        let source = Arc::new(Mutex::new(source));
        if let Some(Reserved(listener)) = reserved {
            let address = listener.local_addr()?;
            serve::start(listener, Arc::clone(&source))?;
            say(&format!("tracer: metrics: http://{address}/metrics"));
        }
        Ok(Self {
            tally: Tally::default(),
            questions,
            #[cfg(feature = "otlp")]
            source,
        })
    }

    /// Where others ask.
    #[cfg(feature = "otlp")]
    pub(crate) fn source(&self) -> Arc<Mutex<Source>> {
        Arc::clone(&self.source)
    }

    /// Takes what a record adds.
    pub(crate) fn record(&mut self, record: Record<'_>) {
        self.tally.add(record);
    }

    /// The next question; waits for ever if none comes. Safe to cancel.
    pub(crate) async fn question(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }

    /// Answers nobody any more: those who ask now shall not wait for that.
    #[cfg(feature = "otlp")]
    pub(crate) fn close(&mut self) {
        self.questions.close();
        while self.questions.try_recv().is_ok() {}
    }

    /// Answers it, if somebody still waits.
    pub(crate) fn answer(&self, question: Question, totals: Totals) {
        // An error: the scrape was given up.
        let _ = question.0.send(self.counted(totals));
    }

    /// All that was counted.
    pub(crate) fn counted(&self, totals: Totals) -> Counted {
        Counted {
            totals,
            tally: self.tally.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |text| address(text).map(|address| address.to_string()).ok();
        assert_eq!(read("9435").as_deref(), Some("127.0.0.1:9435"));
        for same in ["127.0.0.1:9435", "[::1]:9435", "0.0.0.0:1", "[::]:0"] {
            assert_eq!(read(same).as_deref(), Some(same));
        }
        for bad in [
            "",
            ":9435",
            "+9435",
            "65536",
            "localhost:1",
            "127.0.0.1",
            "::1",
            "1.2.3.4:x",
            " 1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_that_is_taken_is_one_line() -> Result<()> {
        let first = Reserved::new(address("0").map_err(anyhow::Error::msg)?)?;
        let address = first.0.local_addr()?;
        let why = Reserved::new(address).err().map(|why| format!("{why:#}"));
        let why = why.unwrap_or_default();
        assert!(
            why.contains(&address.to_string()) && why.contains("in use") && !why.contains('\n'),
            "{why}"
        );
        Ok(())
    }
}
