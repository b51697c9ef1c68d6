//! What is measured now? Asked by a scrape and by whoever sends metrics, at most
//! once a second, and answered by who traces, who waits for neither.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "otlp")]
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    Counted, Question,
    family::Families,
    known::{Hook, Known},
    look::Looker,
    text::{classic, open_metrics},
};

/// An answer serves all who ask within this time.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// How long who traces may take to answer: it may be stuck with a reader of
/// standard output that is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is measured besides, by whoever sends it.
pub(crate) type Besides = Box<dyn Fn(&mut Families) + Send + Sync>;

/// All that was measured at one moment.
#[derive(Debug)]
pub(crate) struct Told {
    #[cfg(feature = "otlp")]
    pub(crate) measured: Measured,
    pub(super) open_metrics: String,
    /// Prometheus's own, older form (version 0.0.4).
    pub(super) classic: String,
}

/// The same before it is text.
#[cfg(feature = "otlp")]
#[derive(Debug)]
pub(crate) struct Measured {
    /// When counting began.
    pub(crate) since: Timestamp,
    pub(crate) time: Timestamp,
    pub(crate) families: Families,
}

/// Where answers come from.
pub(crate) struct Source {
    questions: mpsc::Sender<Question>,
    hooks: Vec<Hook>,
    looker: Looker,
    besides: Option<Besides>,
    last: Option<(Instant, Arc<Told>)>,
}

impl Source {
    pub(super) fn new(
        questions: mpsc::Sender<Question>,
        hooks: Vec<Hook>,
        looker: Looker,
        besides: Option<Besides>,
    ) -> Self {
        Self {
            questions,
            hooks,
            looker,
            besides,
            last: None,
        }
    }

    /// What there is to tell; `None`: who traces does not answer.
    pub(crate) async fn tell(&mut self) -> Option<Arc<Told>> {
        if let Some((at, last)) = &self.last
            && at.elapsed() < FRESH
        {
            return Some(Arc::clone(last));
        }
        let counted = timeout(PATIENCE, self.ask()).await.ok()??;
        self.looker.look().await;
        let told = Arc::new(self.told(counted)?);
        self.last = Some((Instant::now(), Arc::clone(&told)));
        Some(told)
    }

    async fn ask(&self) -> Option<Counted> {
        let (question, answer) = oneshot::channel();
        self.questions.send(Question(question)).await.ok()?;
        answer.await.ok()
    }

    /// What this adds up to, with what was last seen of listeners and ports.
    pub(crate) fn told(&self, counted: Counted) -> Option<Told> {
        #[cfg(feature = "otlp")]
        let (since, time) = (counted.totals.since, counted.totals.time);
        let known = Known {
            counted,
            hooks: self.hooks.clone(),
            queues: self.looker.queues.last.clone(),
            ports: self.looker.ports.last.clone(),
        };
        let mut families = known.families();
        if let Some(besides) = &self.besides {
            besides(&mut families);
        }
        #[cfg(feature = "otlp")]
        let measured = Measured {
            since,
            time,
            families: families.clone(),
        };
        let open_metrics = open_metrics(families).ok()?;
        Some(Told {
            #[cfg(feature = "otlp")]
            measured,
            classic: classic(&open_metrics),
            open_metrics,
        })
    }
}
